-- Shared by the scripts that line entries up by key (included as text, still a constant script).
-- What was read and has not started yet is pending with the waiting consumer and has one row, in a lane or behind a head:
--   lane    ZSET per level, all scores 0: what may start; rows in the order of fair key, then entry id
--   ring    ZSET per level: fair key -> its virtual time; the lowest has the next start, which costs it 1 / weight
--   heads   HASH: order key -> the one entry of the key that may start, has started or waits for its retry; or
--           'held MS LEVEL|ENTRY EVENT' if that one died and its key waits for an operator
--   behind  ZSET, all scores 0: the others of such a key; rows in the order of key, level (highest first), entry id
--   rules   HASH: what is declared, and the weights
-- A fair key that has nothing left leaves its ring when it would be its turn: one that comes back at once gains nothing.

local key_of, level_at, rank_of = {}, {}, {}

-- KEYS from `first`: heads, behind, rules, then stream, lane and ring of each of `count` levels, named in ARGV from `at`.
local function know(first, at, count)
  key_of.heads, key_of.behind, key_of.rules = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  for i = 1, count do
    local level, k = ARGV[at + i - 1], first + 3 * i
    level_at[i], rank_of[level] = level, string.format('%02d', i)
    key_of[level], key_of['lane' .. level], key_of['ring' .. level] = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  end
end

-- An entry id as text whose order is that of the ids, and back.
local function sortable(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.char(64 + #ms) .. ms .. '-' .. string.char(64 + #seq) .. seq
end
local function plain(text)
  local ms, seq = string.match(text, '^.(%d+)%-.(%d+)$')
  return ms .. '-' .. seq
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '[^,]+') do found[#found + 1] = word end
  return found
end

-- What the fields of an entry say: attributes, and under 'event' its event id.
local function attributes(fields)
  local values, kind, event = {}, nil, nil
  for i = 1, #fields, 2 do
    if fields[i] == 'type' then
      kind = fields[i + 1]
    elseif fields[i] == 'id' then
      event = fields[i + 1]
    elseif fields[i] == 'meta' then
      local ok, meta = pcall(cjson.decode, fields[i + 1])
      values = ok and type(meta) == 'table' and meta or {}
    end
  end
  values.type, values.event = kind, event
  return values
end

-- The key that the named attributes make; nil if one is missing. The same as Lanes.order_key.
local function key_text(values, names)
  local parts = {}
  for i, name in ipairs(names) do
    local value = values[name]
    if type(value) ~= 'string' or value == '' then return nil end
    parts[i] = value
  end
  if #parts == 0 then return nil end
  local text = table.concat(parts, ',')
  if #text > 200 or string.find(text, '%c') then return redis.sha1hex(text) end
  return text
end

-- Into the lane of its fair key.
local joined = {}
local function push(level, id, fair)
  local lane_key, ring_key = key_of['lane' .. level], key_of['ring' .. level]
  redis.call('ZADD', lane_key, 0, fair .. '\1' .. sortable(id))
  if joined[level .. '|' .. fair] then return end
  joined[level .. '|' .. fair] = true
  if not redis.call('ZSCORE', ring_key, fair) then
    local first = redis.call('ZRANGE', ring_key, 0, 0, 'WITHSCORES')
    redis.call('ZADD', ring_key, first[2] or 0, fair)
  end
end

-- Lines an entry up: into its lane if nothing of its order key is before it, else behind that.
local function file(level, id, order, fair, event)
  if order then
    local heads_key, behind_key = key_of.heads, key_of.behind
    local head, member = redis.call('HGET', heads_key, order), level .. '|' .. id
    if head and head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then
      redis.call('ZADD', behind_key, 0, order .. '\1' .. rank_of[level] .. sortable(id) .. '\1' .. fair)
      return
    end
    redis.call('HSET', heads_key, order, member)
  end
  push(level, id, fair)
end

-- The head of a key is done with: the next one may start. Returns how many may (0 or 1).
local function follow(order)
  local heads_key, behind_key = key_of.heads, key_of.behind
  local row = redis.call('ZRANGEBYLEX', behind_key, '[' .. order .. '\1', '(' .. order .. '\2', 'LIMIT', 0, 1)[1]
  if not row then
    redis.call('HDEL', heads_key, order)
    return 0
  end
  local rank, place, fair = string.match(string.sub(row, #order + 2), '^(%d%d)([^\1]+)\1(.*)$')
  local level, id = level_at[tonumber(rank)], plain(place)
  redis.call('ZREM', behind_key, row) -- First, because a server without memory lets a removal happen, and then the rest.
  redis.call('HSET', heads_key, order, level .. '|' .. id)
  push(level, id, fair)
  return 1
end
