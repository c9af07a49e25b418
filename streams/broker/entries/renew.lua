-- renew: keeps the lease of entries that a consumer holds, running or waiting for their
-- acknowledgement.
-- Never changes an owner, never raises a delivery count: a consumer that lost an entry learns it
-- here and changes nothing.
--
-- KEYS[1]  config hash of the stream
-- KEYS[2 ..]  streams of the levels; then the attempts hash of the group, its retry ZSET, and its admissions hash
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3 ..]  three per entry: index of its key, entry id, delivery count that must match
-- Returns  {now in ms, position (from 1) of each entry whose lease is lost, ...}

-- include: holds.inc.lua
-- include: admissions.inc.lua

-- The text of a refusal, which is a table or a text, by the server's version.
local function said(refusal)
  return type(refusal) == 'table' and refusal.err or tostring(refusal)
end

-- Refusals that mean that the entry is not there any more. Any other says nothing of it: then nothing is known of any lease.
local function is_gone(text)
  return string.find(text, 'NOGROUP', 1, true) or string.find(text, 'no such key', 1, true)
    or string.find(text, 'WRONGTYPE', 1, true)
end

local time = redis.call('TIME')
local result = {tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)}
local position = 0
for i = 3, #ARGV, 3 do
  position = position + 1
  local key, id = KEYS[tonumber(ARGV[i])], ARGV[i + 1]
  local ok, held = pcall(holds, key, KEYS[1], ARGV[1], ARGV[2], id, tonumber(ARGV[i + 2]))
  if not ok and not is_gone(said(held)) then return redis.error_reply(said(held)) end
  local kept = 0
  if ok and held then
    kept = #redis.call('XCLAIM', key, ARGV[1], ARGV[2], 0, id, 'JUSTID')
    -- Servers before 7.0 (which do not tell their version here) claim an entry that was deleted as if it were there, and
    -- keep it pending for ever.
    if not redis.REDIS_VERSION_NUM and #redis.call('XRANGE', key, id, id) == 0 then
      redis.call('XACK', key, ARGV[1], id)
      kept = 0
    end
  end
  if ok and held and kept == 0 then
    -- It was deleted, and the server took it off the pending list: no other script would hear of
    -- its attempts.
    local member = string.match(key, ':(-?%d+)$') .. '|' .. id
    redis.pcall('HDEL', KEYS[#KEYS - 2], member)
    let_go(KEYS[#KEYS], KEYS[#KEYS - 1], member)
  end
  if kept == 0 then
    result[#result + 1] = position
  end
end
return result
