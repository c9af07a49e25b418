-- follow: the heads of order keys are acknowledged or dead, so the next of each key may start, or the key is held.
-- A head that is still pending (its lease was lost) stays the head.
-- The first write removes or replaces a row, so a server without memory lets the rest happen too.
--
-- KEYS[1]  heads hash of the group
-- KEYS[2]  behind ZSET of the group
-- KEYS[3]  rules hash of the group
-- KEYS[4 ..]  per level, highest first: its stream, its lane and its ring
-- ARGV[1]  group
-- ARGV[2]  the waiting consumer
-- ARGV[3]  how many levels
-- ARGV[4 ..]  the levels; then per head four: order key, level, entry id, and its event id if the key is to be held, else ''.
--             Of an entry whose meta only a script can read: \1, its type, \1 and its meta, in place of the key
-- Returns  {how many may start now, how many heads are still pending}

-- include: members.inc.lua
-- include: lanes.inc.lua

local count, ready, pending = tonumber(ARGV[3]), 0, 0
know(1, 4, count, ARGV[1], ARGV[2])
local heads_key = KEYS[1]
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)

-- The key that an entry is the head of; no stored key has a control character.
local function headed(order, member)
  local kind, meta = string.match(order, '^\1(.-)\1(.*)$')
  if not kind then return redis.call('HGET', heads_key, order) == member and order end
  return key_headed(attributes({'type', kind, 'meta', meta}), member)
end

for i = 4 + count, #ARGV, 4 do
  local level, id, event = ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local key, member = key_of[level], level .. '|' .. id
  local order = headed(ARGV[i], member)
  if order then
    if #redis.call('XPENDING', key, group, id, id, 1) > 0 then
      pending = pending + 1
    elseif event ~= '' then
      redis.call('HDEL', heads_key, order)
      redis.call('HSET', heads_key, order, string.format('held %.0f ', now) .. member .. ' ' .. event)
    else
      ready = ready + follow(order)
    end
  end
end
return {ready, pending}
