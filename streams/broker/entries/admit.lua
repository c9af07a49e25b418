-- admit: decides which of the entries that were fetched may start now. Asked once for all of them,
-- after each was read as an event and before any starts: a pause by attribute first, then its
-- limits. An entry that may not start is deferred in the same step. Its row of admissions tells
-- what it waits for, and what it has at limits.
-- The pause of a circuit breaker lets one entry through when it is time to try: its probe.
-- All limits of an entry are taken at once or none is. An entry that has to wait reserves its place
-- in the limit that lets it start last, so an entry that waits for one limit holds up no other.
-- The server's clock decides at the start itself, so a rate holds exactly, however late a worker
-- comes back.
-- A slot of a limited concurrency is held by the entry itself, for as long as it is pending with a
-- consumer that was heard of within its lease. An entry that finds no free slot goes to the end of
-- the key's queue. An entry that gives a slot back transfers it to the next in the queue
-- (hand_over).
--
-- KEYS[1]     hash of the limits that were set at run time
-- KEYS[2]     retry ZSET of the group
-- KEYS[3]     hash of what is paused
-- KEYS[4]     hash of the group's queues
-- KEYS[5]     leases of the group
-- KEYS[6]     workers of the group
-- KEYS[7]     admissions hash of the group
-- KEYS[8]     config hash of the stream
-- KEYS[9]     attempts hash of the group
-- KEYS[10 ..]  the streams of all levels; then, by the indexes below, states of limits for keys of events, named
--             PREFIX .. limit .. '=' .. key, their taken slots (ZSET), and their queues (ZSET)
-- ARGV[1]  group
-- ARGV[2]  consumer that must own the entries
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  lease in ms
-- ARGV[5]  length of PREFIX
-- ARGV[6]  how many levels follow, in the order of their streams
-- ARGV[..] then how many limits follow; four of each: name, interval in microseconds (0: no rate),
--             burst, concurrency (0: any)
-- ARGV[..] then per entry: level, entry id, delivery count that must match, how many scopes of
--             pauses by attribute cover it, and these; how many limits, and five of each.
--             The five are: index of its state's key, number of the limit, reservation, indexes of
--             its slots and of its queue (0: none). The reservation is the one that an older
--             version tells of: 0 nothing, 1 a place, 2 a place of the entries that came late.
-- Returns  four integers per entry: what was decided, ms to wait, by which of its scopes or limits
--           (from 1), and which of its scopes lets it through as the probe (0: none).
--           The decision is one of: 1 it may start, 2 a pause, 3 a circuit breaker, 4 a rate, 5 no
--           slot is free, 0 lease lost, -1 the entry itself is gone.

-- include: holds.inc.lua
-- include: leases.inc.lua
-- include: limits.inc.lua
-- include: members.inc.lua
-- include: admissions.inc.lua
-- include: slots.inc.lua

local START, PAUSED, BREAKER, RATE, SLOT, LOST, GONE = 1, 2, 3, 4, 5, 0, -1
-- Looked at before anything is written: a script that fails half way leaves what it did.
for k, wanted in pairs({[2] = 'zset', [7] = 'hash'}) do
  local kind = redis.call('TYPE', KEYS[k])['ok']
  if kind ~= 'none' and kind ~= wanted then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[k] .. ' holds a ' .. kind)
  end
end
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local now_ms = math.floor(now / 1000)
local group, consumer, parking, lease, prefix = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local key_of, at = {}, 7 + tonumber(ARGV[6])
for i = 1, tonumber(ARGV[6]) do key_of[ARGV[6 + i]] = KEYS[9 + i] end
local known, lease_of = tonumber(ARGV[at]), lease_reader(KEYS[5], KEYS[6], lease)
at = at + 1
local set, declared = {}, {}
if known > 0 then
  local stored = redis.call('HGETALL', KEYS[1])
  for i = 1, #stored, 2 do set[stored[i]] = stored[i + 1] end
end
for i = 1, known do
  declared[i] = {ARGV[at], tonumber(ARGV[at + 1]), tonumber(ARGV[at + 2]), tonumber(ARGV[at + 3])}
  at = at + 4
end

-- The next entry that is asked for: its place, the scopes that cover it, and its limits.
local function next_entry()
  local entry = {level = ARGV[at], id = ARGV[at + 1], count = tonumber(ARGV[at + 2]), scopes = {}, limits = {}}
  entry.member = entry.level .. '|' .. entry.id
  local scopes = tonumber(ARGV[at + 3])
  for i = 1, scopes do entry.scopes[i] = ARGV[at + 3 + i] end
  at = at + 4 + scopes
  local limits = tonumber(ARGV[at])
  for i = 1, limits do
    local p = at + 1 + 5 * (i - 1)
    entry.limits[i] = {
      state = tonumber(ARGV[p]), number = tonumber(ARGV[p + 1]), reserved = tonumber(ARGV[p + 2]),
      busy = tonumber(ARGV[p + 3]), queue = tonumber(ARGV[p + 4]),
    }
  end
  at = at + 1 + 5 * limits
  return entry
