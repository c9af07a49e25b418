-- dead facts (diagnosis): counts the dead letters of a group, all and recent ones. Read only.
-- At most ARGV[2] dead letters are read, and none of them leaves the server.
--
-- KEYS[1]  dead-letter stream of the group
-- ARGV[1]  from this id on dead letters count as recent
-- ARGV[2]  how many dead letters to read at most, the newest first
-- Returns  {number of dead letters, id of the oldest or '', id of the newest or '', number of
--           recent ones that were read, id of the oldest of these or ''}

local count = redis.call('XLEN', KEYS[1])
if count == 0 then return {0, '', '', 0, ''} end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local recent = redis.call('XREVRANGE', KEYS[1], '+', ARGV[1], 'COUNT', ARGV[2])
local since = ''
if #recent > 0 then since = recent[#recent][1] end
return {count, first[1][1], last[1][1], #recent, since}
