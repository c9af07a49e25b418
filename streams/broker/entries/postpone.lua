-- retry, snooze, release: processing -> retrying. The entry stays in the pending list, owned by the
-- consumer of delayed entries; the ZSET row says when it is due. It has no slot of a limit any
-- more. Owner and delivery count are checked, so a lost lease changes nothing.
-- The first write is an XCLAIM, which a server without memory still allows, and with it the rest of
-- the script.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  config hash of the stream
-- KEYS[5]  admissions hash of the group
-- ARGV[1]  group
-- ARGV[2]  consumer that must own the entries
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  level
-- ARGV[5 ..]  four per entry: entry id, delivery count that must match, delay in ms, attempt record (JSON; '' keeps the old one)
-- Returns  one integer per entry: 1 postponed, 0 lease lost, -1 the entry itself is gone

-- include: holds.inc.lua
-- include: admissions.inc.lua

-- Looked at before anything is written: a script that fails half way leaves what it did.
local rows, records = redis.call('TYPE', KEYS[2])['ok'], redis.call('TYPE', KEYS[3])['ok']
if rows ~= 'none' and rows ~= 'zset' then
  return redis.error_reply('WRONGTYPE the retry key ' .. KEYS[2] .. ' holds a ' .. rows)
end
if records ~= 'none' and records ~= 'hash' then
  return redis.error_reply('WRONGTYPE the attempts key ' .. KEYS[3] .. ' holds a ' .. records)
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local results, admitted = {}, redis.call('EXISTS', KEYS[5]) == 1
for i = 5, #ARGV, 4 do
  local id, count, delay, record = ARGV[i], tonumber(ARGV[i + 1]), tonumber(ARGV[i + 2]), ARGV[i + 3]
  local member = ARGV[4] .. '|' .. id
  local result = 0
  if holds(KEYS[1], KEYS[4], ARGV[1], ARGV[2], id, count) then
    local claimed = redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[3], 0, id, 'JUSTID')
    if #claimed == 1 and #redis.call('XRANGE', KEYS[1], id, id) == 1 then
      redis.call('ZADD', KEYS[2], string.format('%.0f', now + delay), member)
      if record ~= '' then redis.call('HSET', KEYS[3], member, record) end
      if admitted then put_off(KEYS[5], KEYS[2], member) end
      result = 1
    else
      redis.call('XACK', KEYS[1], ARGV[1], id)
      redis.call('HDEL', KEYS[3], member)
      let_go(KEYS[5], KEYS[2], member)
      result = -1
    end
  end
  results[#results + 1] = result
end
return results
