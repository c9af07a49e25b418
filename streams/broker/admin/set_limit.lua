-- set_limit: an operator sets a limit for all workers, or takes back what was set, and that is written down.
-- The first write removes at most what is written again, so a server without memory lets the rest happen too.
--
-- KEYS[1]  hash of the limits that were set
-- KEYS[2]  audit stream
-- ARGV[1]  name of a limit, or name=key
-- ARGV[2]  'interval burst', in microseconds and starts; '' takes back what was set
-- ARGV[3]  who
-- ARGV[4]  group
-- Returns  what was set before, or ''

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end
local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if before == ARGV[2] then return before end
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', ARGV[2] == '' and 'limit reset' or 'limit set',
  'group', ARGV[4], 'limit', ARGV[1], 'to', ARGV[2], 'by', ARGV[3])
return before
