-- Shared by the scripts that replay (included as text, still a constant script).
-- Whether a group takes a replayed entry: it is declared, or it exists on the level. The groups
-- that are left would acknowledge an entry for any other group, and none would handle it.
local function takes(key, config, group)
  if redis.call('HEXISTS', config, 'group:' .. group) == 1 then return true end
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return false end
  for _, row in ipairs(groups) do
    for i = 1, #row, 2 do
      if row[i] == 'name' and row[i + 1] == group then return true end
    end
  end
  return false
end

-- Puts one dead letter back on its level with its event id, counts the replay, and deletes the dead
-- letter. ``changes`` replaces fields; ``key_of`` has the keys of the levels. Returns level|entry
-- id of the new entry, or '' if there is no such dead letter (any more), or its level has no key.
local function put_back(key, id, key_of, group, changes)
  local dead = redis.call('XRANGE', key, id, id)
  if #dead == 0 then return '' end
  local stored, own, i = dead[1][2], {}, 1
  while i < #stored do
    own[stored[i]] = stored[i + 1]
    i = i + 2
    if stored[i - 2] == 'raw' then break end
  end
  local target = key_of[own['level']]
  if not target then return '' end
  local fields, has_id, replays = {}, false, 0
  for f = i, #stored, 2 do
    if stored[f] == 'replays' then
      replays = tonumber(stored[f + 1]) or 0
    elseif stored[f] ~= 'group' then
      if stored[f] == 'id' and stored[f + 1] ~= '' then has_id = true end
      fields[#fields + 1] = stored[f]
      fields[#fields + 1] = changes[stored[f]] or stored[f + 1]
    end
  end
  if not has_id then
    fields[#fields + 1] = 'id'
    fields[#fields + 1] = own['level'] .. '|' .. own['entry']
  end
  fields[#fields + 1] = 'replays'
  fields[#fields + 1] = tostring(replays + 1)
  fields[#fields + 1] = 'group'
  fields[#fields + 1] = group
  local place = own['level'] .. '|' .. redis.call('XADD', target, '*', unpack(fields))
  redis.call('XDEL', key, id)
  return place
end
