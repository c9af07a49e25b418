-- fetch (new entries, several levels): pending -> processing. Never blocks, never takes more than asked, and takes from
-- a level only when every level above it is empty.
--
-- KEYS[1 ..]  streams, highest level first
-- ARGV[1]  group
-- ARGV[2]  consumer
-- ARGV[3]  how many entries at most
-- Returns  per level that had any: {index of its key, {{id, {field, value, ...}}, ...}}

local left = tonumber(ARGV[3])
local found = {}
for i = 1, #KEYS do
  local reply = redis.call('XREADGROUP', 'GROUP', ARGV[1], ARGV[2], 'COUNT', left, 'STREAMS', KEYS[i], '>')
  if reply and reply[1] then
    local entries = reply[1][2]
    found[#found + 1] = {i, entries}
    left = left - #entries
    if left <= 0 then break end
  end
end
return found
