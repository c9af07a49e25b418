-- write record: replaces a record if it still says what the writer read.
--
-- KEYS[1]  hash of the records
-- ARGV[1]  name
-- ARGV[2]  what it says now; '' for no record
-- ARGV[3]  what it shall say; '' removes it
-- Returns  1 written, 0 it says something else

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
