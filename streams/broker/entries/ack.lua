-- ack: processing -> (gone). Takes handled entries out of the group's pending list and deletes
-- them, and gives back what they had at limits.
-- Not fenced on purpose: the work is done, and a later holder of the entry must not do it again.
-- But the slots and places at limits of a later holder stay its own until it has ended as well.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  config hash of the stream
-- KEYS[4]  admissions hash of the group
-- KEYS[5]  retry ZSET of the group
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  level
-- ARGV[4 ..]  entry ids (1 to 1000)
-- Returns  how many were still pending; fewer than n means that a lease was lost on the way

-- include: finish.inc.lua
-- include: admissions.inc.lua

local group, ids, ended = ARGV[1], {unpack(ARGV, 4)}, {}
local kept = redis.call('EXISTS', KEYS[2], KEYS[4])
if kept > 0 and redis.call('EXISTS', KEYS[4]) == 1 then
  for _, id in ipairs(ids) do
    if redis.pcall('HEXISTS', KEYS[4], ARGV[3] .. '|' .. id) == 1 then
      local rows = redis.pcall('XPENDING', KEYS[1], group, id, id, 1)
      if not rows[1] or rows[1][2] == ARGV[2] then ended[#ended + 1] = ARGV[3] .. '|' .. id end
    end
  end
end
local acked = redis.call('XACK', KEYS[1], group, unpack(ids))
delete_finished(KEYS[1], KEYS[3], group, ids)
-- A caller need not know of a record: the entry may have stalled, and be with another consumer.
if kept > 0 then
  for i, id in ipairs(ids) do ids[i] = ARGV[3] .. '|' .. id end
  redis.pcall('HDEL', KEYS[2], unpack(ids))
end
for _, member in ipairs(ended) do let_go(KEYS[4], KEYS[5], member) end
return acked
