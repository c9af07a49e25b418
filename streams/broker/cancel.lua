-- cancel (retrying events): retrying -> (gone). Ends the life of entries in a group that wait for a retry, and writes down
-- who did. An entry that somebody holds is left alone: the parking consumer owns what waits, and nothing else.
-- The first write frees memory, so a server without any allows it, and with it the rest.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  audit stream
-- KEYS[5]  config hash of the stream
-- ARGV[1]  group
-- ARGV[2]  the parking consumer
-- ARGV[3]  who cancels
-- ARGV[4]  level
-- ARGV[5 ..]  entry ids (1 to 500)
-- Returns  one integer per entry: 1 cancelled, 0 not waiting for a retry (any more)

-- include: finish.inc.lua

local kind = redis.call('TYPE', KEYS[4])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[4] .. ' holds a ' .. kind)
end
local results, ids, members = {}, {}, {}
for i = 5, #ARGV do
  local held = redis.call('XPENDING', KEYS[1], ARGV[1], ARGV[i], ARGV[i], 1)
  results[i - 4] = 0
  if #held == 1 and held[1][2] == ARGV[2] then
    redis.call('XACK', KEYS[1], ARGV[1], ARGV[i])
    results[i - 4] = 1
    ids[#ids + 1] = ARGV[i]
    members[#members + 1] = ARGV[4] .. '|' .. ARGV[i]
  end
end
if #ids == 0 then return results end
delete_finished(KEYS[1], KEYS[5], ARGV[1], ids)
redis.call('HDEL', KEYS[3], unpack(members))
redis.call('ZREM', KEYS[2], unpack(members))
redis.call('XADD', KEYS[4], 'MAXLEN', '~', 10000, '*', 'action', 'cancel', 'group', ARGV[1], 'by', ARGV[3],
  'count', #ids, 'entries', table.concat(members, ' '))
return results
