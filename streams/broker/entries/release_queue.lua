-- release queue: what waits for a slot of a limit that is declared otherwise now, or no more, is due, and asks anew.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  hash of the group's queues
-- KEYS[3]  the queue (ZSET)
-- KEYS[4]  its taken slots (ZSET)
-- KEYS[5]  admissions hash of the group
-- KEYS[6 ..]  the streams of all levels
-- ARGV[1]  group
-- ARGV[2]  name of the queue in the hash
-- ARGV[3]  how many of the queue are left where they are, before those that are looked at
-- ARGV[4]  how many are looked at
-- ARGV[5 ..]  the levels, in the order of their streams
-- Returns  {how many went, how many of those looked at are left}

-- include: members.inc.lua
-- include: admissions.inc.lua
-- include: slots.inc.lua

local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local key_of = {}
for i = 5, #ARGV do key_of[ARGV[i]] = KEYS[i + 1] end
local from, went, left = tonumber(ARGV[3]), 0, 0
for _, member in ipairs(redis.call('ZRANGE', KEYS[3], from, from + tonumber(ARGV[4]) - 1)) do
  -- One that has no due time is with a consumer, which is just putting it aside: it would be due in an hour.
  if redis.call('ZSCORE', KEYS[1], member) then
    redis.call('ZADD', KEYS[1], 'XX', 'LT', now, member)
    redis.call('ZREM', KEYS[3], member)
    went = went + 1
  elseif not pending_row(key_of, ARGV[1], member) then
    redis.call('ZREM', KEYS[3], member)
    let_go(KEYS[5], KEYS[1], member)
    went = went + 1
  else
    left = left + 1
  end
end
for _, member in ipairs(redis.call('ZRANGE', KEYS[4], 0, tonumber(ARGV[4]) - 1)) do
  if not pending_row(key_of, ARGV[1], member) then
    redis.call('ZREM', KEYS[4], member)
    let_go(KEYS[5], KEYS[1], member)
  end
end
if redis.call('ZCARD', KEYS[3]) + redis.call('ZCARD', KEYS[4]) == 0 then redis.call('HDEL', KEYS[2], ARGV[2]) end
return {went, left}
