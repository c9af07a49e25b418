-- travel (tests only): what consumers hold has been silent for longer, as if time had passed.
--
-- KEYS[1 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries, which have no lease
-- ARGV[3]  how many ms pass
-- Returns  how many entries were aged

local aged = 0
for i = 1, #KEYS do
  local rows = redis.pcall('XPENDING', KEYS[i], ARGV[1], '-', '+', 100000)
  if not rows.err then
    for _, row in ipairs(rows) do
      if row[2] ~= ARGV[2] then
        local idle = string.format('%.0f', row[3] + tonumber(ARGV[3]))
        redis.call('XCLAIM', KEYS[i], ARGV[1], row[2], 0, row[1], 'IDLE', idle, 'JUSTID')
        aged = aged + 1
      end
    end
  end
end
return aged
