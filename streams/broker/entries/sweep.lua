-- reclaim: finds entries whose consumer went silent and takes them over for the reclaimer, which
-- then decides.
-- One sweeper at a time, by a lock that expires. Work is bounded by what is being processed, not by
-- what waits for a retry. Delayed entries are looked at only when they are more than the retry
-- rows, i.e. when a row was lost. XAUTOCLAIM then walks the pending list in slices and restores the
-- rows. (A row whose entry was acknowledged late by its former owner stays until it is due, and may
-- hide a lost one for that long.) A clock that was set back is noticed here, by the time of the
-- last sweep.
-- Consumers that were silent for long are removed, here, where the check that nothing is pending is
-- still true; and the leases of consumers that are gone.
--
-- KEYS[1]  sweep hash of the group (lock and cursors)
-- KEYS[2]  retry ZSET of the group
-- KEYS[3]  attempts hash of the group
-- KEYS[4]  leases of the group
-- KEYS[5]  workers of the group
-- KEYS[6]  admissions hash of the group
-- KEYS[7 ..]  streams of the levels
-- ARGV[1]  group
-- ARGV[2]  consumer of the reclaimer
-- ARGV[3]  the consumer of delayed entries
-- ARGV[4]  lease in ms of what no consumer holds: lost retry rows, and what a reclaimer took over
-- ARGV[5]  how long the lock holds, in ms
-- ARGV[6]  how many entries at most per level and call
-- ARGV[7]  ms of silence after which a consumer with nothing pending is removed
-- ARGV[8]  the waiting consumer, whose entries have no lease
-- ARGV[9 ..]  the level of KEYS[7], KEYS[8], ...
-- Returns  {now in ms, 1 swept | 0 another sweeper holds the lock, how many had vanished, consumers
--           removed, rows restored, 1 if more may be found at once, {entry, ...}}.
--           An entry is {level, id, delivery count, previous consumer, attempt record or '', type,
--           meta, event id or ''}.

-- include: leases.inc.lua
-- include: members.inc.lua
-- include: admissions.inc.lua

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local group, me, parked, lease, slice = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[6])

-- A lock that ends later than any that is taken now was taken before the clock was set back.
local lock = redis.call('HMGET', KEYS[1], 'owner', 'until', 'seen')
local ends = finite(lock[2], 0)
if lock[1] and lock[1] ~= me and ends > now and ends <= now + tonumber(ARGV[5]) then return {now, 0, 0, 0, 0, 0, {}} end
-- pcall: a server without memory refuses the lock; the sweep itself is atomic and still right without it.
redis.pcall('HSET', KEYS[1], 'owner', me, 'until', string.format('%.0f', now + tonumber(ARGV[5])), 'seen',
  string.format('%.0f', now))
redis.pcall('PEXPIRE', KEYS[1], tonumber(ARGV[5]) * 2)

local found, vanished, removed, restored, more, parked_count = {}, 0, 0, 0, 0, 0

-- The server's clock was set back: a row that was due soon would be due late by as much, and an
-- entry that is with a silent consumer would look fresh for as long. Due times move with the clock,
-- and leases begin anew.
local back = finite(lock[3], 0) - now
if back > 2000 and back < 1e12 then -- More is no time that a clock ever told.
  local total = redis.call('ZCARD', KEYS[2])
  for from = 0, total - 1, 500 do
    local rows = redis.call('ZRANGE', KEYS[2], from, from + 499, 'WITHSCORES')
    for i = 1, #rows, 2 do
      redis.call('ZADD', KEYS[2], 'XX', string.format('%.0f', tonumber(rows[i + 1]) - back), rows[i])
    end
  end
  for k = 7, #KEYS do
    local key = KEYS[k]
    for _, owner in ipairs(redis.call('XPENDING', key, group)[4] or {}) do
      if string.sub(owner[1], 1, 1) ~= '-' then
        for _, row in ipairs(redis.call('XPENDING', key, group, '-', '+', 10000, owner[1])) do
          redis.call('XCLAIM', key, group, owner[1], 0, row[1], 'IDLE', 0, 'JUSTID')
        end
      end
    end
  end
