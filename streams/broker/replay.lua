-- replay: dead -> pending. Puts dead letters back on their level with their event id, counts the replay, and takes them
-- out of the dead letters, in one step per call. Names the group, so that on a stream with several groups the others
-- do not handle the event a second time.
-- The first write is an XADD, so a server without memory moves nothing.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- KEYS[3]  config hash of the stream
-- KEYS[4 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  who replays
-- ARGV[3]  n, how many levels
-- ARGV[4 .. 3+n]  the level of KEYS[4], KEYS[5], ...
-- ARGV[4+n ..]    ids of dead letters
-- Returns  per id: level|entry id of the new entry, or '' if there is no such dead letter (any more); NOGROUP and nothing
--           moved if the group was dropped

-- include: put_back.inc.lua

local key_of, n = {}, tonumber(ARGV[3])
for i = 1, n do
  if not takes(KEYS[3 + i], KEYS[3], ARGV[1]) then return redis.error_reply('NOGROUP ' .. ARGV[1]) end
  key_of[ARGV[3 + i]] = KEYS[3 + i]
end
local results, moved = {}, {}
for a = 4 + n, #ARGV do
  local place = put_back(KEYS[1], ARGV[a], key_of, ARGV[1], {})
  results[#results + 1] = place
  if place ~= '' then moved[#moved + 1] = place end
end
if #moved > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'replay', 'group', ARGV[1], 'by', ARGV[2],
    'count', #moved, 'entries', table.concat(moved, ' '))
end
return results
