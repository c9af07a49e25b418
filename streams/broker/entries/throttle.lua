-- throttle: nothing of one key starts for some time. An entry that has a place reserved comes back
-- at its time, and then waits on.
--
-- KEYS[1]  state of a limit for a key of an event
-- ARGV[1]  for how many ms; 0 ends it
-- Returns  until when (Unix time, ms)

-- include: limits.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local state, wait = read_state(KEYS[1]), tonumber(ARGV[1]) * 1000
if wait == 0 then
  state.B = 0
else
  -- For a start it is the same whether S is now or earlier. It tells when this was written, should the clock be set back.
  state.B, state.S = math.max(state.B, now + wait), math.max(state.S, now)
end
write_state(KEYS[1], state, now)
return math.floor(math.max(state.B, now) / 1000)
