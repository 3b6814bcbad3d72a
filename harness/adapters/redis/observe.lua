-- Adds the new observations of one source and its position, or nothing.
-- KEYS[1]  state: of the source, as it was encoded; expires `keep` after it was last written
-- KEYS[2]  rows: list of chunks, each the packed rows of one append; expires with the state
-- KEYS[3]  prefix of the keys that were seen: one string a key, empty; each expires `dedup` after it came
-- KEYS[4]  sources: set of the sources that have rows; expires `keep` after one was last written
-- ARGV[1]  expected state, empty for none   [2] new state   [3] keep, milliseconds   [4] dedup, milliseconds   [5] bytes of a key
--     [6]  keys, one after the other   [7] bytes of a row   [8] rows, one after the other   [9] name of the source
-- Returns 1, or 0 when the stored state is another.
if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then
  return 0
end
local key_size, row_size = tonumber(ARGV[5]), tonumber(ARGV[7])
local chunk = {}
for i = 0, #ARGV[6] / key_size - 1 do
  local key = KEYS[3] .. string.sub(ARGV[6], i * key_size + 1, (i + 1) * key_size)
  if redis.call('SET', key, '', 'NX', 'PX', ARGV[4]) then
    chunk[#chunk + 1] = string.sub(ARGV[8], i * row_size + 1, (i + 1) * row_size)
  end
end
if #chunk > 0 then
  redis.call('RPUSH', KEYS[2], table.concat(chunk))
  redis.call('SADD', KEYS[4], ARGV[9])
end
redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[3])
redis.call('PEXPIRE', KEYS[4], ARGV[3])
return 1
