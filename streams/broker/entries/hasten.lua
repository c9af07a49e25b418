-- `hasten`: retrying -> retrying, due now. An entry that waits is looked at anew; the caller knows
-- why.
--
-- KEYS[1]  retry ZSET of the group
-- ARGV[1 ..]  members, level|entry id (1 to 1000)
-- Returns  how many were waiting for a later time

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local found = 0
for _, member in ipairs(ARGV) do
  found = found + redis.call('ZADD', KEYS[1], 'XX', 'LT', 'CH', now, member)
end
return found
