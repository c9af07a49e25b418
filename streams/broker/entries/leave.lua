-- leave: a consumer that stops in order takes its name off the group, on every level where nothing
-- is pending with it. In one script: the server forgets what a consumer holds with it. A pending
-- entry keeps the name, and the reclaimer finds it.
-- It only removes, which a server without memory allows.
--
-- KEYS[1]  leases of the group
-- KEYS[2 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  consumer
-- Returns  on how many levels it is gone

local gone = 0
for i = 2, #KEYS do
  local held = redis.pcall('XPENDING', KEYS[i], ARGV[1], '-', '+', 1, ARGV[2])
  -- An error: the group is gone, or the key holds something else.
  if not held.err and #held == 0 then
    redis.call('XGROUP', 'DELCONSUMER', KEYS[i], ARGV[1], ARGV[2])
    gone = gone + 1
  end
end
-- An entry that is pending with it still has its lease. Another kind of key is the trouble of its
-- reader.
if gone == #KEYS - 1 then redis.pcall('HDEL', KEYS[1], ARGV[2]) end
return gone
