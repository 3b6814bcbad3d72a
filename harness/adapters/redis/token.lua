-- Keeps one token; all are forgotten when the last of them has expired.
-- KEYS[1]  tokens: hash: id -> JSON of the token; expires with the last of its tokens
-- ARGV[1]  id   [2] the token   [3] how long it is good for, milliseconds
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2])
if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[3]) then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
