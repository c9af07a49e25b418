-- erase: deletes entries in any state, with an audit row. Groups and lanes drop their own rows of
-- such entries when they come to them, as after any deletion.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  audit stream
-- ARGV[1]  the operator
-- ARGV[2]  id of the audit row of the step before; '' for the first step
-- ARGV[3 ..]  entry ids (1 to 500)
-- Returns  how many were deleted, and the id of the audit row ('' if there is none yet)

-- include: audit.inc.lua
-- include: audited_steps.inc.lua

local row, refused = row_before(KEYS[2], ARGV[2])
if refused then return refused end
local count = redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
if count == 0 then return {0, ARGV[2]} end
return {count, write_row(KEYS[2], ARGV[2], row, {'action', 'erase', 'by', ARGV[1]}, count, {})}