end

-- name=key of a limit's state.
local function name_of(k) return string.sub(KEYS[k], prefix + 1) end

-- Whether an entry is still this consumer's; looked up once, and only where something is to be written about it.
local function is_mine(entry)
  if entry.mine == nil then
    local key = key_of[entry.level]
    entry.mine = holds(key, KEYS[8], group, consumer, entry.id, entry.count)
  end
  return entry.mine
end

-- State and rule of a key, read once per call.
local states = {}
local function state_of(k, number)
  local state = states[k]
  if state then return state end
  state = read_state(KEYS[k])
  local name, interval, burst = declared[number][1], declared[number][2], declared[number][3]
  local text = set[name_of(k)] or set[name]
  local wanted, many = string.match(text or '', '^(%d+) (%d+)$')
  if wanted then interval, burst = tonumber(wanted), tonumber(many) end
  state.interval, state.tolerance = interval, interval * (burst - 1)
  local is_same = state.I == interval or state.I == 0
  -- The limit was changed: an entry that has a place is brought back, and gets another one.
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

-- An entry that stands in a queue and cannot start is no reason to wait. An entry that can start is
-- told, in case no other script has told it.
local there
local function pass_on(b, q, free)
  if not there then
    local paused, all = paused_levels(KEYS[3], group)
    there = {
      key_of = key_of, admissions = KEYS[7], group = group, parking = parking, paused = paused, now = now, all = all,
      soon = string.format('%.0f', now_ms), take = function() return false end,
    }
  end
  if not there.all then hand_on(KEYS[b], KEYS[q], KEYS[2], free, there) end
end

-- Whether a slot is free for an entry, those before it in the queue considered.
local looked, nth = {}, 0
local function has_slot(limit, member)
  local b, q, most = limit.busy, limit.queue, declared[limit.number][4]
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

-- The pause that holds an entry, by its number, and until when (ms); the pauses of circuit breakers may let it through.
local function what_pauses(entry)
  for n, scope in ipairs(entry.scopes) do
    local stored = redis.call('HGET', KEYS[3], scope)
    if stored then
      local ok, pause = pcall(cjson.decode, stored)
      if not (ok and type(pause) == 'table' and type(pause.probe) == 'number' and type(pause.every) == 'number') then
        return PAUSED, n, now_ms + FAR
      end
      if not is_mine(entry) then return LOST, n end
      -- The entry that is to probe still can.
      if pause.scout ~= entry.member and type(pause.scout) == 'string' and pending_row(key_of, group, pause.scout) then
        return BREAKER, n, now_ms + FAR
      end
      local due = pause.probe
      if now_ms >= pause.probe then
        due, entry.probes, pause.probe = nil, n, now_ms + pause.every
      end
      pause.scout = entry.member
      redis.call('HSET', KEYS[3], scope, cjson.encode(pause))
      if due then return BREAKER, n, due end
    end
  end
end

-- The limit of an entry that makes it wait longest for its rate, else the first one without a free slot.
local function what_limits(entry)
  local latest, which, frontier = 0, nil, nil
  for i, limit in ipairs(entry.limits) do
    local start, moved = earliest(state_of(limit.state, limit.number), limit.reserved)
    if start > latest then latest, which, frontier = start, i, moved end
  end
  if which then return RATE, which, latest, frontier end
  for i, limit in ipairs(entry.limits) do
    if not has_slot(limit, entry.member) then return SLOT, i end
  end
end

-- Gives back what an entry had at limits that its handler has no more, as a deploy declares them.
local function leave_others(entry, kept)
  for _, name in ipairs(entry.row and entry.row.slots or {}) do
    if not kept[name] then free_slots(KEYS[7], KEYS[2], entry.member, {slots = {name}}, true) end
  end
end

