-- Notes what a role of a rollout says of itself.
-- KEYS[1]  presence: hash: role -> "<microseconds of this server's clock> <state> <why>"; expires `keep` after the last note of any role
-- ARGV[1]  role   [2] state   [3] why   [4] keep, milliseconds
local now = redis.call('TIME')
redis.call('HSET', KEYS[1], ARGV[1], string.format('%d%06d', now[1], now[2]) .. ' ' .. ARGV[2] .. ' ' .. ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
