-- ahead (diagnosis): how many entries of a stream lie between two ids. Changes nothing; the entries do not leave the
-- server.
--
-- KEYS[1]  stream of one level
-- ARGV[1]  behind this id
-- ARGV[2]  before this id
-- ARGV[3]  count at most so many
-- Returns  how many

return #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '(' .. ARGV[2], 'COUNT', ARGV[3])
