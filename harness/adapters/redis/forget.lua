-- What is left of a chunk of which rows were forgotten, and of their ids, with a new head: or nothing.
--
-- KEYS[1] head    hash: head (the encoded head)
-- KEYS[2] tail    string: facts of the rows of the chunk that is not full yet
-- KEYS[3] ids:    start of 4096 hashes: id hash without its first byte -> (source hash, ordinal) of each event
-- KEYS[4] pairs:  start of strings, a full chunk of 256 rows each
-- KEYS[5] labels: start of hashes, a chunk each: place of the row in it -> label
-- None of them lives longer for it; apply.lua says when each expires.
--
-- ARGV[1] expected head  [2] new head  [3] chunk  [4] 1 when it is the tail  [5] its bytes
-- then two lists, each a number of items and the items, flat: places of the rows forgotten; ids (id, its other events or '')
-- Returns 1, or 0 when the stored head is not the expected one, or the chunk has expired.
local head, tail, ids, chunks, labels = unpack(KEYS)
if redis.call('HGET', head, 'head') ~= ARGV[1] then
  return 0
end
local rows = tail
if ARGV[4] == '0' then
  rows = chunks .. ARGV[3]
end
if redis.call('EXISTS', rows) == 0 then
  return 0
end
redis.call('SET', rows, ARGV[5], 'KEEPTTL')
local at = 7
for _ = 1, tonumber(ARGV[6]) do
  redis.call('HDEL', labels .. ARGV[3], ARGV[at])
  at = at + 1
end
for i = at + 1, #ARGV, 2 do
  local high, low = string.byte(ARGV[i], 1, 2)
  local bucket = ids .. string.format('%03x', high * 16 + math.floor(low / 16))
  if ARGV[i + 1] == '' then
    redis.call('HDEL', bucket, string.sub(ARGV[i], 2))
  else
    redis.call('HSET', bucket, string.sub(ARGV[i], 2), ARGV[i + 1])
  end
end
redis.call('HSET', head, 'head', ARGV[2])
return 1
