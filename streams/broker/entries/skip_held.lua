-- skip (by key): an operator lets a held key go on without its dead head, and that is written down.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring; then the audit stream
-- ARGV[1]  group
-- ARGV[2]  order key
-- ARGV[3]  its head, as the operator saw it
-- ARGV[4]  the operator
-- ARGV[5]  the waiting consumer
-- ARGV[6]  how many levels
-- ARGV[7 ..]  the levels
-- Returns  1 it goes on, 0 it is not held like that any more

-- include: members.inc.lua
-- include: lanes.inc.lua

local heads_key, audit_key = KEYS[1], KEYS[#KEYS]
local kind = redis.call('TYPE', audit_key)['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. audit_key .. ' holds a ' .. kind)
end
know(1, 7, tonumber(ARGV[6]), ARGV[1], ARGV[5])
if redis.call('HGET', heads_key, ARGV[2]) ~= ARGV[3] then return 0 end
redis.call('HDEL', heads_key, ARGV[2])
follow(ARGV[2])
redis.call('XADD', audit_key, 'MAXLEN', '~', 10000, '*', 'action', 'key skipped', 'group', ARGV[1], 'key', ARGV[2],
  'by', ARGV[4])
return 1
