-- Shared by the scripts that know limited concurrency (included as text, still a constant script),
-- behind members.inc.lua and admissions.inc.lua.
-- A slot is a row in a ZSET: the entry that holds it, and when it got it, in microseconds. It is
-- worth nothing once its entry is not with a living consumer any more, even if no script gave it
-- back: a killed worker's slots come back with the lease.
-- A queue is a ZSET of the entries that wait for a slot, and since when. The hash of queues has the
-- concurrency of each, by the part of its name behind the prefix, for as long as it is not empty:
-- so that all of them can be looked at.

local FAR = 3600000 -- ms; an entry in a queue is told when it is its turn, and looks by itself once an hour
local GRACE = 5000000 -- microseconds for which a slot is kept for the entry that was just given it
local KEPT = 2592000000 -- ms; a forgotten slot (its event was erased, its limit is gone) goes by then
local MOST_LOOKED_AT = 100 -- of a queue in one call: the script that gives back the next slot goes on

-- The stream of a level. Workers of before or after a deploy may know other levels, and what these
-- hold is theirs. Such a stream is not among KEYS. It lies in the slot of those that are, since all
-- keys of a stream have the same hash tag.
local function stream_of(key_of, level)
  if key_of[level] then return key_of[level] end
  local known, key = next(key_of)
  return string.sub(key, 1, #key - #known) .. level
end

-- The row of an entry in its group's pending list; nil: it has ended there, or never was an entry.
local function pending_row(key_of, group, member)
  local level, id = read_member(member)
  if not level then return nil end
  local key = stream_of(key_of, level)
  local rows = redis.pcall('XPENDING', key, group, id, id, 1)
  if rows.err or #rows == 0 then return nil end
  return rows[1], level, id
end

-- `drop_lost_slots(key, key_of, group, parking, lease_of, now)`
local function drop_lost_slots(key, key_of, group, parking, lease_of, now)
  local rows = redis.call('ZRANGE', key, 0, -1, 'WITHSCORES')
  for i = 1, #rows, 2 do
    local held = pending_row(key_of, group, rows[i])
    -- It was queued by key, as a deploy declares it since it was given the slot.
    if held and held[2] == '-waiting-' then held = nil end
    local alive = held and held[2] ~= parking and held[3] < lease_of(held[2])
    -- A time that is to come: the clock was set back.
    if not alive and (not held or math.abs(now - tonumber(rows[i + 1])) > GRACE) then redis.call('ZREM', key, rows[i]) end
  end
end

-- The levels that are paused for a group, as a set, and whether all of it is.
local function paused_levels(key, group)
  local found, all, rows = {}, false, redis.pcall('HGETALL', key)
  if rows.err then return found, all end
  for i = 1, #rows, 2 do
    local scope = rows[i]
    local level = string.match(scope, '^level=(%-?%d+)$')
    if not level and string.sub(scope, 1, 6 + #group) == 'group=' .. group then
      level = string.match(string.sub(scope, 7 + #group), '^,level=(%-?%d+)$')
    end
    if level then found[level] = true end
    if scope == 'stream' or scope == 'group=' .. group then all = true end
  end
  return found, all
end

-- Writes into the row of an entry that it has, or is to have, a slot: an older version queued it
-- without.
local function note_slot(admissions_key, member, name)
  local row = admission_of(admissions_key, member) or {kind = 'slot', by = name, slots = {}}
  for _, known in ipairs(row.slots) do
    if known == name then return end
  end
  row.slots[#row.slots + 1] = name
  write_admission(admissions_key, member, row)
end

-- Gives the free slots of one key to the entries that wait for them, in their order. An entry that
-- ended is taken out of the queue. An entry that is paused or cannot be taken here is taken out,
-- too, and due: it asks again, and holds up no other until then.
-- `there` has: `key_of`, `group`, `parking`, `admissions` (the key of that hash), `paused` (set),
-- `serves` (set or nil: any), `soon` (ms, text) and `now` (microseconds). It also has `take`, a
-- function of level, id and row that begins an entry here and says whether it did.
local function hand_on(busy_key, queue_key, retry_key, free, there)
  local looked, admissions_key = 0, there.admissions
  local name = string.sub(queue_key, #admissions_key - #'admissions' + #'queue:' + 1)
  while free > 0 and looked < MOST_LOOKED_AT do
    local members = redis.call('ZRANGE', queue_key, 0, free - 1)
    if #members == 0 then return end
    local moved = false
    for _, member in ipairs(members) do
      looked = looked + 1
      local row, level, id = pending_row(there.key_of, there.group, member)
      if not row or row[2] == '-waiting-' then
        -- It has ended, or an older version queued it by key and left it here: it asks again when
        -- it is handed out.
        redis.call('ZREM', queue_key, member)
        let_go(admissions_key, retry_key, member)
        moved = true
      elseif row[2] == there.parking and redis.call('ZSCORE', retry_key, member) then
        redis.call('ZREM', queue_key, member)
        moved = true
        if there.paused[level] or (there.serves and not there.serves[level]) then
          redis.call('ZADD', retry_key, 'XX', 'LT', there.soon, member)
        else
          redis.call('ZADD', busy_key, string.format('%.0f', there.now), member)
          redis.call('PEXPIRE', busy_key, KEPT)
          note_slot(admissions_key, member, name)
          free = free - 1
          if not there.take(level, id, row, member) then redis.call('ZADD', retry_key, 'XX', 'LT', there.soon, member) end
        end
      end
      -- Else it is with a consumer, which is just deferring it and asks again afterwards.
    end
    if not moved then return end
  end
end
