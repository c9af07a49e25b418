-- set_limit: sets a limit for all workers, or returns to the declared one, with an audit row.
-- The first write, HDEL, frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  hash of the limits that were set
-- KEYS[2]  audit stream
-- ARGV[1]  name of a limit, or name=key
-- ARGV[2]  'interval burst', in microseconds and starts; '' returns to the declared one
-- ARGV[3]  the operator
-- ARGV[4]  group
-- Returns  the limit that was set before, or ''

-- include: audit.inc.lua

local wrong = wrong_audit(KEYS[2])
if wrong then return wrong end
local before = redis.call('HGET', KEYS[1], ARGV[1]) or ''
if before == ARGV[2] then return before end
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[2] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end
local action = ARGV[2] == '' and 'limit reset' or 'limit set'
write_audit(KEYS[2], 'action', action, 'group', ARGV[4], 'limit', ARGV[1],
  'to', ARGV[2], 'by', ARGV[3])
return before
