-- Shared by the scripts that only the holder of an entry may run (included as text, still a
-- constant script).
-- holds(key, config, group, consumer, id, count): whether the entry is pending with this consumer
-- at this delivery count.
-- Deleting a consumer drops its pending entries, although it may be alive: no consumer would ever
-- be given them again. On a stream with one group an acknowledged entry is deleted in the same
-- step. So an entry that was delivered, is stored and is not pending can only be such a dropped
-- one, and it is put back for the consumer that still holds it.

local function dropped(key, config, group, id)
  local groups = redis.call('XINFO', 'GROUPS', key)
  -- On a fanout stream what this group is done with may be there for another group, or for one that was dropped.
  if #groups ~= 1 or redis.call('HGET', config, 'retention') == 'fanout' or #redis.call('XRANGE', key, id, id) == 0 then
    return false
  end
  for i = 1, #groups[1], 2 do
    if groups[1][i] == 'last-delivered-id' then
      local last_ms, last_seq = string.match(groups[1][i + 1], '^(%d+)-(%d+)$')
      local ms, seq = string.match(id, '^(%d+)-(%d+)$')
      if ms ~= last_ms then return tonumber(ms) < tonumber(last_ms) end
      return tonumber(seq) <= tonumber(last_seq)
    end
  end
end

local function holds(key, config, group, consumer, id, count)
  local held = redis.call('XPENDING', key, group, id, id, 1)
  if #held == 1 then return held[1][2] == consumer and held[1][4] == count end
  if not dropped(key, config, group, id) then return false end
  redis.call('XCLAIM', key, group, consumer, 0, id, 'FORCE', 'RETRYCOUNT', count, 'JUSTID')
  return true
end
