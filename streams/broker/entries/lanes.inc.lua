-- Shared by the scripts that queue entries by key (included as text, still a constant script),
-- behind members.inc.lua.
-- An entry that was read and has not started yet is pending with the waiting consumer and has one
-- row, in a lane or behind a head. These are the keys:
-- ``lane`` is a ZSET per level, all scores 0. It has what may start; rows are in the order of fair
-- key, then entry id.
-- ``ring`` is a ZSET per level: fair key -> its virtual time. The lowest has the next start, which
-- costs it 1 / weight.
-- ``heads`` is a HASH: order key -> the one entry of the key that may start, has started or waits
-- for its retry.
-- The value is 'held MS LEVEL|ENTRY EVENT' if that one died and its key waits for an operator.
-- ``behind`` is a ZSET, all scores 0. It has the others of such a key; rows are in the order of
-- key, level (highest first), entry id.
-- ``rules`` is a HASH of what is declared, and the weights. Its fields `levels` and `ways` have
-- what all workers have to agree on.
-- A fair key that has nothing left leaves its ring when it would be its turn: one that comes back
-- at once gains nothing. When nothing at all is left in a lane, its ring goes.
--
-- Workers may be declared differently while a deployment goes on. A row says its level by a rank of two digits, which is a
-- place in the list under `levels`, the same for every worker; a level that is not in that list is spelled out. Rows of
-- levels that a worker does not know stay where they are, for one that does. `ways` are the pairs ORDER_BY|FAIR_BY by which
-- rows may have been made: who settles an entry looks for it under the keys of each.
--
-- A row that is none of these, in no spelling, is walked over: it holds up no other. Rows only say where entries stand, so the
-- entry of one that is dropped is found again by its being with the waiting consumer.

local key_of, level_at, knows, group, waiting = {}, {}, {}, nil, nil

-- KEYS from `first`: heads, behind, rules, then stream, lane and ring of each of `count` levels, named in ARGV from `at`.
local function know(first, at, count, of_group, of_waiting)
  key_of.heads, key_of.behind, key_of.rules = KEYS[first], KEYS[first + 1], KEYS[first + 2]
  group, waiting = of_group, of_waiting
  for i = 1, count do
    local level, k = ARGV[at + i - 1], first + 3 * i
    level_at[i], knows[level] = level, true
    key_of[level], key_of['lane' .. level], key_of['ring' .. level] = KEYS[k], KEYS[k + 1], KEYS[k + 2]
  end
end

-- The levels that ranks stand for; read when the first is needed. Without a list, rows were written
-- by a version that did not keep one. Then a rank is a place in the writer's list, which is most
-- often the same as ours, and is checked; a row that is written then spells its level out.
local ranks
local function is_list(text)
  for word in string.gmatch(text, '[^,]+') do
    if not string.match(word, '^%-?%d+$') then return false end
  end
  return text ~= ''
end
local function ranked()
  if not ranks then
    local rules_key = key_of.rules
    local list = redis.call('HGET', rules_key, 'levels')
    -- A list that is none counts as missing, as it does for `declare`.
    if list and not is_list(list) then list = nil end
    ranks = {agreed = list, level = {}, code = {}, all_listed = true}
    for level in string.gmatch(list or table.concat(level_at, ','), '[^,]+') do
      local place = #ranks.level + 1
      ranks.level[place] = level
      if list then ranks.code[level] = string.format('%02d', place) end
    end
    for _, level in ipairs(level_at) do
      if not ranks.code[level] then
        -- Highest first; the level itself keeps apart what is too large to be told apart by such a number.
        local depth = 5e14 - math.max(-4e14, math.min(4e14, tonumber(level)))
        ranks.code[level], ranks.all_listed = string.format('L%015.0f:%s:', depth, level), false
      end
    end
  end
  return ranks
end

