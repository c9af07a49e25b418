-- claim done: the attempt that has the claim succeeded; its event id counts as handled for the
-- window.
-- Owner and delivery count are compared: the late success of a stalled attempt changes no claim of
-- a later one. If no attempt has a claim (it expired), the event was handled all the same, and the
-- mark is set.
-- The first write on a claim is a PEXPIRE, which a server without memory still allows, and with it the SET.
--
-- KEYS[1 ..]  handled keys, one per event id
-- ARGV[1]  the window in ms
-- ARGV[2 ..]  two per key: entry (level|id), delivery count
-- Returns  one integer per key: 1 marked, 0 another attempt has it or has finished, -2 no memory

local results = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local mine = 'claimed ' .. ARGV[2 * i + 1] .. ' ' .. ARGV[2 * i]
  local held = redis.call('GET', key)
  if held and held ~= mine then
    results[i] = 0
  else
    if held then redis.call('PEXPIRE', key, ARGV[1]) end
    local reply = redis.pcall('SET', key, 'handled', 'PX', ARGV[1])
    results[i] = reply['ok'] and 1 or -2
  end
end
return results
