-- file: lets tracked events be found by what they have in common.
--
-- KEYS[1]  ZSET of ids, expiring: score the time (ms) of the filing
-- ARGV[1]  id of the tracked event
-- ARGV[2]  for how many ms it is remembered
-- ARGV[3]  how many ids to keep; the oldest go
-- Returns  how many are filed

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local past = string.format('%.0f', now - tonumber(ARGV[2]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', past, 'LIMIT', 0, 100)
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if #old == 0 and excess > 0 then old = redis.call('ZRANGE', KEYS[1], 0, math.min(excess, 100) - 1) end
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
