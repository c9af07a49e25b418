-- whereabouts: tells the state of entries in one group. Read only. An ended entry was handled,
-- cancelled, or is dead: this script does not tell which.
--
-- KEYS[1 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries
-- ARGV[3]  the waiting consumer, which owns entries that are queued by key
-- ARGV[4]  n, how many levels
-- ARGV[5 .. 4+n]  the level of KEYS[1], KEYS[2], ...
-- ARGV[5+n ..]    members, level|entry id (0 to 1000)
-- Returns  per member: waiting, processing, retrying or ended

-- include: members.inc.lua

local key_of, last_of, n = {}, {}, tonumber(ARGV[4])
for i = 1, n do key_of[ARGV[4 + i]] = KEYS[i] end

local function last_delivered(key)
  if last_of[key] then return last_of[key] end
  last_of[key] = '0-0'
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  for _, row in ipairs(groups.err and {} or groups) do
    local name, last
    for i = 1, #row, 2 do
      if row[i] == 'name' then name = row[i + 1] end
      if row[i] == 'last-delivered-id' then last = row[i + 1] end
    end
    if name == ARGV[1] then last_of[key] = last end
  end
  return last_of[key]
end

local results = {}
for a = 5 + n, #ARGV do
  local level, id = read_member(ARGV[a])
  local key, result = level and key_of[level], 'ended'
  if key then
    local held = redis.pcall('XPENDING', key, ARGV[1], id, id, 1)
    if not held.err and #held == 1 then
      local owner = held[1][2]
      result = owner == ARGV[2] and 'retrying' or owner == ARGV[3] and 'waiting' or 'processing'
    elseif #redis.call('XRANGE', key, '(' .. last_delivered(key), id, 'COUNT', 1) == 1
      and #redis.call('XRANGE', key, id, id) == 1 then
      result = 'waiting'
    end
  end
  results[#results + 1] = result
end
return results
