-- `mend_lanes` (by key): finds heads that ended untold (cancelled, vanished, a worker killed in
-- between), and rows that were lost. A slice per call; changes nothing where all is well.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the waiting consumer
-- ARGV[3]  attributes that make the order key, with commas; ''
-- ARGV[4]  attributes that make the fair key, with commas; ''
-- ARGV[5]  how many heads and how many entries per level to look at, roughly
-- ARGV[6]  how many levels
-- ARGV[7 ..]  the levels
-- Returns  {heads followed, rows restored, the ways in which rows may have been made}

-- include: members.inc.lua
-- include: lanes.inc.lua

local slice, count = tonumber(ARGV[5]), tonumber(ARGV[6])
local order_by, fair_by = words(ARGV[3]), words(ARGV[4])
know(1, 7, count, ARGV[1], ARGV[2])
local heads_key, behind_key, rules_key = KEYS[1], KEYS[2], KEYS[3]
local followed, restored = 0, 0
even_out('behind')
for _, level in ipairs(level_at) do even_out('lane' .. level) end

-- A key that waits for an operator.
local function is_held(head)
  return string.find(head, '^held %d+ %S+ ') ~= nil
end

-- From where on to look for the next key of a set: behind all rows of this one.
local function behind_all(row, name)
  return name and '(' .. name .. '\2' or '(' .. row
end

-- Whatever is with a consumer or waits for a retry is a head, one per key.
local function order_of(key, id)
  local stored = redis.call('XRANGE', key, id, id)[1]
  if not stored then return nil, '' end
  local values = attributes(stored[2])
  return key_text(values, order_by), key_text(values, fair_by) or ''
end
local living
local function heads_in_hand()
  if living then return living end
  living = {}
  for _, level in ipairs(level_at) do
    local key = key_of[level]
    for _, owner in ipairs(redis.call('XPENDING', key, group)[4] or {}) do
      if owner[1] ~= waiting then
        for _, row in ipairs(redis.call('XPENDING', key, group, '-', '+', 10000, owner[1])) do
          local order = order_of(key, row[1])
          if order then living[order] = level .. '|' .. row[1] end
        end
      end
    end
  end
  return living
end

-- Heads that are not pending any more, and those that name no entry.
local cursor = redis.call('HGET', rules_key, 'cursor') or '0'
if not is_part(cursor) then cursor = '0' end
local page = redis.call('HSCAN', heads_key, cursor, 'COUNT', slice)
if page[1] ~= cursor then redis.pcall('HSET', rules_key, 'cursor', page[1]) end -- Without memory: not yet.
for i = 1, #page[2], 2 do
  local level, id = read_member(page[2][i + 1])
  local key = level and key_of[level]
  if not level and not is_held(page[2][i + 1]) then
    local head = heads_in_hand()[page[2][i]]
    if head then redis.call('HSET', heads_key, page[2][i], head) else follow(page[2][i]) end
    followed = followed + 1
  end
  local row = key and redis.call('XPENDING', key, group, id, id, 1)[1]
  -- It was deleted, and waits, perhaps for its turn at a limit, which comes in an hour.
  if row and string.sub(row[2], 1, 1) == '-' and #redis.call('XRANGE', key, id, id) == 0 then
    redis.call('XACK', key, group, id)
    row = nil
  end
  if key and not row then
    follow(page[2][i])
    followed = followed + 1
  end
end

-- The whole hash of heads is gone. An entry that is running, waits for a retry or has a row in a
-- lane is a head, one per key. The first of every other key that has something behind becomes one.
if redis.call('HLEN', heads_key) == 0 and redis.call('ZCARD', behind_key) > 0 then
  for order, head in pairs(heads_in_hand()) do redis.call('HSET', heads_key, order, head) end
  for _, level in ipairs(level_at) do
    local key, lane_key = key_of[level], key_of['lane' .. level]
    for _, row in ipairs(redis.call('ZRANGE', lane_key, 0, 9999)) do
      local id = plain(string.match(row, '^[^\1]*\1(.*)$'))
      local order, fair
      if id then order, fair = order_of(key, id) end
      if order and redis.call('HGET', heads_key, order) then
        redis.call('ZREM', lane_key, row)
        redis.call('ZADD', behind_key, 0, behind_row(order, level, id, fair))
      elseif order then
        redis.call('HSET', heads_key, order, level .. '|' .. id)
      end
    end
  end
  local row = redis.call('ZRANGE', behind_key, 0, 0)[1]
  while row do
    local order = key_of_row(row)
    -- Of a level that this worker does not know: not ours to restore.
    if order and (redis.call('HEXISTS', heads_key, order) == 1 or follow(order) > 0) then restored = restored + 1 end
    row = redis.call('ZRANGEBYLEX', behind_key, behind_all(row, order), '+', 'LIMIT', 0, 1)[1]
  end
