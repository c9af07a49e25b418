-- weigh (diagnosis): how many bytes of content the oldest entries of a stream have. Changes nothing.
-- The entries do not leave the server; the oldest ones are looked at because they stay behind in half-empty nodes.
--
-- KEYS[1]  stream of one level
-- ARGV[1]  how many entries at most
-- Returns  {entries looked at, bytes of their fields and values}

local bytes = 0
local rows = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', ARGV[1])
for _, row in ipairs(rows) do
  for _, value in ipairs(row[2]) do bytes = bytes + #value end
end
return {#rows, bytes}
