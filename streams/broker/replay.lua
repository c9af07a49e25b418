-- replay: dead -> pending. Puts dead letters back on their level with their event id, counts the replay, and takes them
-- out of the dead letters, in one step per call. Names the group, so that on a stream with several groups the others
-- do not handle the event a second time.
-- The first write is an XADD, so a server without memory moves nothing.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- KEYS[3 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  who replays
-- ARGV[3]  n, how many levels
-- ARGV[4 .. 3+n]  the level of KEYS[3], KEYS[4], ...
-- ARGV[4+n ..]    ids of dead letters
-- Returns  per id: level|entry id of the new entry, or '' if there is no such dead letter (any more)

local key_of, n = {}, tonumber(ARGV[3])
for i = 1, n do key_of[ARGV[3 + i]] = KEYS[2 + i] end
local results, count = {}, 0
for a = 4 + n, #ARGV do
  local dead = redis.call('XRANGE', KEYS[1], ARGV[a], ARGV[a])
  local result = ''
  if #dead == 1 then
    local stored, own, i = dead[1][2], {}, 1
    while i < #stored do
      own[stored[i]] = stored[i + 1]
      i = i + 2
      if stored[i - 2] == 'raw' then break end
    end
    local key = key_of[own['level']]
    if key then
      local fields, has_id, replays = {}, false, 0
      for f = i, #stored, 2 do
        if stored[f] == 'replays' then
          replays = tonumber(stored[f + 1]) or 0
        elseif stored[f] ~= 'group' then
          if stored[f] == 'id' and stored[f + 1] ~= '' then has_id = true end
          fields[#fields + 1] = stored[f]
          fields[#fields + 1] = stored[f + 1]
        end
      end
      if not has_id then
        fields[#fields + 1] = 'id'
        fields[#fields + 1] = own['level'] .. '|' .. own['entry']
      end
      fields[#fields + 1] = 'replays'
      fields[#fields + 1] = tostring(replays + 1)
      fields[#fields + 1] = 'group'
      fields[#fields + 1] = ARGV[1]
      result = own['level'] .. '|' .. redis.call('XADD', key, '*', unpack(fields))
      redis.call('XDEL', KEYS[1], ARGV[a])
      count = count + 1
    end
  end
  results[#results + 1] = result
end
if count > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'replay', 'group', ARGV[1], 'by', ARGV[2], 'count', count)
end
return results
