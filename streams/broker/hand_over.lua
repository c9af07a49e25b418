-- hand_over: slots of a limited concurrency that are given back go to those who wait for them first, and these to the
-- consumer that asks, if it has room; the others are due now. Called whenever an entry that asked for a slot is settled.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3 ..]  the streams of all levels, then per key two: its taken slots (ZSET) and its queue (ZSET)
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the parking consumer
-- ARGV[4]  lease in ms
-- ARGV[5]  how many entries this consumer takes at most
-- ARGV[6]  how many levels follow, in the order of their streams
-- ARGV[..] then per key: concurrency, how many members follow that give back their slot, these
-- Returns  {{level, id, delivery count, attempt record or '', {field, value, ...}}, ...}

-- include: slots.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local group, consumer, parking, lease, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local levels, key_of = tonumber(ARGV[6]), {}
for i = 1, levels do key_of[ARGV[6 + i]] = KEYS[2 + i] end
local soon = string.format('%.0f', math.floor(now / 1000))
local later = string.format('%.0f', math.floor(now / 1000) + lease)

local taken = {}
-- Gives the slot of `busy_key` to a member of `queue_key`; false if nobody can have it now.
local function give(busy_key, queue_key, member)
  local level, id = string.match(member, '^(%-?%d+)|(.+)$')
  local stream_key_of = key_of[level]
  local held = stream_key_of and redis.call('XPENDING', stream_key_of, group, id, id, 1) or {}
  if #held == 0 then
    redis.call('ZREM', queue_key, member)
    return false
  end
  -- With a consumer: it is just being put aside, and who does that asks again afterwards.
  if held[1][2] ~= parking or not redis.call('ZSCORE', KEYS[1], member) then return false end
  if #taken < room then
    local claimed = redis.call('XCLAIM', stream_key_of, group, consumer, 0, id)
    if not (claimed[1] and claimed[1][2]) then return false end
    local record = redis.call('HGET', KEYS[2], member) or ''
    redis.call('ZREM', KEYS[1], member)
    taken[#taken + 1] = {level, id, held[1][4] + 1, record, claimed[1][2]}
  else
    redis.call('ZADD', KEYS[1], 'XX', 'LT', soon, member)
  end
  redis.call('ZREM', queue_key, member)
  redis.call('ZADD', busy_key, string.format('%.0f', now), member)
  return true
end

local at, k = 7 + levels, 3 + levels
while at <= #ARGV do
  local busy_key, queue_key, most, back = KEYS[k], KEYS[k + 1], tonumber(ARGV[at]), tonumber(ARGV[at + 1])
  for i = 1, back do redis.call('ZREM', busy_key, ARGV[at + 1 + i]) end
  local free = most - redis.call('ZCARD', busy_key)
  if free > 0 then
    for _, member in ipairs(redis.call('ZRANGE', queue_key, 0, free + 9)) do
      if free > 0 and give(busy_key, queue_key, member) then free = free - 1 end
    end
  end
  local first = redis.call('ZRANGE', queue_key, 0, 0)[1]
  if first then redis.call('ZADD', KEYS[1], 'XX', 'LT', later, first) end
  at, k = at + 2 + back, k + 2
end
return taken
