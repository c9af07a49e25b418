-- track: notes a state of a tracked event. States have ranks and only move forward: a note that
-- comes late or twice is added to the timeline and changes no state.
--
-- KEYS[1]  hash of the tracked event, expiring
-- KEYS[2]  hash of totals of the stream
-- KEYS[3 ..]  hashes of counters, expiring
-- ARGV[1]  state
-- ARGV[2]  its rank
-- ARGV[3]  ms for which the event is kept
-- ARGV[4]  further facts of the timeline's row: '' or ,"name":value,... as JSON
-- ARGV[5]  rows of the timeline to keep
-- ARGV[6]  1: begin anew, whatever the state was (a replay)
-- ARGV[7]  how many counters follow
-- ARGV[8 ..]  five per counter: index of its key, its field, the amount by which it grows, ms for
--             which it is kept, and 1 if it grows with the first note of the event instead of with
--             the state. Then fields and values to set if the state moved; '' removes the field
-- Returns  {1 the state moved | 0 it stays, the state before or ''}

-- include: clock.inc.lua
-- include: members.inc.lua

local at = now_seconds()
local state, rank = ARGV[1], tonumber(ARGV[2])
local known = redis.call('HMGET', KEYS[1], 'state', 'rank', 'rows')
local before, rows = known[1] or '', finite(known[3], 0)
local moved = not known[2] or rank >= finite(known[2], rank) or ARGV[6] == '1'
local row = '{"at":' .. at .. ',"state":"' .. state .. '"' .. ARGV[4] .. '}'
redis.call('HSET', KEYS[1], 'rows', rows + 1, 'row:' .. rows, row)
local most = tonumber(ARGV[5])
if rows >= most then redis.call('HDEL', KEYS[1], 'row:' .. (rows - most)) end
if moved then
  redis.call('HSET', KEYS[1], 'state', state, 'rank', rank)
  local counters = tonumber(ARGV[7])
  for i = 8 + 5 * counters, #ARGV, 2 do
    if ARGV[i + 1] == '' then
      redis.call('HDEL', KEYS[1], ARGV[i])
    else
      redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
    end
  end
  if before ~= state then redis.call('HINCRBY', KEYS[2], state, 1) end
  for i = 8, 7 + 5 * counters, 5 do
    local k = tonumber(ARGV[i])
    if (ARGV[i + 4] == '1' and before == '') or (ARGV[i + 4] ~= '1' and before ~= state) then
      redis.call('HINCRBY', KEYS[k], ARGV[i + 1], ARGV[i + 2])
      redis.call('PEXPIRE', KEYS[k], ARGV[i + 3])
    end
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return {moved and 1 or 0, before}
