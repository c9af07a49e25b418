-- fetch (due retries, in turn with what is new): retrying and pending -> processing. While no retry is due it hands out
-- nothing: then what is new is read at less cost without it. Never takes more than asked.
-- A suspect is left where it is, and told: it is taken by a call that names it and takes nothing else.
-- First the overdue, oldest first, on the places kept for them; then each level's own places; then what is left over, the
-- highest level first. Of a level, retries and new entries take turns.
-- Tells on the way which of the levels are paused for the group, and hands out nothing of those.
-- The first write is an XREADGROUP or an XCLAIM, which a server without memory still allows, and with it the rest.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  hash of what is paused
-- KEYS[4]  admissions hash of the group
-- KEYS[5]  rules hash of the group
-- KEYS[6 ..]  streams of the levels, highest first
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  how many entries at most (0: only look)
-- ARGV[5]  how many suspects at most (an entry whose next stall would be its last)
-- ARGV[6]  whose is an odd place: 1 the retries', 0 what is new; -1: only retries are asked for
-- ARGV[7]  ms after which what waits is overdue; 0: never
-- ARGV[8]  how many places the overdue may take
-- ARGV[9]  level|id of a suspect, to take that and nothing else; ''
-- ARGV[10 ..]  three per level: its name; look for its retries from this due time on, in ms, the last answer's or 0; its
--             own places
-- Returns  {now in ms, ms of the next due row or -1, how many had vanished, {entry, ...}: the
--           overdue first, {paused level, ...}, {ms from which on to look the next time: of each
--           level}, PAUSES, MORE, TURN, OVERDUE, NEW, SUSPECT, OTHERS}.
--           An entry is {level, id, delivery count, attempt record or '', {field, value, ...}}.
--           PAUSES is {scope of a pause by attribute, ...}. MORE is 1 if there are due rows that
--           were not looked at. TURN says whose is the next odd place. OVERDUE and NEW say how many
--           were overdue and how many were new. SUSPECT is level|id of a suspect that is due and
--           was left, or ''. OTHERS is 1 if workers of another declaration queue entries by key
--           here.

local key_of = {retry = KEYS[1], attempts = KEYS[2], paused = KEYS[3], admissions = KEYS[4]}
local level_at, places, froms, taken = {}, {}, {}, {}
for i = 1, (#ARGV - 9) / 3 do
  local level, k = ARGV[3 * i + 7], 5 + i
  level_at[i], froms[i], places[i] = level, tonumber(ARGV[3 * i + 8]), tonumber(ARGV[3 * i + 9])
  key_of[level] = KEYS[k]
end

-- include: members.inc.lua
-- include: admissions.inc.lua
-- include: due.inc.lua
-- include: overdue.inc.lua

local limit, wait, kept = tonumber(ARGV[4]), tonumber(ARGV[7]), tonumber(ARGV[8])
local who = {group = ARGV[1], consumer = ARGV[2], parked = ARGV[3], suspects = tonumber(ARGV[5]), turn = tonumber(ARGV[6])}
local late, fresh = 0, 0

local function admits() return true end

local function take_new(level, most)
  local key = key_of[level]
  local reply = redis.call('XREADGROUP', 'GROUP', who.group, who.consumer, 'COUNT', most, 'STREAMS', key, '>')
  local entries = reply and reply[1] and reply[1][2] or {}
  for _, entry in ipairs(entries) do taken[#taken + 1] = {level, entry[1], 1, '', entry[2]} end
  fresh = fresh + #entries
  return #entries
end

local function take_overdue()
  local latest, waiting = due.now - wait, {}
  for i, level in ipairs(level_at) do
    local key = key_of[level]
    if due.lines[level] then
      add_overdue(waiting, key, who.group, i, latest, kept)
      at_hand(level, kept)
      local line = due.lines[level]
      for n = line.next, math.min(#line.rows, line.next + kept - 1) do
        if line.rows[n].at <= latest then waiting[#waiting + 1] = {line.rows[n].at, i, 'due'} end
      end
    end
  end
  for i, counts in pairs(count_oldest(waiting, math.min(kept, limit))) do
    if counts.new > 0 then take_new(level_at[i], counts.new) end
    take_due(level_at[i], counts.due, who, admits)
  end
  late = #taken
end

if read_pauses(who.group, froms) == 0 then
  local time = redis.call('TIME')
  local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  return {now, -1, 0, {}, paused, {}, scopes, 0, who.turn, 0, 0, '', 0}
end
if ARGV[9] ~= '' then
  take_alone(ARGV[9], who, admits)
  return {due.now, -1, due.vanished, taken, paused, {}, scopes, 0, who.turn, 0, 0, '', 0}
end
look(math.max(limit, 50))
if who.turn < 0 then
  for _, level in ipairs(level_at) do take_due(level, limit - #taken, who, admits) end
elseif limit > 0 and any_due() then
  if wait > 0 and kept > 0 then take_overdue() end
  for i, level in ipairs(level_at) do
    local most = math.min(places[i], limit - #taken)
    if most > 0 and due.lines[level] then by_turns(level, most, who, admits, take_new) end
  end
  for _, level in ipairs(level_at) do
    local most = limit - #taken
    if most > 0 and due.lines[level] then by_turns(level, most, who, admits, take_new) end
  end
end
local next_due, on, more = leave()
return {due.now, next_due, due.vanished, taken, paused, on, scopes, more, who.turn, late, fresh, due.suspect or '', redis.call('EXISTS', KEYS[5])}
