-- declare: makes sure that a group, and others that were named with it, exist on every level, and
-- writes down that they are declared. An entry of a fanout stream stays until every declared group
-- is done with it, whether the group is there or not.
-- Looks at everything first and writes only what is missing, so a server without memory refuses
-- only what is new.
-- A group begins at the end of the stream only when it is declared for the first time; one that was
-- lost comes back at the beginning. A stream of before there were declarations is taken for what it
-- is: fanout if it has several groups.
--
-- KEYS[1]  config hash of the stream
-- KEYS[2 ..]  streams of the levels
-- ARGV[1]  retention: work, fanout, or '' (as the stream is; work if it is new)
-- ARGV[2]  1 if the caller has declared the group before, else 0
-- ARGV[3 ..]  two per group: name, and where it begins (oldest or new); the first group is the caller's own
-- Returns  {outcome, retention, {declared group, ...}, {position from 1 of each level on which the
--           own group was created, ...}, {declared group that existed nowhere any more, ...}}.
--           The outcome is 0 declared, 1 work asked of a fanout stream, 2 another group on a work
--           stream, or 3 dropped since. For 2 the last list has the group that is refused.

local kind = redis.call('TYPE', KEYS[1])['ok']
if kind ~= 'none' and kind ~= 'hash' then
  return redis.error_reply('WRONGTYPE the config key ' .. KEYS[1] .. ' holds a ' .. kind)
end
local declared, names, retention, dropped = {}, {}, nil, {}
local function know(name)
  if not declared[name] then
    declared[name] = true
    names[#names + 1] = name
  end
end
local stored = redis.call('HGETALL', KEYS[1])
for i = 1, #stored, 2 do
  if stored[i] == 'retention' then
    retention = stored[i + 1]
  elseif string.sub(stored[i], 1, 6) == 'group:' then
    know(string.sub(stored[i], 7))
  elseif string.sub(stored[i], 1, 8) == 'dropped:' then
    dropped[string.sub(stored[i], 9)] = stored[i]
  end
end
table.sort(names)
local was_declared = retention ~= nil
local present, found = {}, {}
for k = 2, #KEYS do
  local groups = redis.pcall('XINFO', 'GROUPS', KEYS[k])
  if groups.err and not string.find(groups.err, 'no such key', 1, true) then return groups end
  present[k] = {}
  for _, row in ipairs(groups) do
    for i = 1, #row, 2 do
      if row[i] == 'name' then
        present[k][row[i + 1]] = true
        if not found[row[i + 1]] then
          found[row[i + 1]] = true
          found[#found + 1] = row[i + 1]
        end
      end
    end
  end
end

local writes = {}
local time = redis.call('TIME')[1]
local function write_down(name, start)
  writes[#writes + 1] = 'group:' .. name
  writes[#writes + 1] = '{"start":"' .. start .. '","since":' .. time .. '}'
end
if not was_declared then
  for _, name in ipairs(found) do
    if not declared[name] then write_down(name, 'oldest') end
    know(name)
  end
  retention = #names > 1 and 'fanout' or 'work'
end
local own = ARGV[3]
if ARGV[1] == 'work' and retention == 'fanout' then return {1, retention, names, {}, {}} end
if ARGV[2] == '1' and was_declared and not declared[own] then return {3, retention, names, {}, {}} end
if ARGV[1] == 'fanout' then retention = 'fanout' end

local creations, created, lost = {}, {}, {}
for i = 3, #ARGV, 2 do
  local name, start = ARGV[i], ARGV[i + 1]
  local known = declared[name] or found[name]
  if not declared[name] then write_down(name, start) end
  if retention == 'work' and not declared[name] and #names > 0 then return {2, retention, names, {}, {name}} end
  if declared[name] and not found[name] then lost[#lost + 1] = name end
  know(name)
  for k = 2, #KEYS do
    if not present[k][name] then
      creations[#creations + 1] = {k, name, (known or start ~= 'new') and '0' or '$'}
      if name == own then created[#created + 1] = k - 1 end
    end
  end
end
for _, creation in ipairs(creations) do
  local key = KEYS[creation[1]]
  redis.call('XGROUP', 'CREATE', key, creation[2], creation[3], 'MKSTREAM')
end
if not was_declared or #writes > 0 or redis.call('HGET', KEYS[1], 'retention') ~= retention then
  redis.call('HSET', KEYS[1], 'retention', retention, unpack(writes))
end
for i = 3, #ARGV, 2 do
  if dropped[ARGV[i]] then redis.call('HDEL', KEYS[1], dropped[ARGV[i]]) end
end
return {0, retention, names, created, lost}
