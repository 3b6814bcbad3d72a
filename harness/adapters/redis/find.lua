-- What is stored of some event ids, at one moment.
--
-- KEYS[1] head    hash: resolved, floor: rows from floor up to resolved exist, unless their chunk has expired
-- KEYS[2] early   hash: id hash -> outcomes that came before their event
-- KEYS[3] ids:    start of 4096 hashes: id hash -> (4 bytes of source hash, 8 of ordinal) of each event that has it
-- KEYS[4] pairs:  start of strings of 256 packed rows each
-- It writes nothing; apply.lua says when each expires.
--
-- ARGV[1] width of a row, bytes   [2] the ids, 10 bytes each
-- Returns for each id that is known: {id, its events or '', its outcomes or '', the row or '' of each event}
local head, early, ids, chunks = unpack(KEYS)
local bounds = redis.call('HMGET', head, 'resolved', 'floor')
local resolved, floor = tonumber(bounds[1] or 0), tonumber(bounds[2] or 0)
local width = tonumber(ARGV[1])
local found = {}

local function row(ordinal)
  if ordinal < floor or ordinal >= resolved then
    return ''
  end
  local byte = ordinal % 256 * width
  local bytes = redis.call('GETRANGE', chunks .. string.format('%d', math.floor(ordinal / 256)), byte, byte + width - 1)
  return #bytes == width and bytes or ''
end

for at = 1, #ARGV[2], 10 do
  local id = string.sub(ARGV[2], at, at + 9)
  local high, low = string.byte(id, 1, 2)
  local events = redis.call('HGET', ids .. string.format('%03x', high * 16 + math.floor(low / 16)), id) or ''
  local outcomes = redis.call('HGET', early, id) or ''
  if events ~= '' or outcomes ~= '' then
    local known = {id, events, outcomes}
    for place = 5, #events, 12 do
      known[#known + 1] = row((struct.unpack('>I8', events, place)))
    end
    found[#found + 1] = known
  end
end
return found
