-- travel (tests only): due times come closer, as if time had passed.
--
-- KEYS[1 ..]  ZSETs of due times in ms
-- ARGV[1]  how many ms pass
-- Returns  how many rows were moved

local moved = 0
for i = 1, #KEYS do
  local rows = redis.call('ZRANGE', KEYS[i], 0, -1, 'WITHSCORES')
  for at = 1, #rows, 2 do
    redis.call('ZADD', KEYS[i], string.format('%.3f', tonumber(rows[at + 1]) - tonumber(ARGV[1])), rows[at])
    moved = moved + 1
  end
end
return moved
