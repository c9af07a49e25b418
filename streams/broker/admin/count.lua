-- count: adds a worker's figures to those of this minute, hour and day, and writes its note.
--
-- KEYS[1]  figures of the minute, expiring
-- KEYS[2]  figures of the hour, expiring
-- KEYS[3]  figures of the day, expiring
-- KEYS[4]  hash of the group's workers, expiring
-- ARGV[1]  ms for which the figures of a minute are kept
-- ARGV[2]  ms for which those of an hour are kept
-- ARGV[3]  ms for which those of a day are kept
-- ARGV[4]  ms for which the workers are kept
-- ARGV[5]  the worker's name
-- ARGV[6]  its note (JSON); '' removes it
-- ARGV[7 ..]  figure, and the amount by which it grows
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
