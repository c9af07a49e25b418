-- cancel (scheduled events): scheduled -> (gone). Removes delayed events before they enter their
-- stream, with an audit row.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- KEYS[3]  audit stream
-- ARGV[1]  the operator
-- ARGV[2 ..]  members (level|event id; 1 to 500)
-- Returns  one integer per member: 1 cancelled, 0 not scheduled (any more)

-- include: audit.inc.lua

local wrong = wrong_audit(KEYS[3])
if wrong then return wrong end
local results, members = {}, {}
for i = 2, #ARGV do
  results[i - 1] = redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
  if results[i - 1] == 1 then members[#members + 1] = ARGV[i] end
end
if #members > 0 then
  write_audit(KEYS[3], 'action', 'cancel', 'by', ARGV[1],
    'count', #members, 'events', table.concat(members, ' '))
end
return results
