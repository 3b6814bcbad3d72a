-- Records of several partitions after given IDs, and what a gap before them is known by, at one moment.
-- A script and no MULTI: a server without memory takes no MULTI, and readers must go on then, or nothing would ever be trimmed.
-- KEYS     the partitions' streams, then shadow:trimmed: stream -> ID of the last record that trim.lua dropped; none expires
-- ARGV[1]  how many records of each      then the ID of each stream after which to read
-- Returns {stream, ID last trimmed or '', whether the record at the ID is there, records} of each stream that has some.
local trimmed = table.remove(KEYS)
local found = {}
for i = 1, #KEYS do
  local after = ARGV[i + 1]
  local records = redis.call('XREAD', 'COUNT', ARGV[1], 'STREAMS', KEYS[i], after)
  if records then
    local here = #redis.call('XRANGE', KEYS[i], after, after)
    found[#found + 1] = {KEYS[i], redis.call('HGET', trimmed, KEYS[i]) or '', here, records[1][2]}
  end
end
return found
