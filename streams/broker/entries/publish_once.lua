-- publish / schedule, once per dedup id: (nothing) -> pending or scheduled. A repeat inside the window stores nothing and
-- answers what the first one was answered, so the caller may send it again after a lost answer.
-- The first write needs memory, so a server without any refuses the event whole.
--
-- KEYS[1]  dedup key of this event
-- KEYS[2]  stream of the event's level
-- KEYS[3]  scheduled ZSET
-- KEYS[4]  hash of the packed fields of scheduled events
-- KEYS[5 ..]  streams of all levels (counted into the limit)
-- ARGV[1]  limit on waiting + processing + retrying + scheduled events of the stream; 0: none
-- ARGV[2]  dedup window in ms
-- ARGV[3]  level
-- ARGV[4]  event id
-- ARGV[5]  delay in ms; 0: at once
-- ARGV[6 ..]  the values (field, value ...)
-- Returns  {1 stored | 0 a repeat | -1 full, event id, level, entry id or member}

local known = redis.call('GET', KEYS[1])
if known then
  local length, rest = string.match(known, '^(%d+) (.*)$')
  local level, place = string.match(length and string.sub(rest, length + 2) or '', '^(%S+) (.*)$')
  -- An unreadable value was not written here: nothing is known of the id.
  if level then return {0, string.sub(rest, 1, length), level, place} end
end
if ARGV[1] ~= '0' then
  local used = redis.call('ZCARD', KEYS[3])
  for i = 5, #KEYS do used = used + redis.call('XLEN', KEYS[i]) end
  if used >= tonumber(ARGV[1]) then return {-1, ARGV[4], ARGV[3], ''} end
end
local stored
if ARGV[5] == '0' then
  stored = redis.call('XADD', KEYS[2], '*', unpack(ARGV, 6))
else
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000 -- to the microsecond, as `schedule` does
  stored = ARGV[3] .. '|' .. ARGV[4]
  local base, n = stored, 1
  while redis.call('HEXISTS', KEYS[4], stored) == 1 do
    n = n + 1
    stored = base .. '#' .. n
  end
  redis.call('HSET', KEYS[4], stored, cmsgpack.pack({unpack(ARGV, 6)}))
  redis.call('ZADD', KEYS[3], string.format('%.3f', now + tonumber(ARGV[5])), stored)
end
-- The length first: an event id may hold spaces.
redis.call('SET', KEYS[1], #ARGV[4] .. ' ' .. ARGV[4] .. ' ' .. ARGV[3] .. ' ' .. stored, 'PX', ARGV[2])
return {1, ARGV[4], ARGV[3], stored}
