-- trim: deletes entries that no group needs any more from a slice of a fanout stream.
-- Acknowledging does that too, except for entries that waited for a dropped group. Work streams
-- are left alone: entries that look superfluous there are work whose consumer was deleted.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  config hash of the stream
-- ARGV[1]  entry id after which the slice begins; '-': at the beginning
-- ARGV[2]  the most entries to read
-- Returns  {number of deleted entries, the last id that was read or '' at the end}

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
