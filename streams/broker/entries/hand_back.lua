-- release (entries that a consumer was given but does not know of): processing -> retrying, due at once, no attempt burnt.
-- A read whose answer was lost leaves such entries in the pending list; their handlers never started. A slot that was handed
-- over with it goes back.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  admissions hash of the group
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  level
-- ARGV[5 ..]  entry ids that the consumer does hold
-- Returns  how many were handed back

-- include: admissions.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local held = {}
for i = 5, #ARGV do held[ARGV[i]] = true end
local back = 0
for _, row in ipairs(redis.call('XPENDING', KEYS[1], ARGV[1], '-', '+', 10000, ARGV[2])) do
  if not held[row[1]] then
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, row[1], 'JUSTID')
    redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[4] .. '|' .. row[1])
    put_off(KEYS[3], KEYS[2], ARGV[4] .. '|' .. row[1])
    back = back + 1
  end
end
return back
