-- admit: who of the entries that were fetched may start now. All limits of an entry are taken at once or none is; who has
-- to wait reserves its place in the limit that lets it start last, so one that waits for one limit holds up no other.
-- Decided by the server's clock at the start itself, so a rate holds exactly, however late a worker comes back.
-- A slot of a limited concurrency is held by the entry itself, for as long as it is pending with a consumer that was heard
-- of within its lease. Whoever finds none goes to the end of the key's queue; who gives one back hands it on (hand_over).
--
-- KEYS[1]     hash of the limits that were set at run time
-- KEYS[2]     retry ZSET of the group
-- KEYS[3]     hash of what is paused
-- KEYS[4]     hash of the group's queues
-- KEYS[5]     leases of the group
-- KEYS[6]     workers of the group
-- KEYS[7 ..]  the streams of all levels; then, by the indexes below, states of limits for keys of events, named
--             PREFIX .. limit .. '=' .. key, their taken slots (ZSET), and their queues (ZSET)
-- ARGV[1]  group
-- ARGV[2]  the parking consumer
-- ARGV[3]  lease in ms
-- ARGV[4]  length of PREFIX
-- ARGV[5]  how many levels follow, in the order of their streams
-- ARGV[..] then how many limits follow; four of each: name, interval in microseconds (0: no rate), burst, concurrency
--          (0: any)
-- ARGV[..] then per entry: level, entry id, how many limits, and five of each: index of its state's key, number of the
--          limit, what is reserved there (0 nothing, 1 a place, 2 a place of those who came late), indexes of its slots
--          and of its queue (0: none)
-- Returns  three integers per entry: -1 and two zeros if it may start, else ms to wait, which of its limits lets it wait
--          (from 1), and what was reserved (1 or 2; 0: a place in the queue)

-- include: leases.inc.lua
-- include: limits.inc.lua
-- include: members.inc.lua
-- include: slots.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local group, parking, lease, prefix = ARGV[1], ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local key_of, at = {}, 6 + tonumber(ARGV[5])
for i = 1, tonumber(ARGV[5]) do key_of[ARGV[5 + i]] = KEYS[6 + i] end
local known, lease_of = tonumber(ARGV[at]), lease_reader(KEYS[5], KEYS[6], lease)
at = at + 1
local set, stored = {}, redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do set[stored[i]] = stored[i + 1] end

local declared = {}
for i = 1, known do
  declared[i] = {ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])}
  at = at + 4
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
  local is_same = state.I == interval or state.I == 0
  -- The limit was changed: whoever has a place is brought back, and gets another one.
  if state.I ~= interval then state.R, state.L, state.I = state.S, state.S, interval end
  -- A start never leads further than this: the clock was set back, or the limit was raised. All moves by as much.
  local ahead = state.S - (now + state.tolerance + interval)
  if ahead > 0 then
    state.S, state.R, state.L = state.S - ahead, math.max(0, state.R - ahead), math.max(0, state.L - ahead)
    if is_same then state.B = math.max(0, state.B - ahead) end -- By the rule it was not: `throttle` left its time in S.
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

-- What stands in a queue and cannot start is no reason to wait; who can is told, in case nobody has.
local there
local function pass_on(b, q, free)
  if not there then
    local paused, all = paused_levels(KEYS[3], group)
    there = {
      key_of = key_of, group = group, parking = parking, paused = paused, now = now, all = all,
      soon = string.format('%.0f', math.floor(now / 1000)), take = function() return false end,
    }
  end
  if not there.all then hand_on(KEYS[b], KEYS[q], KEYS[2], free, there) end
end

