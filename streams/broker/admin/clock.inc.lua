-- Shared by the scripts that need the server's time (included as text, still a constant script).

-- Unix time in whole milliseconds.
local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- The same as text, as scores are written: Lua's own form of large numbers loses digits.
local function now_score()
  return string.format('%.0f', now_ms())
end

-- Unix time in seconds, with three decimals.
local function now_seconds()
  local time = redis.call('TIME')
  return string.format('%.3f', tonumber(time[1]) + tonumber(time[2]) / 1000000)
end
