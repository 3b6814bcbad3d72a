-- All effects of one fold and their new head, or nothing. What may be repeated is written before the head, so that even a script
-- that failed half-way (it cannot, unless somebody else writes these keys) is done again and not forgotten.
--
-- KEYS[1] head     hash: head (the encoded head), resolved (its first ordinal without a row), words (length of the list),
--                  floor (first ordinal whose row is not lost, once a chunk has expired half-written)
-- KEYS[2] open     hash: ordinal -> event that waits for answers
-- KEYS[3] settled  hash: ordinal -> event that waits for the ones before it
-- KEYS[4] early    hash: id hash -> outcomes that came before their event
-- KEYS[5] due      sorted set: id hash by the time of its earliest outcome, microseconds
-- KEYS[6] words    list: the dictionary of the rows
-- KEYS[7] tail     string: facts of the rows of the chunk that is not full yet, of fixed width
-- KEYS[8] ids:     start of 4096 hashes, by three hex digits of the id hash: id hash without its first byte
--                  -> (source hash, ordinal) of each event
-- KEYS[9] pairs:   start of strings, a full chunk of 256 rows each
-- KEYS[10] labels: start of hashes, a chunk each: place of the row in it -> label
-- All have the tag {rollout:shard}. The first six expire `keep` after the last apply, the others `keep` after the last id or row was
-- written to them; a label does not prolong a row's life, and goes with its row.
--
-- ARGV[1] expected head ('' for none)  [2] new head  [3] its resolved  [4] keep, milliseconds
--   [5] new ids, each 10 bytes and its one event: 4 bytes of source hash, 5 of ordinal
--   [6] length that the tail must have ('' for any: no chunk gets full)  [7] byte of the tail to write at (-1: replace it; '': nothing)
--   [8] facts  [9] ordinal of the first row written: the rows before it have expired when the tail is shorter than [7]
--   [10] 1 when they are known to have expired
-- then ten lists, each a number of items and the items, flat:
--   ids with several events (id, events)   open (ordinal, event)   settled (ordinal, event)   gone (ordinal)   early (id, outcomes or '', time)
--   labels of rows written before (chunk, place, label, byte of the tail that its row ends before; 0: in a full chunk)
--   chunks begun (chunk)   chunks now full (chunk, bytes)   labels of new rows (chunk, place, label)   words (word)
-- Returns 1, or 0 when the stored head is not the expected one, or the tail went since it was read.
local head, open, settled, early, due, words, tail, ids, chunks, labels = unpack(KEYS)
local stored = redis.call('HMGET', head, 'head', 'resolved', 'words')
if (stored[1] or '') ~= ARGV[1] then
  return 0
end
local n_tail = redis.call('STRLEN', tail)
if ARGV[6] ~= '' and n_tail ~= tonumber(ARGV[6]) then
  return 0
end
redis.call('HSET', head, 'resolved', stored[2] or 0) -- changes nothing: without memory it is refused here, before the first change
local keep = ARGV[4]
local n_words = tonumber(stored[3] or 0)
local at = 11

-- Calls `each` with the place of every item of the next list, whose items are `width` arguments wide.
local function list(width, each)
  local first = at + 1
  at = first + tonumber(ARGV[at]) * width
  for i = first, at - 1, width do
    each(i)
  end
end

local function note(id, events)
  local high, low = string.byte(id, 1, 2)
  local bucket = ids .. string.format('%03x', high * 16 + math.floor(low / 16))
  redis.call('HSET', bucket, string.sub(id, 2), events)
  redis.call('PEXPIRE', bucket, keep)
end

local function label(chunk, place, value, left)
  redis.call('HSET', labels .. chunk, place, value)
  redis.call('PEXPIRE', labels .. chunk, left)
end

for i = 1, #ARGV[5], 19 do
  note(string.sub(ARGV[5], i, i + 9), string.sub(ARGV[5], i + 10, i + 18))
end
list(2, function(i) note(ARGV[i], ARGV[i + 1]) end)
list(2, function(i) redis.call('HSET', open, ARGV[i], ARGV[i + 1]) end)
list(2, function(i)
  redis.call('HSET', settled, ARGV[i], ARGV[i + 1])
  redis.call('HDEL', open, ARGV[i])
end)
list(1, function(i)
  if redis.call('HDEL', open, ARGV[i]) == 0 then
    redis.call('HDEL', settled, ARGV[i])
  end
end)
list(3, function(i)
  if ARGV[i + 1] == '' then
    redis.call('HDEL', early, ARGV[i])
    redis.call('ZREM', due, ARGV[i])
  else
    redis.call('HSET', early, ARGV[i], ARGV[i + 1])
    redis.call('ZADD', due, ARGV[i + 2], ARGV[i])
  end
end)
list(4, function(i)
  local ends = tonumber(ARGV[i + 3])
  local row = tail
  if ends == 0 then
    row = chunks .. ARGV[i]
  end
  if redis.call('STRLEN', row) > 0 and n_tail >= ends then -- else it has expired since it was read
    local left = redis.call('PTTL', row)
    label(ARGV[i], ARGV[i + 1], ARGV[i + 2], left > 0 and left or keep)
  end
end)
list(1, function(i) redis.call('DEL', labels .. ARGV[i]) end)
list(2, function(i)
  redis.call('SET', chunks .. ARGV[i], ARGV[i + 1], 'PX', keep)
  redis.call('PEXPIRE', labels .. ARGV[i], keep)
end)
list(3, function(i) label(ARGV[i], ARGV[i + 1], ARGV[i + 2], keep) end)
if n_words == 0 then
  redis.call('DEL', words)
else
  redis.call('LTRIM', words, 0, n_words - 1)
end
list(1, function(i)
  redis.call('RPUSH', words, ARGV[i])
  n_words = n_words + 1
end)

if ARGV[10] == '1' or (ARGV[7] ~= '' and n_tail < tonumber(ARGV[7])) then
  redis.call('HSET', head, 'floor', ARGV[9]) -- the rows before these have expired; the gap is zeros, not rows
end
if ARGV[7] == '-1' then
  redis.call('SET', tail, ARGV[8])
elseif ARGV[7] ~= '' then
  redis.call('SETRANGE', tail, ARGV[7], ARGV[8])
end
if ARGV[7] ~= '' then
  redis.call('PEXPIRE', tail, keep)
  redis.call('PEXPIRE', labels .. string.format('%d', math.floor(ARGV[3] / 256)), keep)
end
redis.call('HSET', head, 'head', ARGV[2], 'resolved', ARGV[3], 'words', n_words)
for i = 1, 6 do
  redis.call('PEXPIRE', KEYS[i], keep)
end
return 1
