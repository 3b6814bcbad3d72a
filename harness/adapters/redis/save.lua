-- Replaces the folded statistics of a rollout if they still have the version that was read.
-- KEYS[1]  ledger: hash: version (a number), folded (the encoded statistics); expires `keep` after the last save
-- ARGV[1]  expected version (0 for none)   [2] new version   [3] folded   [4] keep, milliseconds
-- Returns 1, or 0 when the stored version is another.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'folded', ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
