-- weigh (diagnosis): adds up the bytes of content of a stream's oldest entries. Read only; the
-- entries do not leave the server. The oldest ones count because they stay in half-empty nodes.
--
-- KEYS[1]  stream of one level
-- ARGV[1]  the most entries to read
-- Returns  {number of entries that were read, bytes of their fields and values}

local bytes = 0
local rows = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
for _, row in ipairs(rows) do
  for _, value in ipairs(row[2]) do bytes = bytes + #value end
end
return {#rows, bytes}
