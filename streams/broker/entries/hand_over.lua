-- hand_over: free slots of a limited concurrency go to those who wait for them first, and these to the consumer that asks,
-- if it has room; the others are due now. Called whenever an entry that asked for a slot is settled, and now and then for
-- every queue that there is.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  hash of what is paused
-- KEYS[4]  hash of the group's queues
-- KEYS[5]  leases of the group
-- KEYS[6]  workers of the group
-- KEYS[7]  admissions hash of the group
-- KEYS[8 ..]  the streams of all levels, then per key two: its taken slots (ZSET) and its queue (ZSET)
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  lease in ms
-- ARGV[5]  how many entries this consumer takes at most
-- ARGV[6]  1: look whether the holders of slots are alive, too
-- ARGV[7]  how many levels follow, in the order of their streams
-- ARGV[..] then how many levels the consumer serves, and these
-- ARGV[..] then per key two: its name in the hash of queues, and its concurrency
-- Returns  {{level, id, delivery count, attempt record or '', {field, value, ...}}, ...}

-- include: leases.inc.lua
-- include: members.inc.lua
-- include: admissions.inc.lua
-- include: slots.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local group, consumer, parking, lease, room = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local levels, key_of, serves = tonumber(ARGV[7]), {}, {}
for i = 1, levels do key_of[ARGV[7 + i]] = KEYS[7 + i] end
local at = 8 + levels
for i = 1, tonumber(ARGV[at]) do serves[ARGV[at + i]] = true end
at = at + 1 + tonumber(ARGV[at])
local paused, all = paused_levels(KEYS[3], group)
if all then return {} end

local taken = {}
local function take(level, id, row, member)
  if #taken >= room then return false end
  local key = stream_of(key_of, level)
  local record = redis.call('HGET', KEYS[2], member) or ''
  -- A suspect runs alone: it has its slot, and is fetched when nothing else of a process runs.
  if string.find(record, '"suspect":true', 1, true) then return false end
  local claimed = redis.call('XCLAIM', key, group, consumer, 0, id)
  if not (claimed[1] and claimed[1][2]) then return false end
  redis.call('ZREM', KEYS[1], member)
  taken[#taken + 1] = {level, id, row[4] + 1, record, claimed[1][2]}
  return true
end

local there = {
  key_of = key_of, admissions = KEYS[7], group = group, parking = parking, paused = paused, serves = serves, now = now,
  soon = string.format('%.0f', math.floor(now / 1000)), take = take,
}
local later = string.format('%.0f', math.floor(now / 1000) + lease)
local k, lease_of = 8 + levels, lease_reader(KEYS[5], KEYS[6], lease)
while at <= #ARGV do
  local busy_key, queue_key, most = KEYS[k], KEYS[k + 1], tonumber(ARGV[at + 1])
  if ARGV[6] == '1' then drop_lost_slots(busy_key, key_of, group, parking, lease_of, now) end
  hand_on(busy_key, queue_key, KEYS[1], most - redis.call('ZCARD', busy_key), there)
  local first = redis.call('ZRANGE', queue_key, 0, 0)[1]
  if first then
    redis.call('ZADD', KEYS[1], 'XX', 'LT', later, first)
  elseif redis.call('ZCARD', busy_key) == 0 then
    -- Until then it is looked after: who has a slot may not know the limit, and give nothing back.
    redis.call('HDEL', KEYS[4], ARGV[at])
  end
  at, k = at + 2, k + 2
end
return taken
