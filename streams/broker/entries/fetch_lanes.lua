-- fetch (by key): pending -> processing. Reads what is new, queues it by key, and hands out what is
-- next: of the highest level that has something, in turns among its fair keys, of an order key
-- never more than one. An entry that is read and not handed out stays pending with the waiting
-- consumer.
-- Told to look at retries, it hands out due ones in turn with queued entries, and leaves alone what
-- is paused. A due retry that is not the head of its key (its row was lost, or the order was
-- declared while it waited) is queued behind the head. While no retry is due it does nothing else
-- then.
-- The first write is an XREADGROUP or an XCLAIM, which a server without memory still allows, and with it the rest.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring; then the attempts hash of the group, its retry
--             ZSET, the hash of what is paused, and the admissions hash of the group
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the waiting consumer
-- ARGV[4]  how many entries to hand out at most (0: only queue them)
-- ARGV[5]  how many to read at most per level
-- ARGV[6]  attributes that make the order key, with commas; ''
-- ARGV[7]  attributes that make the fair key, with commas; ''
-- ARGV[8]  the consumer of delayed entries
-- ARGV[9]  how many suspects at most; -1: retries are not looked at
-- ARGV[10]  whose is an odd place: 1 the retries', 0 what is new
-- ARGV[11]  level|id of a suspect, to take that and no other retry; ''
-- ARGV[12]  how many levels
-- ARGV[13 ..]  the levels; then two lists, with a number per level.
--             The first list says how many places are meant for the level first, -1 if it is not
--             read at all. The second says from which due time on to look for the level's retries,
--             in ms, -1 if it is not served.
-- Returns  {{entry, ...}, READ, MORE, how many had vanished, LAST, the ways in which rows may have
--           been made, NEW, RETRIES}.
--           An entry is {level, id, delivery count, attempt record or '', {field, value, ...}}.
--           READ says how many were read, or -1 if nothing was looked for. MORE is 1 if there is
--           more to read or to look for. LAST is {last id read of each level}, and given only if
--           nothing was read. NEW says how many were new, or is 1 if some may start and were not
--           looked at.
--           RETRIES is there only if retries were looked at: {now in ms, ms of the next due row or
--           -1, {paused level, ...}, {ms from which on to look of each level}, {scope of a pause by
--           attribute, ...}, UNSEEN, TURN, SUSPECT}. UNSEEN is 1 if there are due rows that were
--           not looked at. TURN says whose is the next odd place. SUSPECT is level|id of a suspect
--           that is due and was left, or ''.

local taken = {}

-- include: members.inc.lua
-- include: lanes.inc.lua
-- include: admissions.inc.lua
-- include: due.inc.lua

