-- fetch (new entries by turns): pending -> processing. For streams with weighted levels or a longest wait; never blocks,
-- never takes more than asked. First the overdue, oldest first whatever their level, on the places kept for them; then
-- each level's own places; then what is left over, highest level first.
--
-- KEYS[1 ..]  streams, highest level first
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  how many entries at most
-- ARGV[4]  ms after which a waiting entry is overdue; 0: never
-- ARGV[5]  how many places the overdue may take
-- ARGV[6 ..]  places of KEYS[1], KEYS[2], ...
-- Returns  {how many were overdue, {{index of its key, {{id, {field, value, ...}}, ...}}, ...} of the others,
--           the same of the overdue}

local group, consumer, room = ARGV[1], ARGV[2], tonumber(ARGV[3])
local wait, places = tonumber(ARGV[4]), tonumber(ARGV[5])

local function read(i, count)
  local reply = redis.call('XREADGROUP', 'GROUP', group, consumer, 'COUNT', count, 'STREAMS', KEYS[i], '>')
  return reply and reply[1] and reply[1][2] or {}
end

-- include: overdue.inc.lua

local overdue, late = {}, 0
if wait > 0 and places > 0 then
  local time = redis.call('TIME')
  local latest, waiting = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000) - wait, {}
  for i = 1, #KEYS do add_overdue(waiting, KEYS[i], group, i, latest, places) end
  local counts = count_oldest(waiting, math.min(places, room))
  for i = 1, #KEYS do
    if counts[i] then
      local entries = read(i, counts[i].new)
      overdue[#overdue + 1] = {i, entries}
      late = late + #entries
    end
  end
  room = room - late
end

local found, empty = {}, {}
for i = 1, #KEYS do
  local count = math.min(tonumber(ARGV[5 + i]), room)
  if count > 0 then
    local entries = read(i, count)
    if #entries < count then empty[i] = true end
    if #entries > 0 then found[#found + 1] = {i, entries} end
    room = room - #entries
  end
end
for i = 1, #KEYS do
  if room <= 0 then break end
  if not empty[i] then
    local entries = read(i, room)
    if #entries > 0 then found[#found + 1] = {i, entries} end
    room = room - #entries
  end
end
return {late, found, overdue}
