-- unfinished (tests only): what one group still has to do; changes nothing.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  scheduled ZSET of the stream
-- KEYS[3 ..]  streams of the levels, those that are not paused first; then the lanes of these levels
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries
-- ARGV[3]  the consumer that asks
-- ARGV[4]  how many of the levels are not paused
-- ARGV[5]  how many levels
-- ARGV[6 ..]  the level of KEYS[3], KEYS[4], ...
-- Returns  {waiting, with the one who asks, with other consumers, retries due, retries later, scheduled due, scheduled
--           later, waiting or due and paused, ms until the next of those that are later or -1}.
--           At most 1000 waiting are counted per level, and 1000 due retries.

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local now_text = string.format('%.0f', now)
local open = tonumber(ARGV[4])

local function last_delivered(key)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return '0-0' end
  for _, row in ipairs(groups) do
    local name, last
    for i = 1, #row, 2 do
      if row[i] == 'name' then name = row[i + 1] elseif row[i] == 'last-delivered-id' then last = row[i + 1] end
    end
    if name == ARGV[1] then return last end
  end
  return '0-0'
end

local waiting, mine, others, paused = 0, 0, 0, 0
local is_open = {}
local levels = tonumber(ARGV[5])
for k = 3, 2 + levels do
  local count = #redis.call('XRANGE', KEYS[k], '(' .. last_delivered(KEYS[k]), '+', 'COUNT', 1000)
  -- Queued entries that may start. Entries behind a head are not counted: the head is.
  count = count + redis.call('ZCARD', KEYS[k + levels])
  if k - 2 <= open then
    waiting = waiting + count
    is_open[ARGV[k + 3]] = true
  else
    paused = paused + count
  end
  local pending = redis.pcall('XPENDING', KEYS[k], ARGV[1])
  if not pending.err and pending[1] > 0 then
    for _, row in ipairs(pending[4]) do
      if row[1] == ARGV[3] then
        mine = mine + tonumber(row[2])
      elseif string.sub(row[1], 1, 1) ~= '-' then
        others = others + tonumber(row[2])
      end
    end
  end
end

local due = 0
for _, member in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now_text, 'LIMIT', 0, 1000)) do
  if is_open[string.match(member, '^(%-?%d+)|')] then due = due + 1 else paused = paused + 1 end
end
local promotable = redis.call('ZCOUNT', KEYS[2], '-inf', now_text)

local later, next_at = {}, -1
for k = 1, 2 do
  later[k] = redis.call('ZCOUNT', KEYS[k], '(' .. now_text, '+inf')
  local first = redis.call('ZRANGEBYSCORE', KEYS[k], '(' .. now_text, '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  if first[2] then
    local wait = math.ceil(tonumber(first[2]) - now)
    if next_at < 0 or wait < next_at then next_at = wait end
  end
end
return {waiting, mine, others, due, later[1], promotable, later[2], paused, next_at}
