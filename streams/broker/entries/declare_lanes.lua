-- declare (by key): writes down how the entries of a group are queued. It does not write again what
-- stands there already: a worker must be able to start on a server without memory. A declaration of
-- before may have left rows: `ways` says so.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the waiting consumer
-- ARGV[3]  attributes that make the order key, with commas; ''
-- ARGV[4]  attributes that make the fair key, with commas; ''
-- ARGV[5]  how the death of an event affects its key
-- ARGV[6]  how many levels
-- ARGV[7 ..]  the levels; then two per weight: value of the fair key, weight
-- Returns  {the ways in which rows may have been made, the order that was declared before if it is another, else ''}

-- include: members.inc.lua
-- include: lanes.inc.lua

local heads_key, behind_key, rules_key = KEYS[1], KEYS[2], KEYS[3]
local count = tonumber(ARGV[6])
know(1, 7, count, ARGV[1], ARGV[2])
local stored, rows = {}, redis.call('HGETALL', rules_key)
for i = 1, #rows, 2 do stored[rows[i]] = rows[i + 1] end

local function store(wanted)
  local fields = {}
  for name, value in pairs(wanted) do
    if stored[name] ~= value then
      fields[#fields + 1] = name
      fields[#fields + 1] = value
    end
  end
  for n = 1, #fields, 1000 do
    redis.call('HSET', rules_key, unpack(fields, n, math.min(n + 999, #fields)))
  end
end

local function list_ways()
  local own, seen, ways_text, total = ARGV[3] .. '|' .. ARGV[4], {}, {}, 0
  local is_busy = redis.call('EXISTS', heads_key) == 1 or redis.call('EXISTS', behind_key) == 1
  for i = 1, count do
    local lane_key = key_of['lane' .. level_at[i]]
    if redis.call('EXISTS', lane_key) == 1 then is_busy = true end
  end
  if not is_busy then return own end
  local kept = stored.ways or ''
  local before = stored.order_by and stored.order_by .. '|' .. (stored.fair_by or '') or own
  if not string.find(';' .. kept .. ';', ';' .. own .. ';', 1, true) then kept = own .. ';' .. kept end
  for way in string.gmatch(kept .. ';' .. before, '[^;]+') do
    if not seen[way] and total < 8 then
      seen[way], total = true, total + 1
      ways_text[total] = way
    end
  end
  return table.concat(ways_text, ';')
end

-- Rows that were written before there was a list mean places in a list that was not stored. Some of
-- them are looked up: the list is ours if they say so, or the one that they make, if that is
-- without a gap. Else there is none for now.
local function list_levels()
  local found, most = {}, 0
  for _, row in ipairs(redis.call('ZRANGE', behind_key, 0, 299)) do
    local order = key_of_row(row)
    local _, id, _, rank = read_row(row, order or '')
    local level, matches = nil, 0
    for _, candidate in ipairs(id and rank and level_at or {}) do
      if waits(candidate, id, order) then level, matches = candidate, matches + 1 end
    end
    if matches == 1 then
      found[tonumber(rank)] = level
      most = math.max(most, tonumber(rank))
    end
  end
  local is_ours, is_whole = most > 0, most > 0
  for place = 1, most do
    if found[place] and found[place] ~= level_at[place] then is_ours = false end
    if not found[place] then is_whole = false end
  end
  if is_ours then return table.concat(level_at, ',') end
  if is_whole then return table.concat(found, ',') end
end

store({ways = list_ways()})
if not stored.levels or not is_list(stored.levels) then
  local has_rows = redis.call('EXISTS', behind_key) == 1
  store({levels = has_rows and list_levels() or not has_rows and table.concat(level_at, ',') or nil})
end
local wanted = {order_by = ARGV[3], fair_by = ARGV[4], on_dead = ARGV[5]}
for i = 7 + count, #ARGV, 2 do wanted['weight:' .. ARGV[i]] = ARGV[i + 1] end
local gone = {}
for name in pairs(stored) do
  if string.sub(name, 1, 7) == 'weight:' and not wanted[name] then gone[#gone + 1] = name end
end
for n = 1, #gone, 1000 do redis.call('HDEL', rules_key, unpack(gone, n, math.min(n + 999, #gone))) end
store(wanted)
local _, ways_now = ways()
local is_other = stored.order_by and stored.order_by ~= ARGV[3] and redis.call('EXISTS', heads_key) == 1
return {ways_now, is_other and stored.order_by or ''}
