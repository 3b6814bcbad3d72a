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
-- KEYS[7] ids:     start of 4096 hashes, by three hex digits of the id hash: id hash -> (source hash, ordinal) of each event
-- KEYS[8] pairs:   start of strings of 256 packed rows each
-- All have the tag {rollout:shard}. The first six expire `keep` after the last apply, ids: and pairs: `keep` after the last id or row
-- was written to them; a label does not prolong a row's life.
--
-- ARGV[1] expected head ('' for none)  [2] new head  [3] its resolved  [4] keep, milliseconds
--   [5] new ids, each 10 bytes and its one event: 4 bytes of source hash, 8 of ordinal
-- then eight lists, each a number of items and the items, flat:
--   ids with several events (id, events)   open (ordinal, event)   settled (ordinal, event)   gone (ordinal)   early (id, outcomes or '', time)
--   rows (chunk, byte, rows, first ordinal)   labels (chunk, byte, label)   words (word)
-- Returns 1, or 0 when the stored head is not the expected one.
local head, open, settled, early, due, words, ids, chunks = unpack(KEYS)
local stored = redis.call('HMGET', head, 'head', 'resolved', 'words')
if (stored[1] or '') ~= ARGV[1] then
  return 0
end
redis.call('HSET', head, 'resolved', stored[2] or 0) -- changes nothing: without memory it is refused here, before the first change
local keep = ARGV[4]
local n_words = tonumber(stored[3] or 0)
local at = 6

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
  redis.call('HSET', bucket, id, events)
  redis.call('PEXPIRE', bucket, keep)
end

for i = 1, #ARGV[5], 22 do
  note(string.sub(ARGV[5], i, i + 9), string.sub(ARGV[5], i + 10, i + 21))
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
  local chunk = chunks .. ARGV[i]
  if redis.call('STRLEN', chunk) < tonumber(ARGV[i + 1]) then
    redis.call('HSET', head, 'floor', ARGV[i + 3]) -- the rows before these have expired; the gap is zeros, not rows
  end
  redis.call('SETRANGE', chunk, ARGV[i + 1], ARGV[i + 2])
  local byte, before = tonumber(ARGV[i + 1]), ARGV[i + 3] % 256
  if before > 0 and byte + #ARGV[i + 2] == byte / before * 256 then
    redis.call('SET', chunk, redis.call('GET', chunk)) -- full: a string that grew piece by piece holds twice the memory it needs
  end
  redis.call('PEXPIRE', chunk, keep)
end)
list(3, function(i)
  local chunk = chunks .. ARGV[i]
  if redis.call('STRLEN', chunk) >= ARGV[i + 1] + #ARGV[i + 2] then -- else it has expired since it was read
    redis.call('SETRANGE', chunk, ARGV[i + 1], ARGV[i + 2])
  end
end)
if n_words == 0 then
  redis.call('DEL', words)
else
  redis.call('LTRIM', words, 0, n_words - 1)
end
list(1, function(i)
  redis.call('RPUSH', words, ARGV[i])
  n_words = n_words + 1
end)

redis.call('HSET', head, 'head', ARGV[2], 'resolved', ARGV[3], 'words', n_words)
for i = 1, 6 do
  redis.call('PEXPIRE', KEYS[i], keep)
end
return 1
