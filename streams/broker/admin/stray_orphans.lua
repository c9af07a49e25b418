-- ``stray_orphans`` (diagnosis and repair): walks a slice of a level for entries that were
-- delivered, are stored, and are pending with no consumer: a client deleted the consumer, or
-- acknowledged by hand. This can be told on work streams only, whose one group deletes its finished
-- entries; and not of entries older than a group that started at the end of the stream.
-- Repair makes them delayed entries that are due now. The first write is an XCLAIM, which a server
-- without memory allows.
--
-- KEYS[1]  stream of one level
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  config hash of the stream
-- KEYS[4]  audit stream
-- ARGV[1]  group
-- ARGV[2]  the consumer of delayed entries
-- ARGV[3]  level
-- ARGV[4]  ms: younger entries are left alone, since a consumer that still runs them puts them
--           back by itself
-- ARGV[5]  look from this id on, as XRANGE takes it
-- ARGV[6]  the most entries to read
-- ARGV[7]  the operator; '' only looks
-- Returns  {orphans, one of them or '', id to go on behind or ''}

-- include: audit.inc.lua
-- include: clock.inc.lua
-- include: members.inc.lua
-- include: finish.inc.lua

for k = 2, 4, 2 do
  local kind = redis.call('TYPE', KEYS[k])['ok']
  if kind ~= 'none' and kind ~= (k == 2 and 'zset' or 'stream') then
    return redis.error_reply('WRONGTYPE the key ' .. KEYS[k] .. ' holds a ' .. kind)
  end
end
local group, most = ARGV[1], tonumber(ARGV[6])
local groups = redis.pcall('XINFO', 'GROUPS', KEYS[1])
local is_work = redis.call('HGET', KEYS[3], 'retention') == 'work'
if groups.err or not is_work or not is_alone(groups, KEYS[3], group) then
  return {0, '', ''}
end
local readers_of = readers(groups, KEYS[3])
if not readers_of or not readers_of[1] then return {0, '', ''} end
local last = readers_of[1][2]

local now = now_ms()
local ok, facts = pcall(cjson.decode, redis.call('HGET', KEYS[3], 'group:' .. group) or '')
local since = 0
if not ok or type(facts) ~= 'table' or facts.start ~= 'oldest' then
  local is_known = ok and type(facts) == 'table' and finite(facts.since)
  since = is_known and (facts.since + 1) * 1000 or math.huge
end

local entries = redis.call('XRANGE', KEYS[1], ARGV[5], last, 'COUNT', most)
if #entries == 0 then return {0, '', ''} end
local pending = {}
local held = redis.call('XPENDING', KEYS[1], group, entries[1][1], entries[#entries][1], #entries)
for _, row in ipairs(held) do pending[row[1]] = true end
local found = {}
for _, entry in ipairs(entries) do
  local born = tonumber(string.match(entry[1], '^%d+'))
  if not pending[entry[1]] and born >= since and born <= now - tonumber(ARGV[4]) then
    -- Asked again: deleted entries that are pending may have taken its place in the list.
    local own = redis.call('XPENDING', KEYS[1], group, entry[1], entry[1], 1)
    if #own == 0 then found[#found + 1] = entry[1] end
  end
end
if ARGV[7] ~= '' and #found > 0 then
  for _, id in ipairs(found) do
    redis.call('XCLAIM', KEYS[1], group, ARGV[2], 0, id, 'FORCE', 'RETRYCOUNT', 1, 'JUSTID')
    redis.call('ZADD', KEYS[2], string.format('%.0f', now), ARGV[3] .. '|' .. id)
  end
  write_audit(KEYS[4], 'action', 'repair', 'group', group, 'by', ARGV[7],
    'level', ARGV[3], 'orphans', #found)
end
return {#found, found[1] or '', #entries == most and entries[#entries][1] or ''}
