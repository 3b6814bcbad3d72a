-- Adds a record to the chain of a rollout if its head is still the one that was read.
-- KEYS[1]  journal: list of records, oldest first: '1', hash (64 hex digits), hash of the one before (64), body;
--          expires `keep` after the last record
-- ARGV[1]  expected hash of the last record, 64 zeros for none   [2] the record   [3] keep, milliseconds
-- Returns 1, or 0 when the last record is another.
local last = redis.call('LINDEX', KEYS[1], -1)
if (last and string.sub(last, 2, 65) or string.rep('0', 64)) ~= ARGV[1] then
  return 0
end
redis.call('RPUSH', KEYS[1], ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
