-- write record: replaces a record if it still has the value that the writer read.
--
-- KEYS[1]  hash of the records
-- ARGV[1]  name
-- ARGV[2]  the value that was read; '' for no record
-- ARGV[3]  the new value; '' removes the record
-- Returns  1 if it was written, 0 if the record has another value

if (redis.call('HGET', KEYS[1], ARGV[1]) or '') ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[1], ARGV[1], ARGV[3]) end
return 1
