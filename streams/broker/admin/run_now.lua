-- run_now: retrying or scheduled -> the same, due now. Writes an audit row.
-- The first write is a ZADD, so a server without memory changes nothing.
--
-- KEYS[1]  retry ZSET of a group, or the scheduled ZSET
-- KEYS[2]  audit stream
-- ARGV[1]  group; '' for scheduled events
-- ARGV[2]  the operator
-- ARGV[3]  member (level|entry id, or level|event id)
-- Returns  1 if it is due now, 0 if it waits no more

-- include: audit.inc.lua
-- include: clock.inc.lua

local wrong = wrong_audit(KEYS[2])
if wrong then return wrong end
if not redis.call('ZSCORE', KEYS[1], ARGV[3]) then return 0 end
redis.call('ZADD', KEYS[1], 'XX', 'LT', now_score(), ARGV[3])
write_audit(KEYS[2], 'action', 'run-now', 'group', ARGV[1], 'by', ARGV[2], 'event', ARGV[3])
return 1
