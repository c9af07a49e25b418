-- dead facts (diagnosis): how many dead letters a group has, since when, and how fast they come. Changes nothing.
-- At most ARGV[2] letters are read, and none of them leaves the server.
--
-- KEYS[1]  dead-letter stream of the group
-- ARGV[1]  from this id on letters count as recent
-- ARGV[2]  how many recent letters are looked at, at most (the newest)
-- Returns  {number of letters, id of the oldest or '', id of the newest or '', recent ones looked at, id of the oldest of these or ''}

local count = redis.call('XLEN', KEYS[1])
if count == 0 then return {0, '', '', 0, ''} end
local first = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)
local last = redis.call('XREVRANGE', KEYS[1], '+', '-', 'COUNT', 1)
local recent = redis.call('XREVRANGE', KEYS[1], '+', ARGV[1], 'COUNT', ARGV[2])
local since = ''
if #recent > 0 then since = recent[#recent][1] end
return {count, first[1][1], last[1][1], #recent, since}
