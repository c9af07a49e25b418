-- drop: ends a group: its declaration, its Redis groups with their pending lists, its retries,
-- attempt records, admissions, lanes and pauses.
-- Its dead letters and the marks of Dedupe stay. The config hash notes that there are dead letters,
-- so that an erasure finds them. trim deletes the entries that only this group needed.
-- Refused while a consumer is alive: its work would no longer be seen anywhere.
--
-- KEYS[1]  config hash of the stream
-- KEYS[2]  paused hash of the stream
-- KEYS[3]  retry ZSET of the group
-- KEYS[4]  attempts hash of the group
-- KEYS[5]  sweep hash of the group
-- KEYS[6]  audit stream
-- KEYS[7]  dead-letter stream of the group
-- KEYS[8 ..]  streams of the levels, as many as ARGV[3]; then the other keys to delete
-- ARGV[1]  group
-- ARGV[2]  the operator
-- ARGV[3]  how many levels
-- ARGV[4]  ms: a consumer that was heard of since then is alive; 0: drop in any case
-- Returns  {1 dropped | 0 refused, {consumer that is alive, ...}}; {0, {}} for no such group

-- include: audit.inc.lua

local group, silence = ARGV[1], tonumber(ARGV[4])
local there, alive, seen = {}, {}, {}
for k = 8, 7 + tonumber(ARGV[3]) do
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[k])
  if groups.err and not string.find(groups.err, 'no such key', 1, true) then return groups end
  for _, row in ipairs(groups) do
    for i = 1, #row, 2 do
      if row[i] == 'name' and row[i + 1] == group then there[#there + 1] = k end
    end
  end
end
local declared = redis.call('HEXISTS', KEYS[1], 'group:' .. group)
if #there == 0 and declared == 0 then return {0, {}} end
if silence > 0 then
  for _, k in ipairs(there) do
    for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', KEYS[k], group)) do
      local name, idle
      for i = 1, #row, 2 do
        if row[i] == 'name' then name = row[i + 1] end
        if row[i] == 'idle' then idle = row[i + 1] end
      end
      if string.sub(name, 1, 1) ~= '-' and idle < silence and not seen[name] then
        seen[name] = true
        alive[#alive + 1] = name
      end
    end
  end
  if #alive > 0 then return {0, alive} end
end
redis.call('HDEL', KEYS[1], 'group:' .. group)
-- pcall: a server without memory refuses it, and drops the group all the same.
if redis.call('EXISTS', KEYS[7]) == 1 then
  redis.pcall('HSET', KEYS[1], 'dropped:' .. group, redis.call('TIME')[1])
end
for _, k in ipairs(there) do redis.call('XGROUP', 'DESTROY', KEYS[k], group) end
redis.call('UNLINK', KEYS[3], KEYS[4], KEYS[5], unpack(KEYS, 8 + tonumber(ARGV[3])))
local paused = redis.call('HGETALL', KEYS[2])
for i = 1, #paused, 2 do
  local scope = paused[i]
  local is_own = string.find(scope .. ',', 'group=' .. group .. ',', 1, true) == 1
  if is_own then redis.call('HDEL', KEYS[2], scope) end
end
write_audit(KEYS[6], 'action', 'drop', 'group', group, 'by', ARGV[2])
return {1, {}}
