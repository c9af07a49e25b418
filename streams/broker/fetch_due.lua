-- fetch (due retries): retrying -> processing. Hands entries whose due time has come to a consumer; the delivery count
-- goes up, which fences whoever held them before. Only entries owned by the parking consumer are handed out: a row that
-- is out of date can not steal an entry that somebody works on.
-- Tells on the way which of the levels are paused for the group, and hands out nothing of those. Rows that this consumer
-- may not take (of paused levels, or of levels that it does not serve) hide no others however many they are: the answer
-- says from which due time on to look the next time, so each of them is walked over once.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3]  hash of what is paused
-- KEYS[4 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the parking consumer
-- ARGV[4]  how many entries at most (0: only look)
-- ARGV[5]  how many suspects at most (an entry whose next stall would be its last)
-- ARGV[6]  look from this due time on, in ms; the last answer's, or 0
-- ARGV[7 ..]  the level of KEYS[4], KEYS[5], ...
-- Returns  {now in ms, ms of the next due row or -1, how many had vanished,
--           {{level, id, delivery count, attempt record or '', {field, value, ...}}, ...},
--           {paused level, ...}, ms from which on to look the next time; 0: from the beginning,
--           {scope of a pause by attribute, ...}}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, suspects, from = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
if from > now then from = 0 end -- The clock was set back.

-- The scopes that cover a level: the stream, the group, the level, the level of the group.
local group = 'group=' .. ARGV[1]
local scopes = {'stream', group}
for i = 7, #ARGV do
  scopes[#scopes + 1] = 'level=' .. ARGV[i]
  scopes[#scopes + 1] = group .. ',level=' .. ARGV[i]
end
local marks = redis.call('HMGET', KEYS[3], unpack(scopes))
local key_of, paused, open = {}, {}, 0
for i = 7, #ARGV do
  local at = 2 * (i - 6) + 1
  if marks[1] or marks[2] or marks[at] or marks[at + 1] then
    paused[#paused + 1] = ARGV[i]
  else
    key_of[ARGV[i]] = KEYS[i - 3]
    open = open + 1
  end
end

-- Whatever else is paused that could concern this group: by an attribute of the event.
local scopes, known = {}, 0
for i = 1, 2 * (#ARGV - 6) + 2 do
  if marks[i] then known = known + 1 end
end
if redis.call('HLEN', KEYS[3]) > known then
  local rows = redis.call('HGETALL', KEYS[3])
  for i = 1, #rows, 2 do
    local of = string.match(rows[i], '^group=([^,]*)')
    local rest = string.gsub(rows[i], '^group=[^,]*,?', '')
    if (not of or of == ARGV[1]) and rest ~= '' and rest ~= 'stream' and not string.find(rest, '^level=') then
      scopes[#scopes + 1] = rows[i]
    end
  end
end
if open == 0 then return {now, -1, 0, {}, paused, 0, scopes} end

-- `skipped` rows stay where they are; the first `passed` of them are none of this consumer's business.
local entries, vanished, skipped, passed, passing, most = {}, 0, 0, 0, true, 1000
local first, last = string.format('%.0f', from), string.format('%.0f', now)
while #entries < limit do
  if skipped >= most then
    -- Enough for one call, unless all were due in the same millisecond: then the next call would begin with them again.
    local at = redis.call('ZRANGEBYSCORE', KEYS[1], first, last, 'WITHSCORES', 'LIMIT', skipped, 1)
    if not at[2] or tonumber(at[2]) ~= from then break end
    most = most + 1000
  end
  local rows = redis.call('ZRANGEBYSCORE', KEYS[1], first, last, 'LIMIT', skipped, math.max(limit, 50))
  if #rows == 0 then break end
  for _, member in ipairs(rows) do
    if #entries >= limit then break end
    local level, id = string.match(member, '^(%-?%d+)|(.+)$')
    local key = level and key_of[level]
    if not key then
      skipped = skipped + 1
      if passing then passed = passed + 1 end
    else
      local held = redis.call('XPENDING', key, ARGV[1], id, id, 1)
      local record = redis.call('HGET', KEYS[2], member) or ''
      local suspect = string.find(record, '"suspect":true', 1, true)
      if #held == 0 or held[1][2] ~= ARGV[3] then
        redis.call('ZREM', KEYS[1], member)
        if #held == 0 then redis.call('HDEL', KEYS[2], member) end
      elseif suspect and suspects <= 0 then
        skipped = skipped + 1
        passing = false
      else
        local claimed = redis.call('XCLAIM', key, ARGV[1], ARGV[2], 0, id)
        redis.call('ZREM', KEYS[1], member)
        if claimed[1] and claimed[1][2] then
          if suspect then suspects = suspects - 1 end
          entries[#entries + 1] = {level, id, held[1][4] + 1, record, claimed[1][2]}
        else
          redis.call('XACK', key, ARGV[1], id)
          redis.call('HDEL', KEYS[2], member)
          vanished = vanished + 1
        end
      end
    end
  end
end

-- What follows the rows walked over: when it is worth to look again, and from where on.
local look = 1
if #paused > 0 or passed > 0 or from > 0 then look = 100 end
local rows = redis.call('ZRANGEBYSCORE', KEYS[1], first, '+inf', 'WITHSCORES', 'LIMIT', passed, look)
local next_due = -1
if passed > 0 or from > 0 then from = math.min(tonumber(rows[2] or now), now) end
for i = 1, #rows, 2 do
  next_due = tonumber(rows[i + 1])
  if next_due <= now or key_of[string.match(rows[i], '^(%-?%d+)|')] then break end
  -- None that this consumer will take: it need not come back for them, unless there may be others behind.
  if #rows < 2 * look then next_due = -1 end
end
return {now, next_due, vanished, entries, paused, from, scopes}
