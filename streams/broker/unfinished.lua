-- unfinished (tests only): what one group still has to do; changes nothing.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2]  scheduled ZSET of the stream
-- KEYS[3 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  the parking consumer
-- ARGV[3]  the consumer that asks
-- Returns  {waiting (at most 1000 per level are counted), with the one who asks, with other consumers, retries due, retries later, scheduled due,
--           scheduled later, ms until the next of those that are later or -1}

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

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

local waiting, mine, others = 0, 0, 0
for k = 3, #KEYS do
  waiting = waiting + #redis.call('XRANGE', KEYS[k], '(' .. last_delivered(KEYS[k]), '+', 'COUNT', 1000)
  local pending = redis.pcall('XPENDING', KEYS[k], ARGV[1])
  if not pending.err and pending[1] > 0 then
    for _, row in ipairs(pending[4]) do
      if row[1] == ARGV[3] then
        mine = mine + tonumber(row[2])
      elseif row[1] ~= ARGV[2] then
        others = others + tonumber(row[2])
      end
    end
  end
end

local found, next_at = {waiting, mine, others}, -1
for k = 1, 2 do
  local due = redis.call('ZCOUNT', KEYS[k], '-inf', string.format('%.0f', now))
  local first = redis.call('ZRANGEBYSCORE', KEYS[k], '(' .. string.format('%.0f', now), '+inf', 'WITHSCORES', 'LIMIT', 0, 1)
  found[#found + 1] = due
  found[#found + 1] = redis.call('ZCARD', KEYS[k]) - due
  if first[2] then
    local wait = math.ceil(tonumber(first[2]) - now)
    if next_at < 0 or wait < next_at then next_at = wait end
  end
end
found[#found + 1] = next_at
return found
