-- promote: scheduled -> pending. Moves due events onto their streams, each exactly once, a batch per call.
-- An event whose fields cannot be read loses its due time and is left for the doctor; the others go on.
-- The first write is an XADD, or frees memory, so a server without memory moves nothing.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- KEYS[3 ..]  streams of all levels
-- ARGV[1]  how many events at most
-- ARGV[2 ..]  the level of KEYS[3], KEYS[4], ...
-- Returns  {now in ms, ms of the next due event or -1, how many were moved}

-- include: members.inc.lua
-- include: packed.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local key_of = {}
for i = 2, #ARGV do key_of[ARGV[i]] = KEYS[i + 1] end
local moved = 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', 0, ARGV[1])) do
  -- This stream no longer has the level: the highest configured one (the first key) serves the
  -- event, which no worker would read otherwise.
  local key = key_of[string.match(member, '^(%-?%d+)|')] or KEYS[3]
  local packed = redis.call('HGET', KEYS[2], member)
  local fields = packed and read_packed(packed)
  if fields then
    redis.call('XADD', key, '*', unpack(fields))
    moved = moved + 1
  end
  redis.call('ZREM', KEYS[1], member)
  if fields or not packed then redis.call('HDEL', KEYS[2], member) end
end
local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local next_due = -1
if first[2] then next_due = finite(first[2], -1) end
return {now, next_due, moved}
