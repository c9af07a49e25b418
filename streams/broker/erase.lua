-- erase: deletes entries wherever they stand in their life, and writes down who did. What a group or a lane still says of
-- them is taken off when it comes to them, as after any deletion.
-- The first write frees memory, so a server without any allows it, and with it the rest.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  audit stream
-- ARGV[1]  who erases
-- ARGV[2 ..]  entry ids (1 to 500)
-- Returns  how many were deleted

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end
local count = redis.call('XDEL', KEYS[1], unpack(ARGV, 2))
if count > 0 then
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'erase', 'by', ARGV[1], 'count', count)
end
return count
