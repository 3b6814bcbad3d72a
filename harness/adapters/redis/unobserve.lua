-- Replaces one chunk of the observations of a source, or nothing.
-- KEYS[1]  rows: list of chunks, each the packed rows of one append; does not live longer for it
-- ARGV[1]  place of the chunk   [2] the chunk as it was read   [3] what is left of it, may be empty
-- Returns 1, or 0 when the chunk is another; 1 too when it has expired.
local stored = redis.call('LINDEX', KEYS[1], ARGV[1])
if not stored then
  return 1
end
if stored ~= ARGV[2] then
  return 0
end
redis.call('LSET', KEYS[1], ARGV[1], ARGV[3])
return 1
