-- ``stray_unreadable`` (diagnosis and repair): walks a slice of each key of a group for rows that
-- cannot be read, which another program wrote. Repair drops them, and makes entries due whose time
-- is none. No entry is lost with a row, since it stays pending. An unreadable head is only counted:
-- ``mend_lanes`` finds the right one. Rows of a missing level are left alone.
-- A repair begins with a removal, or with a write that a server without memory refuses whole.
--
-- KEYS[1]  audit stream
-- KEYS[2]  rules hash of the group
-- KEYS[3]  sweep hash of the group
-- KEYS[4]  attempts hash of the group
-- KEYS[5]  heads hash of the group
-- KEYS[6]  hash of the group's queues
-- KEYS[7]  retry ZSET of the group
-- KEYS[8]  behind ZSET of the group
-- KEYS[9]  prefix of the keys of taken slots
-- KEYS[10] prefix of the keys of queues
-- KEYS[11 ..]  per level: its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the operator; '' only looks
-- ARGV[3]  the most rows of each key to read, roughly
-- ARGV[4 ..]  per key from KEYS[2] on, without the two prefixes: the cursor, 0 at first; '' to skip
-- Returns  {{kind of rows, count, one of them}, ...}, then the next cursor of each key or ''

-- include: audit.inc.lua
-- include: clock.inc.lua
-- include: members.inc.lua
-- include: lanes.inc.lua

local wrong = wrong_audit(KEYS[1])
if wrong then return wrong end
local now = now_score()
local by, slice, at = ARGV[2], tonumber(ARGV[3]), 4
key_of.rules, key_of.retry = KEYS[2], KEYS[7]
local told, places, on = {}, {}, {}

local function note(what, row)
  if not places[what] then
    told[#told + 1] = {what, 0, row}
    places[what] = #told
  end
  told[places[what]][2] = told[places[what]][2] + 1
end

-- Keys of a wrong type are skipped: another finding names them.
local function walk_hash(what, key, is_odd, is_kept)
  local cursor, page = ARGV[at], nil
  at = at + 1
  if cursor ~= '' then page = redis.pcall('HSCAN', key, cursor, 'COUNT', slice) end
  on[#on + 1] = page and not page.err and page[1] ~= '0' and page[1] or ''
  for i = 1, page and not page.err and #page[2] or 0, 2 do
    local field, value = page[2][i], page[2][i + 1]
    if is_odd(field, value) then
      note(what, field)
      if by ~= '' and not is_kept then redis.call('HDEL', key, field) end
    end
  end
end

local function walk_zset(what, key, is_odd, mend)
  local first, rows, gone = tonumber(ARGV[at]), {}, 0
  at = at + 1
  if first then rows = redis.pcall('ZRANGE', key, first, first + slice - 1, 'WITHSCORES') end
  if rows.err then rows = {} end
  for i = 1, #rows, 2 do
    if is_odd(rows[i], rows[i + 1]) then
      note(what, rows[i])
      if by ~= '' then
        redis.call('ZREM', key, rows[i])
        gone = gone + 1 -- ``mend`` may add the row elsewhere; reading it twice does no harm.
        if mend then mend(rows[i]) end
      end
    end
  end
  on[#on + 1] = #rows == 2 * slice and string.format('%.0f', first + slice - gone) or ''
end

-- Unreadable fields of the hashes that hold cursors and rules.
local function is_odd_rule(field, value)
  if field == 'cursor' then return not is_part(value) end
  if field == 'levels' then return not is_list(value) end
  if string.sub(field, 1, 5) == 'from:' then
    return value ~= '-' and not is_id(string.match(value, '^%((.*)$') or '')
  end
  return string.sub(field, 1, 7) == 'weight:' and finite(value, 0) <= 0
end
local function is_odd_sweep(field, value)
  if field == 'until' or field == 'seen' then return not finite(value) end
  return string.sub(field, 1, 7) == 'cursor:' and not is_id(value)
end

local function is_odd_record(field, value)
  local ok, record = pcall(cjson.decode, value)
  return not read_member(field) or not ok or type(record) ~= 'table'
    or type(record.failures) ~= 'number' or type(record.stalls) ~= 'number'
    or type(record.errors) ~= 'table'
end

local function is_odd_head(_, head)
  return not read_member(head) and not string.find(head, '^held %d+ %S+ ')
end

-- Looks at the slots and the queue of one key of a limit. If its concurrency cannot be read, the
-- entries in the queue are made due, so that they ask again.
local function look_into(name, is_odd_queue)
  local busy_key, queue_key, retry_key = KEYS[9] .. name, KEYS[10] .. name, KEYS[7]
  local slots = redis.pcall('ZRANGE', busy_key, 0, slice - 1)
  local queue = redis.pcall('ZRANGE', queue_key, 0, slice - 1)
  for _, member in ipairs(slots.err and {} or slots) do
    if not read_member(member) then
      note('busy', member)
      if by ~= '' then redis.call('ZREM', busy_key, member) end
    end
  end
  for _, member in ipairs(queue.err and {} or queue) do
    if not read_member(member) then
      note('queue', member)
      if by ~= '' then redis.call('ZREM', queue_key, member) end
    elseif by ~= '' and is_odd_queue then
      redis.call('ZADD', retry_key, 'XX', 'LT', now, member)
    end
  end
end
local function is_odd_queue(name, most)
  local is_odd = not string.find(most, '^%d+$') or finite(most, 0) > 1e9
  look_into(name, is_odd)
  return is_odd
end

local function is_odd_retry(member, score)
  return not read_member(member) or finite(score, -1) < 0
end
local function due_now(member)
  local retry_key = KEYS[7]
  if read_member(member) then redis.call('ZADD', retry_key, now, member) end
end

local function is_odd_behind(row)
  local order = key_of_row(row)
  if not order then return true end
  local _, id = read_row(row, order)
  return not id
end
local function is_odd_lane(row)
  return not plain(string.match(row, '^[^\1]*\1(.*)$'))
end

walk_hash('rules', KEYS[2], is_odd_rule)
walk_hash('sweep', KEYS[3], is_odd_sweep)
walk_hash('attempts', KEYS[4], is_odd_record)
walk_hash('heads', KEYS[5], is_odd_head, true)
walk_hash('queues', KEYS[6], is_odd_queue)
walk_zset('retry', KEYS[7], is_odd_retry, due_now)
walk_zset('behind', KEYS[8], is_odd_behind)
for k = 11, #KEYS, 2 do
  local ring_key = KEYS[k + 1]
  local function of_now(fair)
    local first = redis.call(
      'ZRANGEBYSCORE', ring_key, '(-inf', '(inf', 'WITHSCORES', 'LIMIT', 0, 1)
    redis.call('ZADD', ring_key, first[2] or 0, fair)
  end
  walk_zset('lane', KEYS[k], is_odd_lane)
  walk_zset('ring', ring_key, function(_, score) return not finite(score) end, of_now)
end

if by ~= '' and #told > 0 then
  local words = {}
  for i, row in ipairs(told) do words[i] = row[1] .. ' ' .. row[2] end
  write_audit(KEYS[1], 'action', 'repair', 'group', ARGV[1], 'by', by,
    'rows_unreadable', table.concat(words, ', '))
end
return {told, unpack(on)}
