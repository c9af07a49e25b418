-- tend admissions: looks through the rows of entries that wait for limits or pauses, or have slots,
-- slice by slice. Workers of an older version do not know of these rows: an entry that they ended
-- leaves one, and a pause that they end is not told to the entries that wait for it. Neither is a
-- pause whose end was cut short. An entry that has ended gives back what its row names. An entry
-- that waits for a pause that is over is made due.
--
-- KEYS[1]  admissions hash of the group
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  hash of what is paused
-- KEYS[4]  hash of the group's queues
-- KEYS[5 ..]  the streams of all levels
-- ARGV[1]  group
-- ARGV[2]  cursor of the last answer, or 0
-- ARGV[3]  about how many rows
-- ARGV[4 ..]  the levels, in the order of their streams
-- Returns  {cursor to go on with, 0 at the end; how many had ended; how many were made due; how many queues there are}

-- include: members.inc.lua
-- include: admissions.inc.lua
-- include: slots.inc.lua

local queues = redis.call('HLEN', KEYS[4])
if redis.call('EXISTS', KEYS[1]) == 0 then return {'0', 0, 0, queues} end
local time = redis.call('TIME')
local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
local key_of, ended, due = {}, 0, 0
for i = 4, #ARGV do key_of[ARGV[i]] = KEYS[i + 1] end
local page = redis.call('HSCAN', KEYS[1], ARGV[2], 'COUNT', ARGV[3])
for i = 1, #page[2], 2 do
  local member = page[2][i]
  if not pending_row(key_of, ARGV[1], member) then
    let_go(KEYS[1], KEYS[2], member)
    ended = ended + 1
  else
    local row = admission_of(KEYS[1], member)
    local waits = row and (row.kind == 'paused' or row.kind == 'breaker') and type(row.by) == 'string'
    if waits and redis.call('HEXISTS', KEYS[3], row.by) == 0 then
      due = due + redis.call('ZADD', KEYS[2], 'XX', 'LT', 'CH', now, member)
    end
  end
end
return {page[1], ended, due, queues}
