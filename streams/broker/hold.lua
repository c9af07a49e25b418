-- hold: processing -> retrying, free. Entries that a pause of an attribute covers are put aside until it ends, if it has
-- not ended already. The pause of a circuit breaker lets one entry through when it is time to try: its probe.
-- The first write is an XCLAIM or replaces a field, so a server without memory lets the rest happen too.
--
-- KEYS[1]  hash of what is paused
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  config hash of the stream
-- KEYS[5 ..]  streams of the levels, then taken slots (ZSET) and queues (ZSET) of keys of limits
-- ARGV[1]  group
-- ARGV[2]  consumer that must own the entries
-- ARGV[3]  the parking consumer
-- ARGV[4]  how many levels
-- ARGV[5 ..]  the level of KEYS[5], KEYS[6], ...; then per entry six: level, entry id, delivery count that must match,
--             scope of the pause, attempt record (JSON), how many slots; and per slot two: indexes of its taken slots and
--             of its queue. Who is put aside has none of them any more
-- Returns  one integer per entry: 1 it may start, 2 it may start as the probe, 0 it is put aside, -1 lease lost

-- include: holds.inc.lua
-- include: members.inc.lua

local FAR = 3600000 -- ms; whoever ends a pause brings these entries back, and they look by themselves once an hour
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local group, consumer, parking, levels, key_of = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), {}
for i = 1, levels do key_of[ARGV[4 + i]] = KEYS[4 + i] end

-- Whether the entry that is to probe still can.
local function waits(member)
  local level, id = read_member(type(member) == 'string' and member or '')
  local key = level and key_of[level]
  return key and #redis.call('XPENDING', key, group, id, id, 1) == 1
end

local results, i = {}, 5 + levels
while i <= #ARGV do
  local level, id, count, scope = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2]), ARGV[i + 3]
  local slots = tonumber(ARGV[i + 5])
  local key, member = key_of[level], level .. '|' .. id
  local stored = redis.call('HGET', KEYS[1], scope)
  local result, due = 1, now + FAR
  if stored then
    result = 0
    local ok, pause = pcall(cjson.decode, stored)
    if ok and type(pause) == 'table' and type(pause.probe) == 'number' and type(pause.every) == 'number' then
      if pause.scout ~= member and waits(pause.scout) then
        due = now + FAR
      elseif now >= pause.probe then
        result, pause.probe = 2, now + pause.every
      else
        due = pause.probe
      end
      if due ~= now + FAR or result == 2 then
        pause.scout = member
        redis.call('HSET', KEYS[1], scope, cjson.encode(pause))
      end
    end
    if result == 0 then
      if holds(key, KEYS[4], group, consumer, id, count) then
        redis.call('XCLAIM', key, group, parking, 0, id, 'JUSTID')
        redis.call('ZADD', KEYS[2], string.format('%.0f', due), member)
        redis.call('HSET', KEYS[3], member, ARGV[i + 4])
        for p = i + 6, i + 5 + 2 * slots do redis.call('ZREM', KEYS[tonumber(ARGV[p])], member) end
      else
        result = -1
      end
    end
  end
  results[#results + 1] = result
  i = i + 6 + 2 * slots
end
return results
