-- Shared by the scripts that know limits (included as text, still a constant script).
-- The state of a limit for one key of an event has these times, all in microseconds of the server's
-- clock.
-- `S` is the theoretical arrival time (GCRA) of what has started.
-- A start at `now` is allowed if S - tolerance <= now.
-- `R` is the same for entries that have a place reserved: a new entry goes behind it.
-- `L` is the same for entries that came back to their place too late, because a worker was away or
-- busy.
-- `B` is the time before which nothing starts (Throttle).
-- `I` is the interval that it was written with: places reserved by another one are void.
-- A key without state is idle: nothing of it is reserved, and a whole burst may start.

local function read_state(key)
  local state = {S = 0, R = 0, L = 0, B = 0, I = 0}
  local text = redis.call('GET', key)
  if text then
    local s, r, l, b, i = string.match(text, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    if s then state = {S = tonumber(s), R = tonumber(r), L = tonumber(l), B = tonumber(b), I = tonumber(i)} end
  end
  return state
end

-- Kept until it is idle again, and no longer.
local function write_state(key, state, now)
  local last = math.max(state.S, state.R, state.L, state.B)
  if last <= now then
    redis.call('UNLINK', key)
  else
    local text = string.format('%.0f %.0f %.0f %.0f %.0f', state.S, state.R, state.L, state.B, state.I)
    redis.call('SET', key, text, 'PX', string.format('%.0f', math.ceil((last - now) / 1000)))
  end
end
