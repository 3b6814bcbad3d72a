-- What is stored of some chunks of rows, at one moment.
--
-- KEYS[1] head     hash: resolved, floor: rows from floor up to resolved exist, unless their chunk has expired
-- KEYS[2] tail     string: facts of the rows of the chunk that is not full yet
-- KEYS[3] pairs:   start of strings, a full chunk each
-- KEYS[4] labels:  start of hashes, a chunk each: place of the row in it -> label
-- It writes nothing; apply.lua says when each expires.
--
-- ARGV[1] first chunk  [2] last chunk
-- Returns {floor, resolved, tail, the full chunks ('' for one that is not there, or not full), the labels of each chunk}
local head, tail, chunks, labels = unpack(KEYS)
local bounds = redis.call('HMGET', head, 'floor', 'resolved')
local sealed, patches = {}, {}
for n = tonumber(ARGV[1]), tonumber(ARGV[2]) do
  local name = string.format('%d', n)
  sealed[#sealed + 1] = redis.call('GET', chunks .. name) or ''
  patches[#patches + 1] = redis.call('HGETALL', labels .. name)
end
return {bounds[1] or '0', bounds[2] or '0', redis.call('GET', tail) or '', sealed, patches}
