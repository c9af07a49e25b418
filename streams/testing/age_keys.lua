-- travel (tests only): keys that expire do so earlier, as if time had passed. Keys without an expiry stay as they are.
--
-- KEYS[1 ..]  keys
-- ARGV[1]  how many ms pass
-- Returns  how many keys are gone by that

local gone = 0
for i = 1, #KEYS do
  local left = redis.call('PTTL', KEYS[i])
  if left >= 0 then
    if left <= tonumber(ARGV[1]) then
      redis.call('DEL', KEYS[i])
      gone = gone + 1
    else
      redis.call('PEXPIRE', KEYS[i], string.format('%.0f', left - tonumber(ARGV[1])))
    end
  end
end
return gone
