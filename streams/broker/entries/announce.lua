-- announce: a consumer says how long its leases are, before it reads and now and then. A row that was lost is written again.
--
-- KEYS[1]  leases of the group (HASH: consumer to "lease in ms, a space, when it said so in ms")
-- ARGV[1]  consumer
-- ARGV[2]  lease in ms
-- ARGV[3]  for how many ms the rows are kept after the last consumer said so
-- Returns  1

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
redis.call('HSET', KEYS[1], ARGV[1], ARGV[2] .. ' ' .. string.format('%.0f', now))
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
