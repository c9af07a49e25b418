-- count: adds what a worker did in the last seconds to the figures of this minute and this hour, and says that it is there.
--
-- KEYS[1]  figures of the minute, expiring
-- KEYS[2]  figures of the hour, expiring
-- KEYS[3]  hash of the group's workers, expiring
-- ARGV[1]  for how many ms the figures of a minute are kept
-- ARGV[2]  for how many ms those of an hour are
-- ARGV[3]  for how many ms the workers are
-- ARGV[4]  the worker's name
-- ARGV[5]  what is said of it (JSON); '' takes it out
-- ARGV[6 ..]  field, by how much it grows
-- Returns  nothing

for k = 1, 2 do
  for i = 6, #ARGV, 2 do redis.call('HINCRBY', KEYS[k], ARGV[i], ARGV[i + 1]) end
  if #ARGV > 5 then redis.call('PEXPIRE', KEYS[k], ARGV[k]) end
end
if ARGV[5] == '' then
  redis.call('HDEL', KEYS[3], ARGV[4])
else
  redis.call('HSET', KEYS[3], ARGV[4], ARGV[5])
  redis.call('PEXPIRE', KEYS[3], ARGV[3])
end
return false
