-- Shared by the scripts that end an entry's life in a group (included as text, still a constant
-- script). They call delete_finished(key, config, group, ids) for a group that is done with `ids`.
-- It deletes those of `ids` that no group of the stream needs any more. If the stream belongs to
-- this group alone that is all of them. Else an entry goes once every group has read it and none
-- has it pending, and it stays as long as a declared group is missing.
-- `config` is the stream's config hash: retention, and one field per declared group.

local function after(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) > tonumber(b_ms) end
  return tonumber(a_seq) > tonumber(b_seq)
end

-- Per group of the stream {name, last id that it was given}; nil if a declared one is missing.
local function readers(groups, config)
  local found, there = {}, {}
  for _, row in ipairs(groups) do
    local name, last
    for i = 1, #row, 2 do
      if row[i] == 'name' then name = row[i + 1] elseif row[i] == 'last-delivered-id' then last = row[i + 1] end
    end
    found[#found + 1] = {name, last}
    there['group:' .. name] = true
  end
  local fields = redis.pcall('HGETALL', config)
  if fields.err then return nil end
  for i = 1, #fields, 2 do
    if string.sub(fields[i], 1, 6) == 'group:' and not there[fields[i]] then return nil end
  end
  return found
end

-- Those of `ids` that every group has read and none has pending; none while there is no group, or a declared one is gone.
local function finished(key, config, ids)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err or #groups == 0 then return {} end
  local found, reading = {}, readers(groups, config)
  if not reading then return {} end
  for _, id in ipairs(ids) do
    local needed = false
    for _, reader in ipairs(reading) do
      if after(id, reader[2]) or #redis.call('XPENDING', key, reader[1], id, id, 1) > 0 then
        needed = true
        break
      end
    end
    if not needed then found[#found + 1] = id end
  end
  return found
end

-- Whether the stream belongs to this one group: no other is there, and no other is declared.
local function is_alone(groups, config, group)
  if #groups > 1 then return false end
  for _, row in ipairs(groups) do
    for i = 1, #row, 2 do
      if row[i] == 'name' and row[i + 1] ~= group then return false end
    end
  end
  local fields, declared = redis.pcall('HGETALL', config), false
  if fields.err then return false end
  for i = 1, #fields, 2 do
    if fields[i] == 'group:' .. group then
      declared = true
    elseif string.sub(fields[i], 1, 6) == 'group:' then
      return false
    end
  end
  return declared
end

local function delete_finished(key, config, group, ids)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return end
  -- A worker may acknowledge for a group that was dropped meanwhile: what it is done with, others may need.
  if not is_alone(groups, config, group) then ids = finished(key, config, ids) end
  if #ids > 0 then redis.call('XDEL', key, unpack(ids)) end
end
