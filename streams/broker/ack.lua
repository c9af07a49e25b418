-- ack: processing -> (gone). Takes handled entries out of the group's pending list and deletes them.
-- Not fenced on purpose: the work is done, whoever holds the entry by now must not do it again.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  config hash of the stream
-- ARGV[1]  group
-- ARGV[2]  level
-- ARGV[3 ..]  entry ids (1 to 1000)
-- Returns  how many were still pending; fewer than n means that a lease was lost on the way

-- include: finish.inc.lua

local ids = {unpack(ARGV, 3)}
local acked = redis.call('XACK', KEYS[1], ARGV[1], unpack(ids))
delete_finished(KEYS[1], KEYS[3], ARGV[1], ids)
-- Whoever acknowledges need not know of a record: the entry may have stalled meanwhile and be with somebody else by now.
if redis.call('EXISTS', KEYS[2]) == 1 then
  for i, id in ipairs(ids) do ids[i] = ARGV[2] .. '|' .. id end
  redis.pcall('HDEL', KEYS[2], unpack(ids))
end
return acked
