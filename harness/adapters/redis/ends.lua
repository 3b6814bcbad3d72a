-- The last ID that each stream gave out, also when its record was trimmed; '' where none was.
-- KEYS     the partitions' streams
local found = {}
for i = 1, #KEYS do
  found[i] = ''
  if redis.call('EXISTS', KEYS[i]) == 1 then
    local info = redis.call('XINFO', 'STREAM', KEYS[i])
    for at = 1, #info, 2 do
      if info[at] == 'last-generated-id' then
        found[i] = info[at + 1]
      end
    end
  end
end
return found
