-- file: files a tracked event under a name that several events share.
--
-- KEYS[1]  ZSET of ids, expiring: score the time (ms) of the filing
-- ARGV[1]  id of the tracked event
-- ARGV[2]  ms for which it is kept
-- ARGV[3]  the most ids to keep; the oldest are removed
-- Returns  the number of filed ids

-- include: clock.inc.lua

local now = now_ms()
redis.call('ZADD', KEYS[1], string.format('%.0f', now), ARGV[1])
local past = string.format('%.0f', now - tonumber(ARGV[2]))
local old = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', past, 'LIMIT', 0, 100)
local excess = redis.call('ZCARD', KEYS[1]) - tonumber(ARGV[3])
if #old == 0 and excess > 0 then
  old = redis.call('ZRANGE', KEYS[1], 0, math.min(excess, 100) - 1)
end
if #old > 0 then redis.call('ZREM', KEYS[1], unpack(old)) end
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return redis.call('ZCARD', KEYS[1])
