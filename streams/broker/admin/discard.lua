-- discard: dead -> (gone). Deletes dead letters, with an audit row.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- ARGV[1]  group
-- ARGV[2]  the operator
-- ARGV[3]  the filter, in words; '' for ids
-- ARGV[4]  id of the audit row of the step before; '' for the first step
-- ARGV[5 ..]  ids of dead letters (at most 1000)
-- Returns  how many were deleted, and the id of the audit row ('' if there is none yet)

-- include: audit.inc.lua
-- include: audited_steps.inc.lua

local row, refused = row_before(KEYS[2], ARGV[4])
if refused then return refused end
local letters = {}
for a = 5, #ARGV do
  if redis.call('XDEL', KEYS[1], ARGV[a]) == 1 then letters[#letters + 1] = ARGV[a] end
end
if #letters == 0 then return {0, ARGV[4]} end
local facts = {'action', 'discard', 'group', ARGV[1], 'by', ARGV[2]}
if ARGV[3] ~= '' then facts[7], facts[8] = 'filter', ARGV[3] end
return {#letters, write_row(KEYS[2], ARGV[4], row, facts, #letters, {'letters', letters})}
