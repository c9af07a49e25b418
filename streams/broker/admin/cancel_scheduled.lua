-- cancel (scheduled events): scheduled -> (gone). Takes delayed events out before they enter their stream, and writes
-- down who did. The first write frees memory, so a server without any allows it, and with it the rest.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- KEYS[3]  audit stream
-- ARGV[1]  who cancels
-- ARGV[2 ..]  members (level|event id; 1 to 500)
-- Returns  one integer per member: 1 cancelled, 0 not scheduled (any more)

local kind = redis.call('TYPE', KEYS[3])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[3] .. ' holds a ' .. kind)
end
local results, members = {}, {}
for i = 2, #ARGV do
  results[i - 1] = redis.call('ZREM', KEYS[1], ARGV[i])
  redis.call('HDEL', KEYS[2], ARGV[i])
  if results[i - 1] == 1 then members[#members + 1] = ARGV[i] end
end
if #members > 0 then
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', 10000, '*', 'action', 'cancel', 'by', ARGV[1],
    'count', #members, 'events', table.concat(members, ' '))
end
return results
