-- Replaces one value if it still is what it was when it was read.
-- KEYS[1]  src:<source>: how far the router read a source, or seat: who of several challengers may serve;
--          expires `keep` after the last write
-- ARGV[1]  expected value ('' for none)   [2] new value   [3] keep, milliseconds
-- Returns 1, or 0 when the stored value is another.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
return 1
