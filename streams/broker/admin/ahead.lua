-- ahead (diagnosis): counts the entries between two ids. Read only; they do not leave the server.
--
-- KEYS[1]  stream of one level
-- ARGV[1]  behind this id
-- ARGV[2]  before this id
-- ARGV[3]  the most to count
-- Returns  the count

return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '(' .. ARGV[2], 'COUNT', ARGV[3])
