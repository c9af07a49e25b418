-- cancel (retrying events): retrying -> (gone). Ends entries that wait for a retry in a group, with
-- an audit row.
-- Only delayed entries wait for a retry; entries of other consumers are left alone.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  audit stream
-- KEYS[5]  config hash of the stream
-- KEYS[6]  heads hash of the group
-- KEYS[7]  behind ZSET of the group
-- KEYS[8]  rules hash of the group
-- KEYS[9 ..]  per level, highest first: its stream, its lane and its ring; then the admissions
--             hash of the group
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries
-- ARGV[3]  the operator
-- ARGV[4]  level
-- ARGV[5]  the waiting consumer
-- ARGV[6]  how many levels
-- ARGV[7 ..]  the levels, then entry ids (1 to 500)
-- Returns  one integer per entry: 1 cancelled, 0 not waiting for a retry (any more)

-- include: audit.inc.lua
-- include: finish.inc.lua
-- include: members.inc.lua
-- include: lanes.inc.lua
-- include: admissions.inc.lua

local wrong = wrong_audit(KEYS[4])
if wrong then return wrong end
local count = tonumber(ARGV[6])
know(6, 7, count, ARGV[1], ARGV[5])
local by_key = redis.call('EXISTS', KEYS[8]) == 1
local results, ids, members, ended = {}, {}, {}, {}
for i = 7 + count, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  results[#results + 1] = 0
  if #held == 1 and held[1][2] == ARGV[2] then
    local stored = by_key and redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i])[1]
    local member = ARGV[4] .. '|' .. ARGV[i]
    ended[#ended + 1] = stored and key_headed(attributes(stored[2]), member) or nil
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    results[#results] = 1
    ids[#ids + 1] = ARGV[i]
    members[#members + 1] = member
  end
end
if #ids == 0 then return results end
delete_finished(KEYS[1], KEYS[5], ARGV[1], ids)
redis.call('HDEL', KEYS[3], unpack(members))
redis.call('ZREM', KEYS[2], unpack(members))
for _, member in ipairs(members) do let_go(KEYS[#KEYS], KEYS[2], member) end
for _, order in ipairs(ended) do follow(order) end -- The key goes on without its first event.
write_audit(KEYS[4], 'action', 'cancel', 'group', ARGV[1], 'by', ARGV[3],
  'count', #ids, 'entries', table.concat(members, ' '))
return results
