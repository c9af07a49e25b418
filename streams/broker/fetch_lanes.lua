-- fetch (by key): pending -> processing. Reads what is new, lines it up, and hands out what is next: of the highest level
-- that has something, in turns among its fair keys, of an order key never more than one. What is read and not handed out
-- stays pending with the waiting consumer.
-- The first write is an XREADGROUP, which a server without memory still allows, and with it the rest of the script.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring; then the attempts hash of the group
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the waiting consumer
-- ARGV[4]  how many entries to hand out at most (0: only line up)
-- ARGV[5]  how many to read at most per level
-- ARGV[6]  attributes that make the order key, with commas; ''
-- ARGV[7]  attributes that make the fair key, with commas; ''
-- ARGV[8]  how many levels
-- ARGV[9 ..]  the levels; then per level how many places are meant for it first, -1 if it is not read at all
-- Returns  {{{level, id, delivery count, attempt record or '', {field, value, ...}}, ...}, how many were read,
--           1 if there is more to read, how many had vanished, {last id read of each level}: only if nothing was read}

-- include: lanes.inc.lua

local group, consumer, waiting, room, slice = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
local order_by, fair_by, count = words(ARGV[6]), words(ARGV[7]), tonumber(ARGV[8])
know(1, 9, count)
local attempts_key = KEYS[#KEYS]
local places = {}
for i = 1, count do places[i] = tonumber(ARGV[8 + count + i]) end

local read, more = 0, 0
for i, level in ipairs(level_at) do
  local key = key_of[level]
  if places[i] >= 0 then
    local reply = redis.call('XREADGROUP', 'GROUP', group, waiting, 'COUNT', slice, 'STREAMS', key, '>')
    local entries = reply and reply[1] and reply[1][2] or {}
    for _, entry in ipairs(entries) do
      local values = attributes(entry[2])
      local event = values.event or (level .. '|' .. entry[1])
      file(level, entry[1], key_text(values, order_by), key_text(values, fair_by) or '', event)
    end
    read = read + #entries
    if #entries == slice then more = 1 end
  end
end

local lasts = {}
if read == 0 then
  for i, level in ipairs(level_at) do
    local key = key_of[level]
    lasts[i] = '0-0'
    for _, row in ipairs(redis.call('XINFO', 'GROUPS', key)) do
      local name, last
      for j = 1, #row, 2 do
        if row[j] == 'name' then name = row[j + 1] elseif row[j] == 'last-delivered-id' then last = row[j + 1] end
      end
      if name == group then lasts[i] = last end
    end
  end
end

local taken, vanished, weights = {}, 0, nil
local function weight_of(fair)
  if not weights then
    weights = {}
    local rules_key = key_of.rules
    local rows = redis.call('HGETALL', rules_key)
    for i = 1, #rows, 2 do weights[rows[i]] = tonumber(rows[i + 1]) end
  end
  return weights['weight:' .. fair] or 1
end

-- The next row of a fair key; they are taken from its lane a few at a time, and removed from there at the end.
local function next_row(lane_key, turn, few)
  if turn.at > #turn.rows and not turn.empty then
    local low, high = '[' .. turn.fair .. '\1', '(' .. turn.fair .. '\2'
    local rows = redis.call('ZRANGEBYLEX', lane_key, low, high, 'LIMIT', #turn.rows, few)
    for _, row in ipairs(rows) do turn.rows[#turn.rows + 1] = row end
    turn.empty = #rows < few
  end
  local row = turn.rows[turn.at]
  if row then turn.at = turn.at + 1 end
  return row
end

-- Hands out at most `most` of a level, the fair key with the lowest virtual time first.
local function hand_out(level, most)
  local key, lane_key, ring_key = key_of[level], key_of['lane' .. level], key_of['ring' .. level]
  local ring, turns, ids = redis.call('ZRANGE', ring_key, 0, most, 'WITHSCORES'), {}, {}
  for i = 1, #ring, 2 do
    turns[#turns + 1] = {fair = ring[i], time = tonumber(ring[i + 1]), rows = {}, at = 1, empty = false}
  end
  local touched, few = {}, math.ceil(most / math.max(1, #turns)) + 1
  while #ids < most and #turns > 0 do
    local turn = turns[1]
    touched[turn.fair] = turn
    local row = next_row(lane_key, turn, few)
    table.remove(turns, 1)
    if not row then
      turn.gone = true
    else
      ids[#ids + 1] = plain(string.sub(row, #turn.fair + 2))
      turn.time = turn.time + 1 / weight_of(turn.fair)
      local place = #turns + 1
      while place > 1 and (turns[place - 1].time > turn.time
        or (turns[place - 1].time == turn.time and turns[place - 1].fair > turn.fair)) do
        place = place - 1
      end
      table.insert(turns, place, turn)
    end
  end
  for fair, turn in pairs(touched) do
    if turn.at > 1 then redis.call('ZREM', lane_key, unpack(turn.rows, 1, turn.at - 1)) end
    if turn.gone then
      redis.call('ZREM', ring_key, fair)
    else
      redis.call('ZADD', ring_key, turn.time, fair)
    end
  end
  if #ids == 0 then return 0 end
  local fields_of, claimed = {}, redis.call('XCLAIM', key, group, consumer, 0, unpack(ids, 1, #ids))
  for _, entry in ipairs(claimed) do
    if entry then fields_of[entry[1]] = entry[2] end
  end
  local records = {}
  if redis.call('EXISTS', attempts_key) == 1 then
    local members = {}
    for i, id in ipairs(ids) do members[i] = level .. '|' .. id end
    records = redis.call('HMGET', attempts_key, unpack(members))
  end
  for i, id in ipairs(ids) do
    if fields_of[id] then
      taken[#taken + 1] = {level, id, 2, records[i] or '', fields_of[id]}
    else
      redis.call('XACK', key, group, id)
      vanished = vanished + 1
    end
  end
  return #ids
end

room = math.min(room, 1000)
for i, level in ipairs(level_at) do
  if places[i] > 0 and room > 0 then room = room - hand_out(level, math.min(room, places[i])) end
end
for i, level in ipairs(level_at) do
  if places[i] >= 0 and room > 0 then room = room - hand_out(level, room) end
end
return {taken, read, more, vanished, lasts}
