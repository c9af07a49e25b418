-- Shared by the scripts that decide on entries, or end them (included as text, still a constant
-- script).
-- The hash of admissions has a row for an entry, level|id, that waits for a limit or a pause by
-- attribute, or has slots. The row says as JSON how the entry was decided on last:
-- `kind` is start, paused, breaker, rate or slot. `by` is the scope of the pause, or name=key of
-- the limit. `places` tells by name=key of a rate what is reserved there: 1 a place, 2 a place of
-- the entries that came late. `slots` has name=key of each limit where the entry may have a slot or
-- stand in the queue. `count` was its delivery count then.
-- The script that ends the entry, or puts it back, gives back all that the row names. So no caller
-- needs to know the limits of an entry, and no way out of a worker can forget them.

local ROWS_KEPT = 2592000000 -- ms; rows that an older version left behind go by then at the latest

-- The row of an entry; nil: it has none. An unreadable row names nothing.
local function admission_of(admissions_key, member)
  local text = redis.call('HGET', admissions_key, member)
  if not text then return nil end
  local ok, row = pcall(cjson.decode, text)
  if not ok or type(row) ~= 'table' then row = {} end
  if type(row.slots) ~= 'table' then row.slots = {} end
  if type(row.places) ~= 'table' then row.places = {} end
  return row
end

local function write_admission(admissions_key, member, row)
  -- To a reader an empty table is neither a list nor an object.
  if row.slots and not next(row.slots) then row.slots = nil end
  if row.places and not next(row.places) then row.places = nil end
  redis.call('HSET', admissions_key, member, cjson.encode(row))
  redis.call('PEXPIRE', admissions_key, ROWS_KEPT)
end

-- Takes the slot of one key from an entry, and if it `leaves` its place in the queue. Makes the
-- first entry in the queue due, in case no other script gives it the slot before. An entry that was
-- first and leaves may have been told of a free slot itself.
-- pcall: whatever stands there, the fate of a slot changes no outcome.
local function take_slot(busy_key, queue_key, retry_key, member, leaves)
  local was_first = leaves and redis.pcall('ZRANGE', queue_key, 0, 0)[1] == member
  if leaves then redis.pcall('ZREM', queue_key, member) end
  if redis.pcall('ZREM', busy_key, member) ~= 1 and not was_first then return end
  local first = redis.pcall('ZRANGE', queue_key, 0, 0)
  if first[1] then
    local time = redis.call('TIME')
    local now = string.format('%.0f', tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000))
    redis.pcall('ZADD', retry_key, 'XX', 'LT', now, first[1])
  end
end

local function free_slots(admissions_key, retry_key, member, row, leaves)
  local prefix = string.sub(admissions_key, 1, -#'admissions' - 1)
  for _, name in ipairs(row.slots) do
    if type(name) == 'string' then
      take_slot(prefix .. 'busy:' .. name, prefix .. 'queue:' .. name, retry_key, member, leaves)
    end
  end
end

-- An entry has ended: all that it had is given back.
local function let_go(admissions_key, retry_key, member)
  local row = admission_of(admissions_key, member)
  if not row then return end
  redis.call('HDEL', admissions_key, member)
  free_slots(admissions_key, retry_key, member, row, true)
end

-- An entry is put back: it keeps its place in a queue, if it waits in one, and has no slot. An
-- entry that had started asks anew.
local function put_off(admissions_key, retry_key, member)
  local row = admission_of(admissions_key, member)
  if not row then return end
  if row.kind == 'start' then redis.call('HDEL', admissions_key, member) end
  free_slots(admissions_key, retry_key, member, row, row.kind == 'start')
end
