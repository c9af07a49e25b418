-- pause: holds back what a scope covers, and writes down who did. What is paused already stays as it was.
-- The first write removes nothing and is there to be first: a server without memory allows it, and with it the rest.
-- Pausing is a remedy, and must not fail when things go wrong.
--
-- KEYS[1]  hash of what is paused
-- KEYS[2]  audit stream
-- ARGV[1]  scope
-- ARGV[2]  who pauses
-- ARGV[3]  why; may be ''
-- Returns  {1 paused now | 0 was paused already, {"by", "at" in seconds, "reason"} as JSON}

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then return {0, known} end
local time = redis.call('TIME')
local at = string.format('%.3f', tonumber(time[1]) + tonumber(time[2]) / 1000000)
local value = '{"by":' .. cjson.encode(ARGV[2]) .. ',"at":' .. at .. ',"reason":' .. cjson.encode(ARGV[3]) .. '}'
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], value)
redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'pause', 'scope', ARGV[1], 'by', ARGV[2],
  'reason', ARGV[3])
return {1, value}
