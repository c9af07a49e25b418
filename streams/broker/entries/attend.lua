-- attend: a worker is there, or leaves; it learns who else is, and over how many partitions the stream is spread.
--
-- KEYS[1]  members of the group (ZSET: worker to when it counts as gone, ms)
-- KEYS[2]  partitions of the stream (STRING: count and attribute)
-- ARGV[1]  the worker
-- ARGV[2]  for how many ms it counts as there; 0: it leaves
-- ARGV[3]  the count that it declares
-- ARGV[4]  the attribute that it declares
-- Returns  {count, attribute, member, member, ...}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local there = tonumber(ARGV[2])
if there > 0 then
  redis.call('ZADD', KEYS[1], now + there, ARGV[1])
else
  redis.call('ZREM', KEYS[1], ARGV[1])
end

local count, by = 0, ARGV[4]
local stored = redis.call('GET', KEYS[2])
if stored then
  local number, attribute = string.match(stored, '^(%d+) (.+)$')
  count, by = tonumber(number or 0), attribute or by
end
-- It only grows: what publishers that know the smaller number write is served then, too.
if there > 0 and by == ARGV[4] and count < tonumber(ARGV[3]) then
  count = tonumber(ARGV[3])
  redis.call('SET', KEYS[2], count .. ' ' .. by)
end

if there > 0 then
  -- Members go that were not heard of for long enough. So do members that a clock that was set back
  -- would keep for ever.
  for _, row in ipairs({ { '-inf', '(' .. now }, { '(' .. (now + 10 * there), '+inf' } }) do
    for _, name in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], row[1], row[2])) do
      redis.call('ZREM', KEYS[1], name)
    end
  end
end

local reply = { count, by }
for _, name in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  reply[#reply + 1] = name
end
return reply
