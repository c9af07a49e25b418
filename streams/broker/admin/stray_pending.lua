-- ``stray_pending`` (diagnosis and repair): walks a slice of a group's pending list for entries
-- that no consumer can finish: their payload is gone, or they wait for a retry without a due time.
-- Repair ends the former, as fetch and reclaim do, and makes the latter due now, as reclaim does.
-- Entries of consumers that were heard of lately are left alone.
-- Removals come before additions: a server without memory then allows both.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  audit stream
-- KEYS[5]  admissions hash of the group
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries
-- ARGV[3]  level
-- ARGV[4]  ms of silence after which an entry counts as left by its consumer
-- ARGV[5]  look from this id on, as XPENDING takes it
-- ARGV[6]  the most entries to read
-- ARGV[7]  the operator; '' only looks
-- Returns  {payloads gone, due times lost, id to go on behind or ''}

-- include: audit.inc.lua
-- include: clock.inc.lua
-- include: admissions.inc.lua

local now = now_score()
for k = 2, 4 do
  local kind = redis.call('TYPE', KEYS[k])['ok']
  if kind ~= 'none' and kind ~= ({false, 'zset', 'hash', 'stream'})[k] then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[k] .. ' holds a ' .. kind)
  end
end
local rows = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[5], '+', ARGV[6])
local gone, lost = {}, {}
for _, row in ipairs(rows) do
  local id, owner, idle = row[1], row[2], row[3]
  if owner == ARGV[2] or idle >= tonumber(ARGV[4]) then
    if #redis.call('XRANGE', KEYS[1], id, id) == 0 then
      gone[#gone + 1] = id
    elseif owner == ARGV[2] and not redis.call('ZSCORE', KEYS[2], ARGV[3] .. '|' .. id) then
      lost[#lost + 1] = id
    end
  end
end
if ARGV[7] ~= '' and #gone + #lost > 0 then
  for _, id in ipairs(gone) do
    redis.call('XACK', KEYS[1], ARGV[1], id)
    redis.call('HDEL', KEYS[3], ARGV[3] .. '|' .. id)
    redis.call('ZREM', KEYS[2], ARGV[3] .. '|' .. id)
    let_go(KEYS[5], KEYS[2], ARGV[3] .. '|' .. id)
  end
  for _, id in ipairs(lost) do redis.call('ZADD', KEYS[2], now, ARGV[3] .. '|' .. id) end
  write_audit(KEYS[4], 'action', 'repair', 'group', ARGV[1], 'by', ARGV[7],
    'level', ARGV[3], 'payloads_gone', #gone, 'due_times_lost', #lost)
end
local after = ''
if #rows == tonumber(ARGV[6]) then after = rows[#rows][1] end
return {#gone, #lost, after}