-- Whether a slot is free for an entry, those before it in the queue considered.
local looked, nth = {}, 0
local function has_slot(p, member)
  local b, q, most = tonumber(ARGV[p + 3]), tonumber(ARGV[p + 4]), declared[tonumber(ARGV[p + 1])][4]
  if b == 0 or redis.call('ZSCORE', KEYS[b], member) then return true end
  local free = most - redis.call('ZCARD', KEYS[b])
  if free <= 0 and not looked[b] then
    looked[b] = true
    drop_lost_slots(KEYS[b], key_of, group, parking, lease_of, now)
    free = most - redis.call('ZCARD', KEYS[b])
  end
  local before = redis.call('ZRANK', KEYS[q], member) or redis.call('ZCARD', KEYS[q])
  if free > 0 and before > 0 and not looked[q] then
    looked[q] = true
    pass_on(b, q, free)
    free = most - redis.call('ZCARD', KEYS[b])
    before = redis.call('ZRANK', KEYS[q], member) or redis.call('ZCARD', KEYS[q])
  end
  return free > 0 and before < free
end

-- The limit of an entry that makes it wait longest for its rate, else the first one without a free slot.
local function what_holds(count, member)
  local latest, which, frontier = 0, 0, nil
  for i = 1, count do
    local p = at + 3 + 5 * (i - 1)
    local start, moved = earliest(state_of(tonumber(ARGV[p]), tonumber(ARGV[p + 1])), tonumber(ARGV[p + 2]))
    if start > latest then latest, which, frontier = start, i, moved end
  end
  if which > 0 then return which, frontier, latest end
  for i = 1, count do
    if not has_slot(at + 3 + 5 * (i - 1), member) then return i end
  end
  return 0
end

local results = {}
while at <= #ARGV do
  local member, count = ARGV[at] .. '|' .. ARGV[at + 1], tonumber(ARGV[at + 2])
  local which, frontier, latest = what_holds(count, member)
  local n = #results
  nth = nth + 1
  if which == 0 then
    for i = 1, count do
      local p = at + 3 + 5 * (i - 1)
      local state, b = states[tonumber(ARGV[p])], tonumber(ARGV[p + 3])
      state.S = math.max(state.S, now) + state.interval
      if ARGV[p + 2] == '0' then state.R = math.max(state.R, now) + state.interval end
      state.changed = true
      if b > 0 then
        redis.call('ZADD', KEYS[b], string.format('%.0f', now), member)
        redis.call('PEXPIRE', KEYS[b], KEPT)
        redis.call('ZREM', KEYS[tonumber(ARGV[p + 4])], member)
      end
    end
    results[n + 1], results[n + 2], results[n + 3] = -1, 0, 0
  else
    -- Who waits holds no slot, not even one that was handed over a moment ago. Taken back here and not when it is put
    -- aside: by then it may be due, and have a slot again.
    for i = 1, count do
      local b = tonumber(ARGV[at + 3 + 5 * (i - 1) + 3])
      if b > 0 then redis.call('ZREM', KEYS[b], member) end
    end
  end
  if which > 0 and frontier then
    local state = states[tonumber(ARGV[at + 3 + 5 * (which - 1)])]
    local from = math.max(state.S, state.L, frontier == 'R' and state.R or 0, state.B)
    if state.B > now then from = math.max(from, state.B + state.tolerance) end
    state[frontier] = from + state.interval
    state.changed = true
    results[n + 1], results[n + 2] = math.max(1, math.ceil((latest - now) / 1000)), which
    results[n + 3] = frontier == 'R' and 1 or 2
  elseif which > 0 then
    -- One microsecond apart, so that the order of the call is the order of the queue.
    local queue = KEYS[tonumber(ARGV[at + 3 + 5 * (which - 1) + 4])]
    redis.call('ZADD', queue, 'NX', string.format('%.0f', now + nth), member)
    local state_key = KEYS[tonumber(ARGV[at + 3 + 5 * (which - 1)])]
    local most = declared[tonumber(ARGV[at + 3 + 5 * (which - 1) + 1])][4]
    redis.call('HSET', KEYS[4], string.sub(state_key, prefix + 1), most)
    -- The first in the queue looks whether slots were lost; the others are told.
    local first = redis.call('ZRANK', queue, member) == 0
    results[n + 1], results[n + 2], results[n + 3] = first and lease or FAR, which, 0
  end
  at = at + 3 + 5 * count
end
for k, state in pairs(states) do
  if state.changed then write_state(KEYS[k], state, now) end
end
return results
