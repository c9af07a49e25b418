-- replay_edited: dead -> pending. As replay, for one dead letter whose body is replaced.
-- The first write is an XADD, so a server without memory moves nothing.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- KEYS[3]  config hash of the stream
-- KEYS[4]  stream of the level
-- ARGV[1]  group
-- ARGV[2]  the operator
-- ARGV[3]  level
-- ARGV[4]  id of the dead letter
-- ARGV[5]  the body
-- Returns  level|entry id of the new entry, or '' if there is no such dead letter (any more);
--           NOGROUP and nothing moved if the group was dropped

-- include: audit.inc.lua
-- include: put_back.inc.lua

if not takes(KEYS[4], KEYS[3], ARGV[1]) then return redis.error_reply('NOGROUP ' .. ARGV[1]) end
local place = put_back(KEYS[1], ARGV[4], {[ARGV[3]] = KEYS[4]}, ARGV[1], {data = ARGV[5]})
if place ~= '' then
  write_audit(KEYS[2], 'action', 'edit-and-replay', 'group', ARGV[1], 'by', ARGV[2],
    'count', 1, 'entries', place)
end
return place
