-- count: adds what a worker did in the last seconds to the figures of this minute, hour and day, and
-- says that it is there.
--
-- KEYS[1]  figures of the minute, expiring
-- KEYS[2]  figures of the hour, expiring
-- KEYS[3]  figures of the day, expiring
-- KEYS[4]  hash of the group's workers, expiring
-- ARGV[1]  for how many ms the figures of a minute are kept
-- ARGV[2]  for how many ms those of an hour are
-- ARGV[3]  for how many ms those of a day are
-- ARGV[4]  for how many ms the workers are
-- ARGV[5]  the worker's name
-- ARGV[6]  what is said of it (JSON); '' takes it out
-- ARGV[7 ..]  field, by how much it grows
-- Returns  nothing

for k = 1, 3 do
  for i = 7, #ARGV, 2 do redis.call('HINCRBY', KEYS[k], ARGV[i], ARGV[i + 1]) end
  if #ARGV > 6 then redis.call('PEXPIRE', KEYS[k], ARGV[k]) end
end
if ARGV[6] == '' then
  redis.call('HDEL', KEYS[4], ARGV[5])
else
  redis.call('HSET', KEYS[4], ARGV[5], ARGV[6])
  redis.call('PEXPIRE', KEYS[4], ARGV[4])
end
return false
