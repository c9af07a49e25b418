-- ``stray_scheduled`` (diagnosis and repair): walks a slice of the due times of delayed events for
-- those without fields, and a slice of the fields for those without a due time and those that
-- cannot be read. Repair removes due times without fields, as promote would, and unreadable fields.
-- Fields without a due time are events, whose fate an operator must decide.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- KEYS[3]  audit stream
-- ARGV[1]  rank to go on from in the ZSET; -1: not at all
-- ARGV[2]  cursor to go on from in the hash; '': not at all
-- ARGV[3]  how many of each at most, roughly
-- ARGV[4]  the operator; '' only looks
-- Returns  {due times without fields, fields without a due time, next rank or -1, next cursor
--           or '', unreadable fields, one of them or ''}

-- include: audit.inc.lua
-- include: packed.inc.lua

local wrong = wrong_audit(KEYS[3])
if wrong then return wrong end
local empty, stranded, unreadable, rank, cursor = {}, 0, {}, -1, ''
if ARGV[1] ~= '-1' then
  local first = tonumber(ARGV[1])
  local members = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[3]) - 1)
  for _, member in ipairs(members) do
    if redis.call('HEXISTS', KEYS[2], member) == 0 then empty[#empty + 1] = member end
  end
  if #members == tonumber(ARGV[3]) then
    rank = first + #members
    if ARGV[4] ~= '' then rank = rank - #empty end
  end
end
if ARGV[2] ~= '' then
  local reply = redis.call('HSCAN', KEYS[2], ARGV[2], 'COUNT', ARGV[3])
  for i = 1, #reply[2], 2 do
    local due = redis.call('ZSCORE', KEYS[1], reply[2][i])
    if not read_packed(reply[2][i + 1]) then
      unreadable[#unreadable + 1] = reply[2][i]
    elseif not due or due == 'inf' then
      stranded = stranded + 1
    end
  end
  if reply[1] ~= '0' then cursor = reply[1] end
end
if ARGV[4] ~= '' and #empty + #unreadable > 0 then
  for _, member in ipairs(empty) do redis.call('ZREM', KEYS[1], member) end
  for _, member in ipairs(unreadable) do
    redis.call('HDEL', KEYS[2], member)
    if redis.call('ZREM', KEYS[1], member) == 1 and rank > 0 then rank = rank - 1 end
  end
  write_audit(KEYS[3], 'action', 'repair', 'by', ARGV[4],
    'due_times_empty', #empty, 'rows_unreadable', #unreadable)
end
return {#empty, stranded, rank, cursor, #unreadable, unreadable[1] or ''}
