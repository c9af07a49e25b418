-- run_now: retrying or scheduled -> the same, due now. Writes down who was impatient.
-- The first write is a ZADD, so a server without memory changes nothing.
--
-- KEYS[1]  retry ZSET of a group, or the scheduled ZSET
-- KEYS[2]  audit stream
-- ARGV[1]  group; '' for scheduled events
-- ARGV[2]  who asks
-- ARGV[3]  member (level|entry id, or level|event id)
-- Returns  1 if it is due now, 0 if it waits no more

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end
if not redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 0 end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
redis.call('ZADD', KEYS[1], 'XX', 'LT', now, ARGV[3])
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'run-now', 'group', ARGV[1], 'by', ARGV[2],
  'event', ARGV[3])
return 1
