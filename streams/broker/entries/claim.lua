-- claim: an attempt takes its event id for itself, or learns that the event was handled, or that another attempt has it.
-- A claim names entry and delivery count. A later delivery of the same entry takes it over at once: the earlier attempt
-- lost its lease. Claiming what one has already extends it, so a claim can be sent again and again.
-- The write is a SET, refused without memory; then nothing of that key has changed.
--
-- KEYS[1 ..]  handled keys, one per event id
-- ARGV[1]  ms for which a claim holds
-- ARGV[2 ..]  two per key: entry (level|id), delivery count
-- Returns  one integer per key: 1 claimed, 0 handled already, -1 another attempt has it, -2 no memory

local results = {}
for i = 1, #KEYS do
  local key = KEYS[i]
  local entry, count = ARGV[2 * i], tonumber(ARGV[2 * i + 1])
  local held = redis.call('GET', key)
  local held_count, held_entry = string.match(held or '', '^claimed (%d+) (.*)$')
  if held == 'handled' then
    results[i] = 0
  elseif held and not (held_entry == entry and tonumber(held_count) <= count) then
    results[i] = -1
  elseif held and tonumber(held_count) == count then
    redis.call('PEXPIRE', key, ARGV[1])
    results[i] = 1
  else
    local reply = redis.pcall('SET', key, 'claimed ' .. count .. ' ' .. entry, 'PX', ARGV[1])
    results[i] = reply['ok'] and 1 or -2
  end
end
return results
