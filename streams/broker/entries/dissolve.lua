-- dissolve (a group that is queued by key no more): waiting in line -> retrying, due at once, no
-- attempt burnt.
-- Workers that queue by key may still be there while a change of the declaration goes on. So the
-- rows go in the step that gives their entries back: a row that stayed would have such a worker
-- take its entry from the consumer that has it by then.
--
-- KEYS[1]  rules hash of the group
-- KEYS[2]  heads hash of the group
-- KEYS[3]  behind ZSET of the group
-- KEYS[4]  retry ZSET of the group
-- KEYS[5]  admissions hash of the group
-- KEYS[6 ..]  per level: its stream, its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the waiting consumer
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4 ..]  the levels
-- Returns  {how many were given back, 1 if there may be more, of which nothing is queued by key any
--           more: to be called again}

-- include: admissions.inc.lua

local MOST = 10000
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local back, more = 0, 0
for i = 4, #ARGV do
  local at = 6 + 3 * (i - 4)
  local rows = redis.call('XPENDING', KEYS[at], ARGV[1], '-', '+', MOST, ARGV[2])
  if #rows == MOST then more = 1 end
  for _, row in ipairs(rows) do
    redis.call('XCLAIM', KEYS[at], ARGV[1], ARGV[3], 0, row[1], 'JUSTID')
    redis.call('ZADD', KEYS[4], now, ARGV[i] .. '|' .. row[1])
    put_off(KEYS[5], KEYS[4], ARGV[i] .. '|' .. row[1])
  end
  back = back + #rows
  redis.call('UNLINK', KEYS[at + 1], KEYS[at + 2])
end
redis.call('UNLINK', KEYS[2], KEYS[3])
-- Last: while these rules are there, a worker that was interrupted begins anew.
if more == 0 then redis.call('UNLINK', KEYS[1]) end
return {back, more}
