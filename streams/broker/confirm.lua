-- confirm (by key): of due retries that were fetched, those that are the heads of their keys go on. One that is not (its
-- row was lost, or the order was declared while it waited) is lined up behind its head.
-- The first write is an XCLAIM, so a server without memory lets the rest happen too.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the waiting consumer
-- ARGV[3]  attributes that make the fair key, with commas; ''
-- ARGV[4]  how many levels
-- ARGV[5 ..]  the levels; then per entry three: order key, level, entry id
-- Returns  one integer per entry: 1 it goes on, 0 it is behind another

-- include: lanes.inc.lua

local group, waiting, fair_by, count = ARGV[1], ARGV[2], words(ARGV[3]), tonumber(ARGV[4])
know(1, 5, count)
local heads_key, results = KEYS[1], {}
for i = 5 + count, #ARGV, 3 do
  local order, level, id = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  local key, member = key_of[level], level .. '|' .. id
  local head = redis.call('HGET', heads_key, order)
  if head and head ~= member then
    local stored = redis.call('XRANGE', key, id, id)
    redis.call('XCLAIM', key, group, waiting, 0, id, 'RETRYCOUNT', 1, 'JUSTID')
    local values = stored[1] and attributes(stored[1][2]) or {}
    file(level, id, order, key_text(values, fair_by) or '', values.event or member)
    results[#results + 1] = 0
  else
    if not head then redis.pcall('HSET', heads_key, order, member) end
    results[#results + 1] = 1
  end
end
return results
