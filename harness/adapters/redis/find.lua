-- What is stored of some event ids, at one moment.
--
-- KEYS[1] head    hash: resolved, floor: rows from floor up to resolved exist, unless their chunk has expired
-- KEYS[2] early   hash: id hash -> outcomes that came before their event
-- KEYS[3] ids:    start of 4096 hashes: id hash without its first byte -> (4 bytes of source hash, 5 of ordinal) of each event
-- KEYS[4] tail    string: facts of the rows of the chunk that is not full yet
-- KEYS[5] pairs:  start of strings, a full chunk of 256 rows each
-- KEYS[6] labels: start of hashes, a chunk each: place of the row in it -> label
-- It writes nothing; apply.lua says when each expires.
--
-- ARGV[1] the ids, 10 bytes each
-- Returns {floor, resolved, tail, {chunk, bytes, ...} of each full chunk that holds one of them, what is known}, and known is for each
-- id {id, its events or '', its outcomes or '', the label or '' of each event}. The tail is '' where it holds none of them.
local head, early, ids, tail, chunks, labels = unpack(KEYS)
local bounds = redis.call('HMGET', head, 'floor', 'resolved')
local floor, resolved = tonumber(bounds[1] or 0), tonumber(bounds[2] or 0)
local seen, sealed, known, rest = {}, {}, {}, ''

local function label(ordinal)
  if ordinal < floor or ordinal >= resolved then
    return ''
  end
  local chunk = string.format('%d', math.floor(ordinal / 256))
  if not seen[chunk] then
    seen[chunk] = true
    if math.floor(ordinal / 256) == math.floor(resolved / 256) then
      rest = redis.call('GET', tail) or ''
    else
      sealed[#sealed + 1] = chunk
      sealed[#sealed + 1] = redis.call('GET', chunks .. chunk) or ''
    end
  end
  return redis.call('HGET', labels .. chunk, ordinal % 256) or ''
end

for at = 1, #ARGV[1], 10 do
  local id = string.sub(ARGV[1], at, at + 9)
  local high, low = string.byte(id, 1, 2)
  local bucket = ids .. string.format('%03x', high * 16 + math.floor(low / 16))
  local events = redis.call('HGET', bucket, string.sub(id, 2)) or ''
  local outcomes = redis.call('HGET', early, id) or ''
  if events ~= '' or outcomes ~= '' then
    local found = {id, events, outcomes}
    for place = 5, #events, 9 do
      local top, low32 = struct.unpack('>BI4', events, place)
      found[#found + 1] = label(top * 4294967296 + low32)
    end
    known[#known + 1] = found
  end
end
return {bounds[1] or '0', bounds[2] or '0', rest, sealed, known}
