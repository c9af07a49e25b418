-- Shared by the scripts that know limited concurrency (included as text, still a constant script).
-- A slot is a row in a ZSET: the entry that holds it, and when it got it, in microseconds. It is worth nothing once its entry
-- is not with a living consumer any more, whoever forgot to give it back: a killed worker's slots come back with the lease.

local FAR = 3600000 -- ms; who waits in a queue is told when it is its turn, and looks by itself once an hour
local GRACE = 5000000 -- microseconds for which a slot is kept for who was just given it

-- drop_lost_slots(key, key_of, group, parking, lease, now)
local function drop_lost_slots(key, key_of, group, parking, lease, now)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local level, id = string.match(rows[i], '^(%-?%d+)|(.+)$')
    local stream_key_of = key_of[level]
    local held = stream_key_of and redis.call('XPENDING', stream_key_of, group, id, id, 1) or {}
    local alive = #held == 1 and held[1][2] ~= parking and held[1][3] < lease
    if not alive and (#held == 0 or now - tonumber(rows[i + 1]) > GRACE) then redis.call('ZREM', key, rows[i]) end
  end
end
