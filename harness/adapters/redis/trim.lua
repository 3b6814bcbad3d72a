-- Drops the records of one partition up to a position, and notes the last one dropped, so that a reader behind it knows.
-- The trim comes first: a server without memory refuses a script that begins with the note, and trimming is what frees memory.
-- KEYS[1]  the partition's stream; never expires
-- KEYS[2]  shadow:trimmed: stream -> ID of the last record dropped; never expires
-- ARGV[1]  the ID up to which records go      ARGV[2]  the ID after it: the first that may stay
local last = redis.call('XREVRANGE', KEYS[1], ARGV[1], '-', 'COUNT', 1)[1]
if not last then
  return 0
end
local n_dropped = redis.call('XTRIM', KEYS[1], 'MINID', '=', ARGV[2])
redis.call('HSET', KEYS[2], KEYS[1], last[1])
return n_dropped
