-- schedule: (nothing) -> scheduled. Stores delayed events beside their due times; `promote` moves each once.
-- The first write needs memory, so a server without any refuses the whole batch.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- KEYS[3 ..]  streams of all levels (counted into the limit)
-- ARGV[1]  limit on waiting + processing + retrying + scheduled events of the stream; 0: none
-- ARGV[2 ..]  per event: level, event id, delay in ms, how many values, then the values (field, value ...)
-- Returns  per event its member (level|event id), or '' if the stream was full

local time = redis.call('TIME')
-- To the microsecond, and one more for each event of the batch: equal scores would be ordered by event id.
local now = tonumber(time[1]) * 1000 + tonumber(time[2]) / 1000
local room = -1
if ARGV[1] ~= '0' then
  room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[1])
  for i = 3, #KEYS do room = room - redis.call('XLEN', KEYS[i]) end
  if room < 0 then room = 0 end
end
local members, at, last = {}, 2, #ARGV
while at < last do
  local width = tonumber(ARGV[at + 3])
  if room == 0 then
    members[#members + 1] = ''
  else
    room = room - 1
    local member = ARGV[at] .. '|' .. ARGV[at + 1]
    local base, n = member, 1
    -- Two events with one id are two events: neither may overwrite the other.
    while redis.call('HEXISTS', KEYS[2], member) == 1 do
      n = n + 1
      member = base .. '#' .. n
    end
    redis.call('HSET', KEYS[2], member, cmsgpack.pack({unpack(ARGV, at + 4, at + 3 + width)}))
    redis.call('ZADD', KEYS[1], string.format('%.3f', now + tonumber(ARGV[at + 2]) + #members / 1000), member)
    members[#members + 1] = member
  end
  at = at + 4 + width
end
return members
