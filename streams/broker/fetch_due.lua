-- fetch (due retries): retrying -> processing. Hands entries whose due time has come to a consumer; the delivery count
-- goes up, which fences whoever held them before. Only entries owned by the parking consumer are handed out: a row that
-- is out of date can not steal an entry that somebody works on.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  attempts hash of the group
-- KEYS[3 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  the parking consumer
-- ARGV[4]  how many entries at most (0: only look)
-- ARGV[5]  how many suspects at most (an entry whose next stall would be its last)
-- ARGV[6 ..]  the level of KEYS[3], KEYS[4], ...
-- Returns  {now in ms, ms of the next due row or -1, how many had vanished,
--           {{level, id, delivery count, attempt record or '', {field, value, ...}}, ...}}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local limit, suspects = tonumber(ARGV[4]), tonumber(ARGV[5])
local key_of = {}
for i = 6, #ARGV do key_of[ARGV[i]] = KEYS[i - 3] end

local entries, vanished, skipped = {}, 0, 0
while #entries < limit and skipped < 1000 do
  local rows = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', string.format('%.0f', now), 'LIMIT', skipped, limit)
  if #rows == 0 then break end
  for _, member in ipairs(rows) do
    if #entries >= limit then break end
    local level, id = string.match(member, '^(%-?%d+)|(.+)$')
    local key = level and key_of[level]
    if not key then
      skipped = skipped + 1
    else
      local held = redis.call('XPENDING', key, ARGV[1], id, id, 1)
      local record = redis.call('HGET', KEYS[2], member) or ''
      local suspect = string.find(record, '"suspect":true', 1, true)
      if #held == 0 or held[1][2] ~= ARGV[3] then
        redis.call('ZREM', KEYS[1], member)
        if #held == 0 then redis.call('HDEL', KEYS[2], member) end
      elseif suspect and suspects <= 0 then
        skipped = skipped + 1
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

local first = redis.call('ZRANGE', KEYS[1], 0, 0, 'WITHSCORES')
local next_due = -1
if first[2] then next_due = tonumber(first[2]) end
return {now, next_due, vanished, entries}
