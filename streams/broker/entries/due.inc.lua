-- Shared by the scripts that hand out due retries (included as text, still a constant script).
-- Before it stand `key_of` (level -> its stream; and `retry`, `attempts`, `admissions`, `paused`),
-- `level_at`, the levels, highest first, `taken`, a list, and members.inc.lua and
-- admissions.inc.lua.
-- Only delayed entries are handed out: a row that is out of date can not steal an entry that a
-- consumer works on. The delivery count goes up, which fences the holder of before.
-- Of a level the oldest due time goes first. A consumer may not take some rows: those of paused
-- levels, or of levels that it does not serve. Neither these nor rows of other levels hide a row,
-- however many they are: the answer says for each level from which due time on to look the next
-- time, so each row is walked over once. A row that is no member is left where it is, and so is one
-- whose time is none, or is before 1970: the doctor knows of both.

local PAGE, WALK = 200, 2000
local LATEST = '9007199254740991' -- ms; what is due later is no time
local due = {now = 0, lines = {}, gone = {}, walked = 0, vanished = 0, foreign = false, complete = false, unfinished = false}
local paused, scopes = {}, {}

-- Learns which levels are paused for the group, and which pauses by attribute could concern it.
-- Returns how many levels are open; only those have a line.
local function read_pauses(name, froms)
  local paused_key, group = key_of.paused, 'group=' .. name
  -- The scopes that cover a level: the stream, the group, the level, the level of the group.
  local covers = {'stream', group}
  for i, level in ipairs(level_at) do
    covers[#covers + 1] = 'level=' .. level
    covers[#covers + 1] = group .. ',level=' .. level
  end
  local marks = redis.call('HMGET', paused_key, unpack(covers))
  local open, known = 0, 0
  for i, level in ipairs(level_at) do
    local at = 2 * i + 1
    if marks[1] or marks[2] or marks[at] or marks[at + 1] then
      paused[#paused + 1] = level
    elseif froms[i] >= 0 then
      due.lines[level] = {from = froms[i], seen = froms[i], rows = {}, next = 1, offset = 0, ended = false}
      open = open + 1
    end
  end
  for i = 1, #covers do
    if marks[i] then known = known + 1 end
  end
  if redis.call('HLEN', paused_key) > known then
    local rows = redis.call('HGETALL', paused_key)
    for i = 1, #rows, 2 do
      local of = string.match(rows[i], '^group=([^,]*)')
      local rest = string.gsub(rows[i], '^group=[^,]*,?', '')
      if (not of or of == name) and rest ~= '' and rest ~= 'stream' and not string.find(rest, '^level=') then
        scopes[#scopes + 1] = rows[i]
      end
    end
  end
  return open
end

-- Puts the rows of a page, with their scores, into the lines that `wanted` allows.
local function sort_in(page, wanted)
  for j = 1, #page, 2 do
    local level, id = read_member(page[j])
    local line = level and due.lines[level]
    if not line then
      due.foreign = true
    elseif wanted(line) then
      line.rows[#line.rows + 1] = {member = page[j], id = id, at = tonumber(page[j + 1])}
    end
  end
end

-- Looks at the first rows that are due. If these are all, each line is complete; else it goes on by itself.
local function look(few)
  local time = redis.call('TIME')
  due.now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local retry_key, start = key_of.retry, due.now
  for _, line in pairs(due.lines) do
    if line.from > due.now then line.from, line.seen = 0, 0 end -- The clock was set back.
    start = math.min(start, line.from)
  end
  local first, last = string.format('%.0f', start), string.format('%.0f', due.now)
  local page = redis.call('ZRANGEBYSCORE', retry_key, first, last, 'WITHSCORES', 'LIMIT', 0, few)
  due.complete = #page < 2 * few
  sort_in(page, function(line) return due.complete or line.from == start end)
  for _, line in pairs(due.lines) do
    if due.complete then
      line.ended, line.seen = true, due.now
    elseif line.from == start then
      line.offset, line.seen = few, tonumber(page[#page])
    end
  end
end

-- One page further, for all lines that stand at the same place.
local function walk(from, offset, page)
  local function is_there(line) return line.from == from and line.offset == offset and not line.ended end
  sort_in(page, is_there)
  due.walked = due.walked + PAGE
  for _, line in pairs(due.lines) do
    if is_there(line) then
      line.offset, line.ended = offset + PAGE, #page < 2 * PAGE
      line.seen = line.ended and due.now or tonumber(page[#page])
    end
  end
end

-- Makes sure that the next `count` due rows of a level are at hand, if there are so many; false if there is none.
local function at_hand(level, count)
  local line, retry_key = due.lines[level], key_of.retry
  if not line then return false end
  while #line.rows - line.next + 1 < count and not line.ended do
    if due.walked >= WALK and line.seen ~= line.from then
      -- Enough for one call, unless all were due in the same millisecond: then the next call would begin with them again.
      due.unfinished = true
      break
    end
    local first, last = string.format('%.0f', line.from), string.format('%.0f', due.now)
    local page = redis.call('ZRANGEBYSCORE', retry_key, first, last, 'WITHSCORES', 'LIMIT', line.offset, PAGE)
    walk(line.from, line.offset, page)
  end
  return line.rows[line.next] ~= nil
end

local function any_due()
  local found = false
  for _, level in ipairs(level_at) do
    if at_hand(level, 1) then found = true end
  end
  return found
end

-- Hands out one due retry, if it can be; says whether it did, and whether it was left because it is a suspect.
local function take_row(level, id, member, who, admits)
  local key, attempts_key, admissions_key, retry_key = key_of[level], key_of.attempts, key_of.admissions, key_of.retry
  local held = redis.call('XPENDING', key, who.group, id, id, 1)
  local record = redis.call('HGET', attempts_key, member) or ''
  local suspect = string.find(record, '"suspect":true', 1, true)
  if #held == 0 or held[1][2] ~= who.parked then
    due.gone[#due.gone + 1] = member
    if #held == 0 then
      redis.call('HDEL', attempts_key, member)
      let_go(admissions_key, retry_key, member)
    end
    return false, false
  end
  if suspect and who.suspects <= 0 then return false, true end
  local claimed = redis.call('XCLAIM', key, who.group, who.consumer, 0, id)
  due.gone[#due.gone + 1] = member
  if not (claimed[1] and claimed[1][2]) then
    redis.call('XACK', key, who.group, id)
    redis.call('HDEL', attempts_key, member)
    let_go(admissions_key, retry_key, member)
    due.vanished = due.vanished + 1
    return false, false
  end
  if not admits(level, id, claimed[1][2]) then
    put_off(admissions_key, retry_key, member) -- It is lined up by key, and has no slot while it waits there.
    return false, false
  end
  if suspect then who.suspects = who.suspects - 1 end
  taken[#taken + 1] = {level, id, held[1][4] + 1, record, claimed[1][2]}
  return true, false
end

-- Hands out at most `most` due retries of a level; returns how many. `admits` may refuse one that it put elsewhere.
-- A suspect that is left is told as `due.suspect`: it is taken by itself, once nothing else of its process runs.
local function take_due(level, most, who, admits)
  local count, line = 0, due.lines[level]
  while count < most and at_hand(level, 1) do
    local row = line.rows[line.next]
    line.next = line.next + 1
    local took, left = take_row(level, row.id, row.member, who, admits)
    if took then count = count + 1 end
    if left then
      line.left = line.left or row.at
      due.suspect = due.suspect or row.member
    end
  end
  return count
end

-- Hands out one entry and nothing else, if it is due still and its level is not paused.
local function take_alone(member, who, admits)
  local level, id = string.match(member, '^(%-?%d+)|(%d+%-%d+)$')
  local time, retry_key = redis.call('TIME'), key_of.retry
  due.now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
  local at = redis.call('ZSCORE', retry_key, member)
  if not due.lines[level] or not at or tonumber(at) > due.now then return end
  who.suspects = 1
  take_row(level, id, member, who, admits)
  if #due.gone > 0 then redis.call('ZREM', retry_key, member) end
end

-- Due retries and new entries of a level take turns: each has half of the places if both have work,
-- and all if the other has none. `who.turn` is 1 if the odd place is the retries' and 0 if it is
-- not; it changes when both used what was theirs.
local function by_turns(level, most, who, admits, take_new)
  if not at_hand(level, 1) then return take_new(level, most) end
  local count = take_due(level, math.floor((most + who.turn) / 2), who, admits)
  if most > count then count = count + take_new(level, most - count) end
  if most > count then return count + take_due(level, most - count, who, admits) end
  if most % 2 == 1 then who.turn = 1 - who.turn end
  return count
end

-- Removes the rows of what was handed out (not before: pages are counted from the front). Returns
-- how to go on: ms of the next due row or -1, per level from where on to look, and 1 if there are
-- due rows that were not looked at yet.
local function leave()
  local retry_key, froms, more = key_of.retry, {}, 0
  for n = 1, #due.gone, 1000 do
    redis.call('ZREM', retry_key, unpack(due.gone, n, math.min(n + 999, #due.gone)))
  end
  if due.unfinished then more = 1 end
  for i, level in ipairs(level_at) do
    local line = due.lines[level]
    -- Rows of a paused level are walked over. A caller that hears of the end of the pause looks
    -- from the beginning again.
    froms[i] = due.now
    if line then
      froms[i] = 0
      local row = line.rows[line.next]
      if row or not line.ended then more = 1 end
      if due.foreign or not due.complete or line.from > 0 then
        froms[i] = math.min(line.left or line.seen, row and row.at or line.seen)
      end
    end
  end
  if more == 1 then return due.now, froms, more end
  -- None that this consumer will take: it need not come back for them, unless there may be others behind. Suspects that are
  -- left are looked at again in the next look.
  local ahead = (due.foreign or #paused > 0) and 100 or 1
  local from = string.format('(%.0f', due.now)
  local rows = redis.call('ZRANGEBYSCORE', retry_key, from, LATEST, 'WITHSCORES', 'LIMIT', 0, ahead)
  local next_due = -1
  for i = 1, #rows, 2 do
    next_due = tonumber(rows[i + 1])
    if due.lines[string.match(rows[i], '^(%-?%d+)|') or ''] then break end
    if #rows < 2 * ahead then next_due = -1 end
  end
  return next_due, froms, more
end
