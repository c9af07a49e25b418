-- show, cancel: finds the entries that wait for a retry and have one of these event ids. Read only.
-- It reads rows from the end: due entries leave at the beginning, so that no row is skipped
-- between two calls.
--
-- KEYS[1]  retry ZSET of the group
-- KEYS[2 ..]  streams of the levels
-- ARGV[1]  first row, counted from the end
-- ARGV[2]  last row
-- ARGV[3]  n, how many levels
-- ARGV[4 .. 3+n]  the level of KEYS[2], KEYS[3], ...
-- ARGV[4+n ..]    event ids
-- Returns  {number of rows that were read, {{event id, level|entry id}, ...}}

-- include: members.inc.lua

local key_of, wanted, n = {}, {}, tonumber(ARGV[3])
for i = 1, n do key_of[ARGV[3 + i]] = KEYS[1 + i] end
for i = 4 + n, #ARGV do wanted[ARGV[i]] = true end
local found = {}
local rows = redis.call('ZRANGE', KEYS[1], ARGV[1], ARGV[2], 'REV')
for _, member in ipairs(rows) do
  local level, id = read_member(member)
  local key = level and key_of[level]
  local stored = key and redis.call('XRANGE', key, id, id) or {}
  local fields = stored[1] and stored[1][2] or {}
  for i = 1, #fields, 2 do
    if fields[i] == 'id' then
      if wanted[fields[i + 1]] then found[#found + 1] = {fields[i + 1], member} end
      break
    end
  end
end
return {#rows, found}
