-- ack: processing -> (gone). Takes handled entries out of the group's pending list and deletes them.
-- Not fenced on purpose: the work is done, whoever holds the entry by now must not do it again.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  attempts hash of the group
-- ARGV[1]  group
-- ARGV[2]  n, how many entry ids follow (1 to 1000)
-- ARGV[3 .. 2+n]  entry ids
-- ARGV[3+n ..]    members (level|id) of those that have an attempt record
-- Returns  how many were still pending; fewer than n means that a lease was lost on the way

-- include: finish.inc.lua

local n = tonumber(ARGV[2])
local ids = {}
for i = 1, n do ids[i] = ARGV[2 + i] end
local acked = redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
delete_finished(KEYS[1], ids)
for i = 3 + n, #ARGV do redis.call('HDEL', KEYS[2], ARGV[i]) end
return acked
