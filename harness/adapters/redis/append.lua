-- Appends records to one partition, all or none.
-- KEYS[1]  the partition's stream: an entry a record, its bytes in the field `value`; trimmed, never expires
-- ARGV     the records' bytes, in order
for i = 1, #ARGV do
  redis.call('XADD', KEYS[1], '*', 'value', ARGV[i])
end
return #ARGV