end

local function forget(key, level, id)
  redis.call('XACK', key, group, id)
  redis.call('HDEL', KEYS[3], level .. '|' .. id)
  let_go(KEYS[6], KEYS[2], level .. '|' .. id)
  vanished = vanished + 1
end

local lease_of, there = lease_reader(KEYS[4], KEYS[5], lease), {}
local function take(key, level, row, silence)
  local id = row[1]
  local claimed = redis.call('XCLAIM', key, group, me, silence, id, 'JUSTID')
  local stored = redis.call('XRANGE', key, id, id)
  if #stored == 0 then return forget(key, level, id) end
  if #claimed == 0 then return end
  local kind, meta, event = '', '', ''
  local fields = stored[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'type' then
      kind = fields[i + 1]
    elseif fields[i] == 'meta' then
      meta = fields[i + 1]
    elseif fields[i] == 'id' then
      event = fields[i + 1]
    end
  end
  local record = redis.call('HGET', KEYS[3], level .. '|' .. id) or ''
  found[#found + 1] = {level, id, row[4], row[2], record, kind, meta, event}
end

for k = 7, #KEYS do
  local key, level = KEYS[k], ARGV[k + 2]
  for _, row in ipairs(redis.call('XINFO', 'CONSUMERS', key, group)) do
    local name, pending, idle
    for i = 1, #row, 2 do
      if row[i] == 'name' then name = row[i + 1]
      elseif row[i] == 'pending' then pending = row[i + 1]
      elseif row[i] == 'idle' then idle = row[i + 1] end
    end
    there[name] = true
    if name == parked then
      parked_count = parked_count + pending
    elseif pending > 0 and name ~= ARGV[8] then
      local silence = lease_of(name)
      local rows = redis.call('XPENDING', key, group, 'IDLE', silence, '-', '+', slice, name)
      if #rows == slice then more = 1 end
      for _, stalled in ipairs(rows) do take(key, level, stalled, silence) end
    elseif pending == 0 and idle > tonumber(ARGV[7]) and name ~= me then
      redis.call('XGROUP', 'DELCONSUMER', key, group, name)
      removed = removed + 1
    end
  end
end

-- A consumer that announced its lease a moment ago may not have read yet, so nothing of it is there.
local rows = redis.pcall('HGETALL', KEYS[4])
for i = 1, #rows, 2 do
  local span, at = string.match(rows[i + 1], '^(%d+) (%d+)$')
  if not there[rows[i]] and not (at and now - at <= math.max(tonumber(ARGV[7]), 2 * span)) then
    redis.call('HDEL', KEYS[4], rows[i])
  end
end

if #found == 0 and parked_count > redis.call('ZCARD', KEYS[2]) then
  for k = 7, #KEYS do
    local key, level = KEYS[k], ARGV[k + 2]
    local cursor = redis.call('HGET', KEYS[1], 'cursor:' .. level)
    if not cursor or not is_id(cursor) then cursor = '0-0' end
    local reply = redis.call('XAUTOCLAIM', key, group, parked, lease, cursor, 'COUNT', slice, 'JUSTID')
    redis.pcall('HSET', KEYS[1], 'cursor:' .. level, reply[1])
    if reply[1] ~= '0-0' then more = 1 end
    for _, id in ipairs(reply[2]) do
      if #redis.call('XRANGE', key, id, id) == 0 then
        forget(key, level, id)
      elseif not redis.call('ZSCORE', KEYS[2], level .. '|' .. id) then
        redis.call('ZADD', KEYS[2], string.format('%.0f', now), level .. '|' .. id)
        restored = restored + 1
      end
    end
  end
end
return {now, 1, vanished, removed, restored, more, found}