local consumer, room, slice = ARGV[2], math.min(tonumber(ARGV[4]), 1000), tonumber(ARGV[5])
local order_by, fair_by, count = words(ARGV[6]), words(ARGV[7]), tonumber(ARGV[12])
know(1, 13, count, ARGV[1], ARGV[3])
key_of.attempts, key_of.retry, key_of.paused = KEYS[#KEYS - 3], KEYS[#KEYS - 2], KEYS[#KEYS - 1]
key_of.admissions = KEYS[#KEYS]
local who = {group = group, consumer = consumer, parked = ARGV[8], suspects = tonumber(ARGV[9]), turn = tonumber(ARGV[10])}
local attempts_key = key_of.attempts
local places, froms, vanished, fresh, more = {}, {}, 0, 0, 0
for i = 1, count do
  places[i], froms[i] = tonumber(ARGV[12 + count + i]), tonumber(ARGV[12 + 2 * count + i])
end

local function about_retries()
  if who.suspects < 0 and not due.looked then return {} end
  local next_due, on, unseen = leave()
  return {due.now, next_due, paused, on, scopes, unseen, who.turn, due.suspect or ''}
end
if who.suspects >= 0 then
  due.looked = true
  read_pauses(group, froms)
  look(math.max(room, 50))
  for i, level in ipairs(level_at) do
    if not due.lines[level] then places[i] = -1 end
  end
  if room == 0 or not any_due() then
    -- A consumer that rests with others hears of what is published, and looks for retries. It does
    -- not hear that an operator or a sweep let a key go, so that an entry of a lane may start: that
    -- is told here.
    local ready = 0
    for i, level in ipairs(level_at) do
      local lane_key = key_of['lane' .. level]
      if places[i] >= 0 and ready == 0 then ready = redis.call('EXISTS', lane_key) end
    end
    return {taken, -1, 0, 0, {}, '', ready, about_retries()}
  end
end

local read = 0
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

local stored_ways = add_way(ARGV[6], ARGV[7])
local weights
local function weight_of(fair)
  if not weights then
    weights = {}
    local rules_key = key_of.rules
    local rows = redis.call('HGETALL', rules_key)
    for i = 1, #rows, 2 do weights[rows[i]] = finite(rows[i + 1]) end
  end
  local weight = weights['weight:' .. fair] or 1
  return weight > 0 and weight or 1
end

-- The next row of a fair key; they are taken from its lane a few at a time, and removed from there at the end.
local function next_row(level, turn, few)
  local lane_key = key_of['lane' .. level]
  if turn.at > #turn.rows and not turn.empty then
    local low, high = '[' .. turn.fair .. '\1', '(' .. turn.fair .. '\2'
    local rows = redis.call('ZRANGEBYLEX', lane_key, low, high, 'LIMIT', #turn.rows, few)
    if #rows == 0 and #turn.rows == 0 and not evened[level] then
      evened[level] = true
      if even_out('lane' .. level) > 0 then rows = redis.call('ZRANGEBYLEX', lane_key, low, high, 'LIMIT', 0, few) end
    end
    for _, row in ipairs(rows) do turn.rows[#turn.rows + 1] = row end
    turn.empty = #rows < few
  end
  local row = turn.rows[turn.at]
  if row then turn.at = turn.at + 1 end
  return row
end

-- Into its place among the others: the lowest virtual time first, and of the same the lowest name.
local function take_place(turns, turn)
  local place = #turns + 1
  while place > 1 and (turns[place - 1].time > turn.time
    or (turns[place - 1].time == turn.time and turns[place - 1].fair > turn.fair)) do
    place = place - 1
  end
  table.insert(turns, place, turn)
end

-- Hands out at most `most` of a level, the fair key with the lowest virtual time first. Fair keys
-- that have nothing left are met on the way, any number of them. One call meets no more than LOOKS
-- of them: it then asks for another call and ends here, because a lower level must not go first.
local LOOKS, looks, is_cut = 1000, 0, false
local function choose(level, most)
  local ring_key = key_of['ring' .. level]
  local turns, ids, touched, untouched, met, ended = {}, {}, {}, 0, 0, false
  while #ids < most do
    if untouched == 0 and not ended then
      -- As long as one that was not touched yet is at hand, none that follows in the ring can be before it.
      local wanted = math.max(most - #ids + 1, math.min(met, 100))
      local ring = redis.call('ZRANGE', ring_key, met, met + wanted - 1, 'WITHSCORES')
      for i = 1, #ring, 2 do
        local time = finite(ring[i + 1], finite(ring[i + 3], 0)) -- One that never or always comes first takes its next one's.
        take_place(turns, {fair = ring[i], time = time, rows = {}, at = 1, empty = false})
      end
      untouched, met, ended = #ring / 2, met + #ring / 2, #ring < 2 * wanted
    end
    local turn = table.remove(turns, 1)
    if not turn then break end
    if not touched[turn.fair] then
      touched[turn.fair], untouched, looks = turn, untouched - 1, looks + 1
    end
    local row = next_row(level, turn, math.ceil(most / math.max(1, #turns + 1)) + 1)
    if row then
      ids[#ids + 1] = plain(string.sub(row, #turn.fair + 2)) -- One that names no entry goes with its row.
      turn.time = turn.time + 1 / weight_of(turn.fair)
      take_place(turns, turn)
    else
      turn.gone = true
      if looks >= LOOKS then
        more, is_cut = 1, true
        break
      end
    end
  end
  return ids, touched
end

-- A suspect runs alone, so it is not handed out among others: it becomes a retry that is due, which the next look tells of.
local function set_due(key, level, id)
  local time, retry_key = redis.call('TIME'), key_of.retry
  local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
  redis.call('XCLAIM', key, group, who.parked, 0, id, 'JUSTID')
  redis.call('ZADD', retry_key, now, level .. '|' .. id)
end

local function hand_out(level, most)
  local key, lane_key, ring_key = key_of[level], key_of['lane' .. level], key_of['ring' .. level]
  local ids, touched = choose(level, most)
  local gone = {}
  for fair, turn in pairs(touched) do
    if turn.at > 1 then redis.call('ZREM', lane_key, unpack(turn.rows, 1, turn.at - 1)) end
    if turn.gone then gone[#gone + 1] = fair else redis.call('ZADD', ring_key, turn.time, fair) end
  end
  if next(touched) and redis.call('EXISTS', lane_key) == 0 then
    -- While nothing waits there is no turn to keep.
    redis.call('UNLINK', ring_key)
    joined = {}
  else
    for n = 1, #gone, 1000 do redis.call('ZREM', ring_key, unpack(gone, n, math.min(n + 999, #gone))) end
    for _, fair in ipairs(gone) do joined[level .. '|' .. fair] = nil end
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
  local count = 0
  for i, id in ipairs(ids) do
    local record = records[i] or ''
    if not fields_of[id] then
      redis.call('XACK', key, group, id)
      redis.call('HDEL', attempts_key, level .. '|' .. id)
      vanished = vanished + 1
      let_go(key_of.admissions, key_of.retry, level .. '|' .. id)
    elseif string.find(record, '"suspect":true', 1, true) then
      set_due(key, level, id)
    else
      taken[#taken + 1], count = {level, id, 2, record, fields_of[id]}, count + 1
    end
  end
  fresh = fresh + count
  return count
end

-- Whether the head of a key is queued by key itself.
local function is_lined_up(head)
  local level, id = read_member(head)
  local key = level and key_of[level]
  local row = key and redis.call('XPENDING', key, group, id, id, 1)[1]
  return row and row[2] == waiting
end

-- Whether a due retry may go on: it is the head of its key, or there is none. While workers of two orders are there, the
-- first by the one may wait for the first by the other, and that for this one: neither would ever go on.
local function admits(level, id, fields)
  local values = attributes(fields)
  local order, member = key_text(values, order_by), level .. '|' .. id
  if not order then return true end
  local key, heads_key = key_of[level], key_of.heads
  local head = redis.call('HGET', heads_key, order)
  if not head or head == member then
    if not head then redis.pcall('HSET', heads_key, order, member) end
    return true
  end
  if is_lined_up(head) and key_headed(values, member) then return true end
  redis.call('XCLAIM', key, group, waiting, 0, id, 'RETRYCOUNT', 1, 'JUSTID')
  -- It may wait for a slot since before the order was declared. In that queue it would stand before the head of its key,
  -- which it waits for: neither would ever go on.
  let_go(key_of.admissions, key_of.retry, member)
  file(level, id, order, key_text(values, fair_by) or '', values.event or member)
  return false
end

if ARGV[11] ~= '' and read_pauses(group, froms) > 0 then take_alone(ARGV[11], who, admits) end
for i, level in ipairs(level_at) do
  local most = math.min(places[i], room - #taken)
  if most > 0 and not is_cut then by_turns(level, most, who, admits, hand_out) end
end
for i, level in ipairs(level_at) do
  local most = room - #taken
  if places[i] >= 0 and most > 0 and not is_cut then by_turns(level, most, who, admits, hand_out) end
end
return {taken, read, more, vanished + due.vanished, lasts, stored_ways, fresh, about_retries()}
