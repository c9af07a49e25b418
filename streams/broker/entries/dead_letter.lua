-- dead_letter: processing -> dead. Copies the entry with its raw fields to the group's dead-letter stream and ends its
-- life in the group, in one step. Owner and delivery count are checked.
-- The XCLAIM to the owner itself is there to be the first write: a server without memory allows it, and with it the rest.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  dead-letter stream of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  retry ZSET of the group
-- KEYS[5]  config hash of the stream
-- KEYS[6]  admissions hash of the group
-- ARGV[1]  group
-- ARGV[2]  consumer that must own the entries
-- ARGV[3]  level
-- ARGV[4]  by whom, for the operator: the consumer's name
-- ARGV[5 ..]  four per entry: entry id, delivery count that must match, reason, attempt record (JSON)
-- Returns  one integer per entry: 1 moved, 0 lease lost, -1 the entry itself is gone

-- include: finish.inc.lua
-- include: holds.inc.lua
-- include: admissions.inc.lua

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the dead-letter key ' .. KEYS[2] .. ' holds a ' .. kind)
end
local time = redis.call('TIME')
local now = string.format('%.3f', tonumber(time[1]) + tonumber(time[2]) / 1000000)
local results = {}
for i = 5, #ARGV, 4 do
  local id, count, reason, record = ARGV[i], tonumber(ARGV[i + 1]), ARGV[i + 2], ARGV[i + 3]
  local member = ARGV[3] .. '|' .. id
  local result = 0
  if holds(KEYS[1], KEYS[5], ARGV[1], ARGV[2], id, count) then
    local stored = redis.call('XRANGE', KEYS[1], id, id)
    redis.call('XCLAIM', KEYS[1], ARGV[1], ARGV[2], 0, id, 'JUSTID')
    result = -1
    if #stored == 1 then
      local raw = stored[1][2]
      -- Lua can pass about 7,000 values to one command, so of an entry with more than 1,000 fields the first 1,000 are kept.
      local kept = math.min(#raw, 2000)
      redis.call('XADD', KEYS[2], '*', 'reason', reason, 'level', ARGV[3], 'entry', id, 'at', now, 'consumer', ARGV[4],
        'record', record, 'raw', #raw / 2, unpack(raw, 1, kept))
      result = 1
    end
    redis.call('XACK', KEYS[1], ARGV[1], id)
    delete_finished(KEYS[1], KEYS[5], ARGV[1], {id})
    redis.call('HDEL', KEYS[3], member)
    redis.call('ZREM', KEYS[4], member)
    let_go(KEYS[6], KEYS[4], member)
  end
  results[#results + 1] = result
end
return results
