-- discard: dead -> (gone). Deletes dead letters and writes down who did.
--
-- KEYS[1]  dead-letter stream of the group
-- KEYS[2]  audit stream
-- ARGV[1]  group
-- ARGV[2]  who discards
-- ARGV[3 ..]  ids of dead letters (at most 1000)
-- Returns  how many were deleted

local count = redis.call('XDEL', KEYS[1], unpack(ARGV, 3))
if count > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'discard', 'group', ARGV[1], 'by', ARGV[2], 'count', count)
end
return count
