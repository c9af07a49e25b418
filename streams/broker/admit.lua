-- admit: who of the entries that were fetched may start now. All limits of an entry are taken at once or none is; who has
-- to wait reserves its place in the limit that lets it start last, so one that waits for one limit holds up no other.
-- Decided by the server's clock at the start itself, so a rate holds exactly, however late a worker comes back.
--
-- KEYS[1]     hash of the limits that were set at run time
-- KEYS[2 ..]  state of a limit for a key of an event, named PREFIX .. limit .. '=' .. key of the event
-- ARGV[1]  length of PREFIX
-- ARGV[2]  how many limits follow; three of each: name, interval in microseconds (0: no rate), burst
-- ARGV[..] then per entry: how many limits, and three of each: index of its state's key, number of the limit, what is
--          reserved there (0 nothing, 1 a place, 2 a place of those who came late)
-- Returns  three integers per entry: -1 and two zeros if it may start, else ms to wait, which of its limits reserved
--          a place (from 1), and what it is (1 or 2)

-- include: limits.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local prefix, known = tonumber(ARGV[1]), tonumber(ARGV[2])
local set, stored = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do set[stored[i]] = stored[i + 1] end

local declared, at = {}, 3
for i = 1, known do
  declared[i] = {ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2])}
  at = at + 3
end

-- State and rule of a key, read once per call.
local states = {}
local function state_of(k, number)
  local state = states[k]
  if state then return state end
  state = read_state(KEYS[k])
  local name, interval, burst = declared[number][1], declared[number][2], declared[number][3]
  local text = set[string.sub(KEYS[k], prefix + 1)] or set[name]
  local wanted, many = string.match(text or '', '^(%d+) (%d+)$')
  if wanted then interval, burst = tonumber(wanted), tonumber(many) end
  state.interval, state.tolerance = interval, interval * (burst - 1)
  -- The limit was changed: whoever has a place is brought back, and gets another one.
  if state.I ~= interval then state.R, state.L, state.I = state.S, state.S, interval end
  -- A start never leads further than this: the clock was set back, or the limit was raised. All moves by as much.
  local ahead = state.S - (now + state.tolerance + interval)
  if ahead > 0 then
    state.S, state.R, state.L = state.S - ahead, math.max(0, state.R - ahead), math.max(0, state.L - ahead)
  end
  states[k] = state
  return state
end

-- When an entry may start under one limit (0: now), and the frontier that a reservation would move.
local function earliest(state, reserved)
  local tolerance, from = state.tolerance, 0
  if reserved == 0 then
    from = math.max(state.S, state.R, state.L)
    if from - tolerance <= now and state.B <= now then return 0 end
    return math.max(from - tolerance, state.B), 'R'
  end
  local late = state.L - tolerance > now
  if state.S - tolerance <= now and state.B <= now and (reserved == 2 or not late) then return 0 end
  from = math.max(state.S, state.L)
  return math.max(from - tolerance, state.B), 'L'
end

local results = {}
while at <= #ARGV do
  local count = tonumber(ARGV[at])
  local latest, which, frontier = 0, 0, nil
  for i = 1, count do
    local p = at + 1 + 3 * (i - 1)
    local state = state_of(tonumber(ARGV[p]), tonumber(ARGV[p + 1]))
    local start, moved = earliest(state, tonumber(ARGV[p + 2]))
    if start > latest then latest, which, frontier = start, i, moved end
  end
  if which == 0 then
    for i = 1, count do
      local p = at + 1 + 3 * (i - 1)
      local state = states[tonumber(ARGV[p])]
      state.S = math.max(state.S, now) + state.interval
      if ARGV[p + 2] == '0' then state.R = math.max(state.R, now) + state.interval end
      state.changed = true
    end
    local n = #results
    results[n + 1], results[n + 2], results[n + 3] = -1, 0, 0
  else
    local state = states[tonumber(ARGV[at + 1 + 3 * (which - 1)])]
    local from = math.max(state.S, state.L, frontier == 'R' and state.R or 0, state.B)
    if state.B > now then from = math.max(from, state.B + state.tolerance) end
    state[frontier] = from + state.interval
    state.changed = true
    local n = #results
    results[n + 1], results[n + 2] = math.max(1, math.ceil((latest - now) / 1000)), which
    results[n + 3] = frontier == 'R' and 1 or 2
  end
  at = at + 1 + 3 * count
end
for k, state in pairs(states) do
  if state.changed then write_state(KEYS[k], state, now) end
end
return results