local function take_part(entry)
  local slots, kept = {}, {}
  for _, limit in ipairs(entry.limits) do
    local state, b, q = states[limit.state], limit.busy, limit.queue
    state.S = math.max(state.S, now) + state.interval
    if limit.reserved == 0 then state.R = math.max(state.R, now) + state.interval end
    state.changed = true
    if b > 0 then
      redis.call('ZADD', KEYS[b], string.format('%.0f', now), entry.member)
      redis.call('PEXPIRE', KEYS[b], KEPT)
      slots[#slots + 1] = name_of(limit.state)
      kept[slots[#slots]] = true
      if redis.call('ZREM', KEYS[q], entry.member) == 1 then
        -- More than one slot may have become free since an entry in the queue was told.
        local free = declared[limit.number][4] - redis.call('ZCARD', KEYS[b])
        if free > 0 then pass_on(b, q, free) end
      end
    end
  end
  leave_others(entry, kept)
  if #slots > 0 then
    write_admission(KEYS[7], entry.member, {kind = 'start', slots = slots, count = entry.count})
  elseif entry.row then
    redis.call('HDEL', KEYS[7], entry.member)
  end
end

-- Reserves the place of an entry at a rate: how long it waits, in ms.
local function reserve(entry, limit, latest, frontier)
  local state = states[limit.state]
  local from = math.max(state.S, state.L, frontier == 'R' and state.R or 0, state.B)
  if state.B > now then from = math.max(from, state.B + state.tolerance) end
  state[frontier] = from + state.interval
  state.changed = true
  limit.reserved = frontier == 'R' and 1 or 2
  return math.max(1, math.ceil((latest - now) / 1000))
end

-- Puts an entry into the queue for a slot. One microsecond apart, so that the order of the call is
-- the order of the queue. The first in the queue looks whether slots were lost; the others are
-- told.
local function line_up(entry, limit)
  local q = limit.queue
  redis.call('ZADD', KEYS[q], 'NX', string.format('%.0f', now + nth), entry.member)
  redis.call('HSET', KEYS[4], name_of(limit.state), declared[limit.number][4])
  return redis.call('ZRANK', KEYS[q], entry.member) == 0 and lease or FAR
end

-- Defers an entry until `due` (ms), with what it waits for. It has no slot from here on, not even
-- one that was handed over a moment ago, and stands in no queue but the one it waits in.
local function put_aside(entry, due, kind, by, waits_in)
  local key = key_of[entry.level]
  local claimed = redis.call('XCLAIM', key, group, parking, 0, entry.id, 'JUSTID')
  if #claimed == 0 or #redis.call('XRANGE', key, entry.id, entry.id) == 0 then
    redis.call('XACK', key, group, entry.id)
    redis.call('HDEL', KEYS[9], entry.member)
    let_go(KEYS[7], KEYS[2], entry.member)
    for _, limit in ipairs(entry.limits) do
      if limit.busy > 0 then take_slot(KEYS[limit.busy], KEYS[limit.queue], KEYS[2], entry.member, true) end
    end
    return GONE
  end
  redis.call('ZADD', KEYS[2], string.format('%.0f', due), entry.member)
  local row = {kind = kind, by = by, count = entry.count, places = {}, slots = {waits_in}}
  for _, limit in ipairs(entry.limits) do
    local b, q, name = limit.busy, limit.queue, name_of(limit.state)
    if limit.reserved > 0 then row.places[name] = limit.reserved end
    if b > 0 then take_slot(KEYS[b], KEYS[q], KEYS[2], entry.member, name ~= waits_in) end
  end
  leave_others(entry, {[waits_in or ''] = true})
  write_admission(KEYS[7], entry.member, row)
end

-- Decides on one entry, and writes that down.
local function decide(entry)
  local kind, n, due, frontier = what_pauses(entry)
  if kind then
    if not is_mine(entry) then return LOST, 0, 0 end
    local gone = put_aside(entry, due, kind == PAUSED and 'paused' or 'breaker', entry.scopes[n])
    return gone or kind, due - now_ms, n
  end
  kind, n, due, frontier = what_limits(entry)
  if not kind then
    local holds_some = entry.row
    for _, limit in ipairs(entry.limits) do holds_some = holds_some or limit.busy > 0 end
    if holds_some and not is_mine(entry) then return LOST, 0, 0 end
    take_part(entry)
    return START, 0, 0
  end
  if not is_mine(entry) then return LOST, 0, 0 end
  local limit, wait, gone = entry.limits[n]
  if kind == RATE then
    wait = reserve(entry, limit, due, frontier)
    gone = put_aside(entry, now_ms + wait, 'rate', name_of(limit.state))
  else
    wait = line_up(entry, limit)
    gone = put_aside(entry, now_ms + wait, 'slot', name_of(limit.state), name_of(limit.state))
  end
  return gone or kind, wait, n
end

local results, admitted = {}, redis.call('EXISTS', KEYS[7]) == 1
while at <= #ARGV do
  local entry = next_entry()
  nth = nth + 1
  if admitted then
    entry.row = admission_of(KEYS[7], entry.member)
    for _, limit in ipairs(entry.row and entry.limits or {}) do
      local place = entry.row.places[name_of(limit.state)]
      if place == 1 or place == 2 then limit.reserved = place end
    end
  end
  local n = #results
  results[n + 1], results[n + 2], results[n + 3] = decide(entry)
  results[n + 4] = entry.probes or 0
end
for k, state in pairs(states) do
  if state.changed then write_state(KEYS[k], state, now) end
end
return results
