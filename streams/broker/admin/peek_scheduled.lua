-- show (scheduled events): reads the fields of delayed events. Read only.
--
-- KEYS[1]  scheduled ZSET
-- KEYS[2]  hash of the packed fields
-- ARGV[1 ..]  members (level|event id)
-- Returns  per member {due time in ms, {field, value, ...}}, no fields if they cannot be read;
--           '' if there is none

-- include: packed.inc.lua

local found = {}
for i, member in ipairs(ARGV) do
  local packed = redis.call('HGET', KEYS[2], member)
  local due = redis.call('ZSCORE', KEYS[1], member)
  if packed and due then found[i] = {due, read_packed(packed) or {}} else found[i] = '' end
end
return found
