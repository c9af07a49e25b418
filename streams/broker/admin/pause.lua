-- pause: holds back the events of a scope, with an audit row. An older pause stays as it is.
-- The first write, HDEL, removes nothing and is there to be first: a server without memory allows
-- it, and with it the rest. Pausing is a remedy, and must not fail when things go wrong.
--
-- KEYS[1]  hash of the pauses
-- KEYS[2]  audit stream
-- ARGV[1]  scope
-- ARGV[2]  the operator
-- ARGV[3]  the reason; may be ''
-- Returns  {1 paused now | 0 was paused already, {"by", "at" in seconds, "reason"} as JSON}

-- include: audit.inc.lua
-- include: clock.inc.lua

local wrong = wrong_audit(KEYS[2])
if wrong then return wrong end
local known = redis.call('HGET', KEYS[1], ARGV[1])
if known then return {0, known} end
local at = now_seconds()
local by, reason = cjson.encode(ARGV[2]), cjson.encode(ARGV[3])
local value = '{"by":' .. by .. ',"at":' .. at .. ',"reason":' .. reason .. '}'
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[1], ARGV[1], value)
write_audit(KEYS[2], 'action', 'pause', 'scope', ARGV[1], 'by', ARGV[2], 'reason', ARGV[3])
return {1, value}
