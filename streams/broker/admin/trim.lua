-- trim: deletes what no group needs any more from a slice of a fanout stream. Acknowledging does that by itself; what is
-- left over waited for a group that was dropped. Work streams are left alone: there nothing is ever left over, and what
-- looks like it is work whose consumer was deleted.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  config hash of the stream
-- ARGV[1]  entry id after which the slice begins; '-': at the beginning
-- ARGV[2]  how many entries to look at
-- Returns  {how many were deleted, the last id looked at or '' at the end}

-- include: finish.inc.lua

if redis.call('HGET', KEYS[2], 'retention') ~= 'fanout' then return {0, ''} end
local from = ARGV[1] == '-' and '-' or '(' .. ARGV[1]
local entries = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', ARGV[2])
if #entries == 0 then return {0, ''} end
local ids = {}
for i, entry in ipairs(entries) do ids[i] = entry[1] end
local last = ids[#ids]
ids = finished(KEYS[1], KEYS[2], ids)
local count = #ids > 0 and redis.call('XDEL', KEYS[1], unpack(ids)) or 0
return {count, #entries == tonumber(ARGV[2]) and last or ''}