-- An entry id as text whose order is that of the ids, and back; nil for what is none.
local function sortable(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return string.char(64 + #ms) .. ms .. '-' .. string.char(64 + #seq) .. seq
end
local function plain(text)
  local ms, seq = string.match(text or '', '^.(%d+)%-.(%d+)$')
  local id = ms and ms .. '-' .. seq
  if id and is_id(id) and sortable(id) == text then return id end
end

-- A row of `behind`, and what it says: level (nil if it is none of ours), entry id (nil if the row is none), fair key, rank.
local function behind_row(order, level, id, fair)
  return order .. '\1' .. ranked().code[level] .. sortable(id) .. '\1' .. fair
end
local function read_row(row, order)
  local text = string.sub(row, #order + 2)
  local rank, place, fair = string.match(text, '^(%d%d)([^\1]+)\1(.*)$')
  if rank then return ranked().level[tonumber(rank)], plain(place), fair, rank end
  local level, spelled, rest = string.match(text, '^L%d+:(%-?%d+):([^\1]+)\1(.*)$')
  if level then return level, plain(spelled), rest end
end

-- The key before the first separator of a row; nil: it has none.
local function key_of_row(row)
  return string.match(row, '^([^\1]*)\1')
end

-- Rows are found by their text, which works only while all of a set have the same score: one with another hides the others.
-- Gives those the score of the others, and says how many there were. A set by its name in `key_of`.
local function even_out(name)
  local rows_key, count = key_of[name], 0
  for _, range in ipairs({{'-inf', '(0'}, {'(0', '+inf'}}) do
    local odd = redis.call('ZRANGEBYSCORE', rows_key, range[1], range[2], 'LIMIT', 0, 1000)
    for _, row in ipairs(odd) do redis.pcall('ZADD', rows_key, 0, row) end -- Without memory: not yet.
    count = count + #odd
  end
  return count
end

-- The first row within bounds that says what `read_row` reads. Those before it that say nothing are walked over.
local LOOKS_AT_ROWS = 1000
local evened = {}
local function first_readable(order, low, high)
  local behind_key = key_of.behind
  local from, few = 0, 1
  while from < LOOKS_AT_ROWS do
    local rows = redis.call('ZRANGEBYLEX', behind_key, low, high, 'LIMIT', from, few)
    if #rows == 0 and from == 0 and not evened.behind then
      evened.behind = true
      if even_out('behind') > 0 then rows = redis.call('ZRANGEBYLEX', behind_key, low, high, 'LIMIT', from, few) end
    end
    for _, row in ipairs(rows) do
      local level, id, fair, rank = read_row(row, order)
      if id then return row, level, id, fair, rank end
    end
    if #rows < few then return nil end
    from, few = from + few, 100
  end
end

local function words(text)
  local found = {}
  for word in string.gmatch(text, '[^,]+') do found[#found + 1] = word end
  return found
end

-- Reads the fields of an entry: attributes, and under 'event' its event id. A replay for another
-- group has no attributes: this group passes it by, so it neither waits for others of its key nor
-- holds them up, and ends no hold.
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
    elseif fields[i] == 'group' and fields[i + 1] ~= '' and fields[i + 1] ~= group then
      return {event = event}
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

-- The pairs by which rows may have been made: {{order = {attribute, ...}, fair = {attribute, ...}}, ...}, and as stored.
local function ways()
  local rules_key, found = key_of.rules, {}
  local text = redis.call('HGET', rules_key, 'ways') or ''
  for order, fair in string.gmatch(text, '([^;|]*)|([^;|]*)') do
    found[#found + 1] = {order = words(order), fair = words(fair)}
  end
  return found, text
end

-- The key that an entry with these attributes is the first of, by any order by which rows may have been made; else nil.
local function key_headed(values, member)
  local heads_key = key_of.heads
  for _, way in ipairs((ways())) do
    local order = key_text(values, way.order)
    if order and redis.call('HGET', heads_key, order) == member then return order end
  end
end

-- Writes down that rows are made in this way too. The newest first, and no more than workers of one time can have.
local function add_way(order_by, fair_by)
  local rules_key, own = key_of.rules, order_by .. '|' .. fair_by
  local text, kept, count = redis.call('HGET', rules_key, 'ways') or '', own, 1
  for way in string.gmatch(text, '[^;]+') do
    if way == own then return text end
    if count < 8 then kept, count = kept .. ';' .. way, count + 1 end
  end
  redis.call('HSET', rules_key, 'ways', kept)
  return kept
end

-- Into the lane of its fair key.
local joined = {}
local function push(level, id, fair)
  local lane_key, ring_key = key_of['lane' .. level], key_of['ring' .. level]
  redis.call('ZADD', lane_key, 0, fair .. '\1' .. sortable(id))
  if joined[level .. '|' .. fair] then return end
  joined[level .. '|' .. fair] = true
  if not finite(redis.call('ZSCORE', ring_key, fair)) then
    local first = redis.call('ZRANGE', ring_key, 0, 0, 'WITHSCORES')
    redis.call('ZADD', ring_key, finite(first[2]) and first[2] or 0, fair)
  end
end

-- Queues an entry by key: into its lane if nothing of its order key is before it, else behind that.
local function file(level, id, order, fair, event)
  if order then
    local heads_key, behind_key = key_of.heads, key_of.behind
    local head, member = redis.call('HGET', heads_key, order), level .. '|' .. id
    if head and head ~= member and string.match(head, '^held %d+ %S+ (.*)$') ~= event then
      redis.call('ZADD', behind_key, 0, behind_row(order, level, id, fair))
      return
    end
    redis.call('HSET', heads_key, order, member)
  end
  push(level, id, fair)
end

-- Whether an entry of a level waits, and its fields make this key in one of the ways.
local function waits(level, id, order)
  local key = key_of[level]
  local held = redis.call('XPENDING', key, group, id, id, 1)[1]
  local stored = held and held[2] == waiting and redis.call('XRANGE', key, id, id)[1]
  if not stored then return false end
  local values = attributes(stored[2])
  for _, way in ipairs(ways()) do
    if key_text(values, way.order) == order then return true end
  end
  return false
end

-- The level that a row with a rank means although the list of ranks was not stored.
local function meant(rank, id, order)
  local own = ranked().level[tonumber(rank)]
  if own and waits(own, id, order) then return own end
  for _, level in ipairs(level_at) do
    if level ~= own and waits(level, id, order) then return level end
  end
  return own
end

-- The first row behind a head of a level that we know: the row, its level, entry id and fair key.
local function first_behind(order)
  local row, level, id, fair, rank = first_readable(order, '[' .. order .. '\1', '(' .. order .. '\2')
  if not row then return nil end
  if rank and not ranked().agreed then level = meant(rank, id, order) end
  if level and knows[level] and (ranked().all_listed or not ranked().agreed) then return row, level, id, fair end
  -- It is of a level that is none of ours, or one of ours is spelled out and sorts behind all that are not.
  for _, known in ipairs(level_at) do
    local from = order .. '\1' .. ranked().code[known]
    row, level, id, fair = first_readable(order, '[' .. from, '(' .. from .. '\255')
    if row then return row, level, id, fair end
  end
end

-- Whether an entry is there and pending. A client may have deleted or acknowledged it by hand.
local function is_stored(level, id)
  local key = key_of[level]
  if #redis.call('XRANGE', key, id, id) > 0 then return #redis.call('XPENDING', key, group, id, id, 1) > 0 end
  local attempts_key = string.sub(key_of.heads, 1, -6) .. 'attempts' -- Of the same group, and so in the same slot.
  redis.call('XACK', key, group, id)
  redis.call('HDEL', attempts_key, level .. '|' .. id)
  return false
end

-- The head of a key is done with: the next one may start. Returns how many may (0 or 1). Those that are gone are walked over;
-- of very many the next sweep walks on.
local function follow(order)
  local heads_key, behind_key = key_of.heads, key_of.behind
  for _ = 1, LOOKS_AT_ROWS do
    local row, level, id, fair = first_behind(order)
    if not row then
      redis.call('HDEL', heads_key, order)
      return 0
    end
    redis.call('ZREM', behind_key, row) -- First, because a server without memory lets a removal happen, and then the rest.
    if is_stored(level, id) then
      redis.call('HSET', heads_key, order, level .. '|' .. id)
      push(level, id, fair)
      return 1
    end
  end
  return 0
end
