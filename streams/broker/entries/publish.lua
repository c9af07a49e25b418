-- publish: (nothing) -> pending. Adds a batch of events. Never trims; a stream at its limit refuses what is over it.
-- The first write is an XADD, so a server without memory refuses the whole batch and nothing is stored.
--
-- KEYS[1 .. n-1]  streams of all levels
-- KEYS[n]         scheduled ZSET (counted into the limit)
-- ARGV[1]  limit on waiting + processing + retrying + scheduled events of the stream; 0: none
-- ARGV[2 ..]  runs of events alike: index of the level's key, how many events, type, meta (JSON; ''
--             for none), then id and body of one event after the other. The values that a run has
--             in common are sent once.
-- Returns  per event its entry id, or '' if the stream was full

local room = -1
if ARGV[1] ~= '0' then
  room = tonumber(ARGV[1]) - redis.call('ZCARD', KEYS[#KEYS])
  for i = 1, #KEYS - 1 do room = room - redis.call('XLEN', KEYS[i]) end
  if room < 0 then room = 0 end
end
local ids, at, last = {}, 2, #ARGV
while at < last do
  local key, count, kind, meta = KEYS[tonumber(ARGV[at])], tonumber(ARGV[at + 1]), ARGV[at + 2], ARGV[at + 3]
  at = at + 4
  for _ = 1, count do
    if room == 0 then
      ids[#ids + 1] = ''
    else
      local id, data = ARGV[at], ARGV[at + 1]
      if meta == '' then
        ids[#ids + 1] = redis.call('XADD', key, '*', 'type', kind, 'id', id, 'data', data)
      else
        ids[#ids + 1] = redis.call('XADD', key, '*', 'type', kind, 'id', id, 'data', data, 'meta', meta)
      end
      room = room - 1
    end
    at = at + 2
  end
end
return ids
