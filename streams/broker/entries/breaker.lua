-- breaker: an attempt ended, and the circuit breaker of its key counts it: it may open, which pauses the key, or close.
-- The first write replaces or removes a field, or adds one that a server without memory may refuse: then nothing is done.
--
-- KEYS[1]  hash of what is paused
-- KEYS[2]  audit stream
-- KEYS[3]  hash of what was counted for the key, expiring
-- ARGV[1]  scope of the key's pause
-- ARGV[2]  the entry, level|entry id
-- ARGV[3]  how it ended: ok, failed, unavailable
-- ARGV[4]  how many others ended well since the last call
-- ARGV[5]  window in ms
-- ARGV[6]  attempts within the window from which on it may open
-- ARGV[7]  share of failures from which on it opens
-- ARGV[8]  ms from opening to the probe
-- ARGV[9]  the breaker's name, which the operator sees as the author of the pause
-- Returns  {state, ms}: 0 closed; 1 it is open, and was before; 2 it opened now; 3 it closed now. ms to the probe, or 0

-- include: members.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local scope, member, outcome, well = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4])
local window, minimum, share, every = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]), tonumber(ARGV[8])
local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end

local stored = redis.call('HGET', KEYS[1], scope)
if stored then
  local ok, pause = pcall(cjson.decode, stored)
  if not ok or type(pause) ~= 'table' or type(pause.probe) ~= 'number' then return {0, 0} end -- An operator's pause.
  if outcome == 'ok' and pause.scout == member then
    redis.call('HDEL', KEYS[1], scope)
    redis.call('UNLINK', KEYS[3])
    redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'resume', 'scope', scope, 'by', ARGV[9])
    return {3, 0}
  end
  return {1, math.max(1, pause.probe - now)}
end

local counted = redis.call('HMGET', KEYS[3], 'since', 'ok', 'failed')
local since, good, bad = finite(counted[1], 0), finite(counted[2], 0), finite(counted[3], 0)
if since + window < now or since > now then since, good, bad = now, 0, 0 end
good = good + well
if outcome == 'ok' then good = good + 1 else bad = bad + 1 end
if outcome == 'unavailable' or (outcome == 'failed' and good + bad >= minimum and bad / (good + bad) >= share) then
  local reason = 'unavailable'
  if outcome == 'failed' then reason = string.format('%d of %d attempts failed', bad, good + bad) end
  local pause = {by = ARGV[9], at = now / 1000, reason = reason, probe = now + every, every = every}
  redis.call('HSET', KEYS[1], scope, cjson.encode(pause))
  redis.call('UNLINK', KEYS[3])
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'pause', 'scope', scope, 'by', ARGV[9],
    'reason', reason)
  return {2, every}
end
redis.call('HSET', KEYS[3], 'since', string.format('%.0f', since), 'ok', good, 'failed', bad)
redis.call('PEXPIRE', KEYS[3], window)
return {0, 0}
