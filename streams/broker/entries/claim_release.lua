-- claim release: the attempt that has the claim failed; the event id is free again.
-- Owner and delivery count are compared: the late failure of a stalled attempt frees no claim of a later one, and no mark.
--
-- KEYS[1 ..]  handled keys, one per event id
-- ARGV[1 ..]  two per key: entry (level|id), delivery count
-- Returns  one integer per key: 1 freed, 0 it was not this attempt's

local results = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  results[i] = 0
  if redis.call('GET', key) == 'claimed ' .. ARGV[2 * i] .. ' ' .. ARGV[2 * i - 1] then
    results[i] = redis.call('UNLINK', key)
  end
end
return results
