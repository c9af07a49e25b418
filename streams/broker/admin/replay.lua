-- replay: dead -> pending. Puts dead letters back on their level with their event id, counts the
-- replay, and deletes the dead letters, with one audit row for all calls of an action. The new
-- entry names the group, so that the other groups of the stream do not handle the event again.
-- The first write is an XADD, so a server without memory moves nothing.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- KEYS[3]  config hash of the stream
-- KEYS[4 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  the operator
-- ARGV[3]  the filter, in words; '' for ids
-- ARGV[4]  dead letters per second; '' as fast as it goes
-- ARGV[5]  id of the audit row of the step before; '' for the first step
-- ARGV[6]  n, how many levels
-- ARGV[7 .. 6+n]  the level of KEYS[4], KEYS[5], ...
-- ARGV[7+n ..]    ids of dead letters
-- Returns  the id of the audit row ('' if there is none yet), then per id: level|entry id of the
--           new entry, or '' if there is no such dead letter (any more); NOGROUP and nothing moved
--           if the group was dropped

-- include: put_back.inc.lua
-- include: audit.inc.lua
-- include: audited_steps.inc.lua

local key_of, n = {}, tonumber(ARGV[6])
for i = 1, n do
  if not takes(KEYS[3 + i], KEYS[3], ARGV[1]) then
    return redis.error_reply('NOGROUP ' .. ARGV[1])
  end
  key_of[ARGV[6 + i]] = KEYS[3 + i]
end
local row, refused = row_before(KEYS[2], ARGV[5])
if refused then return refused end
local results, letters, moved = {ARGV[5]}, {}, {}
for a = 7 + n, #ARGV do
  local place = put_back(KEYS[1], ARGV[a], key_of, ARGV[1], {})
  results[#results + 1] = place
  if place ~= '' then letters[#letters + 1], moved[#moved + 1] = ARGV[a], place end
end
if #moved > 0 then
  local facts = {'action', 'replay', 'group', ARGV[1], 'by', ARGV[2]}
  if ARGV[3] ~= '' then facts[7], facts[8] = 'filter', ARGV[3] end
  if ARGV[4] ~= '' then facts[#facts + 1], facts[#facts + 2] = 'rate', ARGV[4] end
  local lists = {'letters', letters, 'entries', moved}
  results[1] = write_row(KEYS[2], ARGV[5], row, facts, #moved, lists)
end
return results
