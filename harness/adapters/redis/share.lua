-- Renew, take and give back the parts of one role, for one worker, by the server's clock.
--
-- KEYS[1] parts    hash: part -> worker; a part of a worker that is dead is free. Expires with the last worker.
-- KEYS[2] workers  sorted set: worker by the time at which it is dead, milliseconds. Expires with the last worker.
--
-- ARGV[1] worker  [2] time to live, milliseconds (0: leave)  [3..] the role's parts, in their order
-- Returns the parts that the worker holds now.
local parts, workers = KEYS[1], KEYS[2]
local me, ttl = ARGV[1], tonumber(ARGV[2])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

redis.call('ZREMRANGEBYSCORE', workers, '-inf', now)
if ttl == 0 then
  redis.call('ZREM', workers, me)
else
  redis.call('ZADD', workers, now + ttl, me)
end

local n_workers = redis.call('ZCARD', workers)
local share = ttl == 0 and 0 or math.ceil((#ARGV - 2) / n_workers)
local held = {}
local free = {}
for i = 3, #ARGV do
  local owner = redis.call('HGET', parts, ARGV[i])
  if owner == me and #held < share then
    held[#held + 1] = ARGV[i]
  elseif not owner or owner == me or not redis.call('ZSCORE', workers, owner) then
    free[#free + 1] = ARGV[i]
    if owner then
      redis.call('HDEL', parts, ARGV[i])
    end
  end
end
for _, part in ipairs(free) do
  if #held >= share then
    break
  end
  redis.call('HSET', parts, part, me)
  held[#held + 1] = part
end
if ttl > 0 then
  redis.call('PEXPIRE', parts, ttl)
  redis.call('PEXPIRE', workers, ttl)
end
return held