end

-- Keys with something behind and no head: who followed it last did not know the level of what is left, or the head's row
-- was deleted.
local last = redis.call('HGET', rules_key, 'behind') or ''
local from, low = last, last == '' and '-' or '(' .. last .. '\2'
for n = 1, slice do
  local row = redis.call('ZRANGEBYLEX', behind_key, low, '+', 'LIMIT', 0, 1)[1]
  if not row then
    from = ''
    break
  end
  local order = key_of_row(row)
  from, low = order or row, behind_all(row, order)
  if order and redis.call('HEXISTS', heads_key, order) == 0 then followed = followed + follow(order) end
end
if from ~= last then redis.pcall('HSET', rules_key, 'behind', from) end

-- Rings that are gone while their lanes are not.
for _, level in ipairs(level_at) do
  local lane_key, ring_key = key_of['lane' .. level], key_of['ring' .. level]
  if redis.call('ZCARD', ring_key) == 0 then
    local row = redis.call('ZRANGE', lane_key, 0, 0)[1]
    while row do
      local fair = key_of_row(row)
      if fair then
        redis.call('ZADD', ring_key, 0, fair)
        restored = restored + 1
      end
      row = redis.call('ZRANGEBYLEX', lane_key, behind_all(row, fair), '+', 'LIMIT', 0, 1)[1]
    end
  end
end

-- Whether an entry has a row, in whatever way it was made.
local known_ways = ways()
known_ways[#known_ways + 1] = {order = order_by, fair = fair_by}
local function is_lined_up(level, id, values)
  local lane_key = key_of['lane' .. level]
  for _, way in ipairs(known_ways) do
    local order, fair = key_text(values, way.order), key_text(values, way.fair) or ''
    if redis.call('ZSCORE', lane_key, fair .. '\1' .. sortable(id)) then return true end
    if order and redis.call('ZSCORE', behind_key, behind_row(order, level, id, fair)) then return true end
    for rank = 1, order and not ranked().agreed and 32 or 0 do
      local row = order .. '\1' .. string.format('%02d', rank) .. sortable(id) .. '\1' .. fair
      if redis.call('ZSCORE', behind_key, row) then return true end
    end
  end
  return false
end

-- More entries wait than have rows: look for those without.
local rows, entries = redis.call('ZCARD', behind_key), 0
for _, level in ipairs(level_at) do
  local key, lane_key = key_of[level], key_of['lane' .. level]
  rows = rows + redis.call('ZCARD', lane_key)
  for _, row in ipairs(redis.call('XPENDING', key, group)[4] or {}) do
    if row[1] == waiting then entries = entries + tonumber(row[2]) end
  end
end
if entries > rows then
  for _, level in ipairs(level_at) do
    local key, lane_key = key_of[level], key_of['lane' .. level]
    local from = redis.call('HGET', rules_key, 'from:' .. level) or '-'
    if not is_id(string.match(from, '^%((.*)$') or '') then from = '-' end
    local held = redis.call('XPENDING', key, group, from, '+', slice, waiting)
    for _, row in ipairs(held) do
      local id = row[1]
      local stored = redis.call('XRANGE', key, id, id)[1]
      if not stored then
        redis.call('XACK', key, group, id)
      else
        local values = attributes(stored[2])
        local order, fair = key_text(values, order_by), key_text(values, fair_by) or ''
        if not is_lined_up(level, id, values) then
          file(level, id, order, fair, values.event or (level .. '|' .. id))
          restored = restored + 1
        end
      end
    end
    local on = #held == slice and '(' .. held[#held][1] or '-'
    redis.pcall('HSET', rules_key, 'from:' .. level, on)
  end
end
local _, stored_ways = ways()
return {followed, restored, stored_ways}
