-- Replaces the verdict of a rollout if it still is the one that was read.
-- KEYS[1]  verdict: hash: verdict (JSON), looked (microseconds), version (a number); expires `keep` after the last verdict
-- ARGV[1]  expected version (0 for none)   [2] new version   [3] verdict   [4] looked   [5] keep, milliseconds
-- Returns 1, or 0 when the stored version is another.
if (redis.call('HGET', KEYS[1], 'version') or '0') ~= ARGV[1] then
  return 0
end
redis.call('HSET', KEYS[1], 'version', ARGV[2], 'verdict', ARGV[3], 'looked', ARGV[4])
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
