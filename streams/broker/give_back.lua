-- give_back: the slots of a limited concurrency, and the places in its queues, of entries whose outcome is about to be
-- written. Sent before the outcome, while the consumer still holds the entry: afterwards it may be with another one, and have a
-- slot again. Owner and delivery count are checked for the same reason. (A script that the server had forgotten comes after
-- the outcome all the same. What has ended by then needs nothing any more, nor does what waits for a time to come: a slot
-- is given to what can start. Of what is due again nothing can be told.)
--
-- KEYS[1]  config hash of the stream
-- KEYS[2]  retry ZSET of the group
-- KEYS[3 ..]  the streams of all levels, then taken slots (ZSET) and queues (ZSET) of keys
-- ARGV[1]  group
-- ARGV[2]  consumer that must own the entries
-- ARGV[3]  the parking consumer
-- ARGV[4]  how many levels follow, in the order of their streams
-- ARGV[..] then per entry: level, entry id, delivery count that must match, how many slots, and per slot two: indexes of
--          its taken slots and of its queue
-- Returns  how many entries gave back what they had

-- include: holds.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local group, consumer, levels, key_of = ARGV[1], ARGV[2], tonumber(ARGV[4]), {}
for i = 1, levels do key_of[ARGV[4 + i]] = KEYS[2 + i] end

-- Whether an entry waits for a time to come.
local function is_later(row, member)
  local due = row and row[2] == ARGV[3] and redis.pcall('ZSCORE', KEYS[2], member)
  return due and tonumber(due) and tonumber(due) > now
end

local at, given = 5 + levels, 0
while at <= #ARGV do
  local level, id, count, slots = ARGV[at], ARGV[at + 1], tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])
  local key = key_of[level]
  local rows = redis.pcall('XPENDING', key, group, id, id, 1)
  local ok, held = pcall(holds, key, KEYS[1], group, consumer, id, count)
  if ok and held or not rows.err and (#rows == 0 or is_later(rows[1], level .. '|' .. id)) then
    given = given + 1
    for i = 1, slots do
      local p = at + 4 + 2 * (i - 1)
      redis.call('ZREM', KEYS[tonumber(ARGV[p])], level .. '|' .. id)
      redis.call('ZREM', KEYS[tonumber(ARGV[p + 1])], level .. '|' .. id)
    end
  end
  at = at + 4 + 2 * slots
end
return given
