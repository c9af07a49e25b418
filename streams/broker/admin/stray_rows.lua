-- ``stray_rows`` (diagnosis and repair): walks a slice of a group's due times and one of its
-- attempt records for rows of entries that are not pending any more. Repair removes them. Rows of a
-- missing level or group are left alone, since their entries may come back.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  audit stream
-- KEYS[4 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  rank to go on from in the ZSET; -1: not at all
-- ARGV[3]  cursor to go on from in the hash; '': not at all
-- ARGV[4]  how many of each at most, roughly
-- ARGV[5]  the operator; '' only looks
-- ARGV[6 ..]  the level of KEYS[4], KEYS[5], ...
-- Returns  {orphaned due times, orphaned records, next rank or -1, next cursor or ''}

-- include: audit.inc.lua
-- include: members.inc.lua

local wrong = wrong_audit(KEYS[3])
if wrong then return wrong end
local key_of = {}
for i = 6, #ARGV do key_of[ARGV[i]] = KEYS[i - 2] end

local function stray(member)
  local level, id = read_member(member)
  local key = level and key_of[level]
  if not key then return false end
  local held = redis.pcall('XPENDING', key, ARGV[1], id, id, 1)
  return not held.err and #held == 0
end

local rows, records, rank, cursor = {}, {}, -1, ''
if ARGV[2] ~= '-1' then
  local first = tonumber(ARGV[2])
  local members = redis.call('ZRANGE', KEYS[1], first, first + tonumber(ARGV[4]) - 1)
  for _, member in ipairs(members) do
    if stray(member) then rows[#rows + 1] = member end
  end
  if #members == tonumber(ARGV[4]) then
    rank = first + #members
    if ARGV[5] ~= '' then rank = rank - #rows end
  end
end
if ARGV[3] ~= '' then
  local reply = redis.call('HSCAN', KEYS[2], ARGV[3], 'COUNT', ARGV[4])
  for i = 1, #reply[2], 2 do
    if stray(reply[2][i]) then records[#records + 1] = reply[2][i] end
  end
  if reply[1] ~= '0' then cursor = reply[1] end
end
if ARGV[5] ~= '' and #rows + #records > 0 then
  for _, member in ipairs(rows) do redis.call('ZREM', KEYS[1], member) end
  for _, member in ipairs(records) do redis.call('HDEL', KEYS[2], member) end
  write_audit(KEYS[3], 'action', 'repair', 'group', ARGV[1], 'by', ARGV[5],
    'due_times_stray', #rows, 'records_stray', #records)
end
return {#rows, #records, rank, cursor}
