-- Shared by the scripts of what operators do in several steps (included as text, still a constant script).
-- One deed has one row in the audit stream, however many steps it takes: each step writes the row anew with the sums, and
-- takes the row of the step before away. A row for each step would push out what others did.
--
-- The row of the step before as a table; empty if this is the first step, or the row is gone.
local function row_before(key, id)
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'none' and kind ~= 'stream' then
    return nil, redis.error_reply('WRONGTYPE the audit key ' .. key .. ' holds a ' .. kind)
  end
  local row, stored = {}, {}
  if id ~= '' then stored = redis.call('XRANGE', key, id, id) end
  if #stored == 1 then
    for i = 1, #stored[1][2], 2 do row[stored[1][2][i]] = stored[1][2][i + 1] end
  end
  return row
end

-- Writes the row of a step: ``facts`` are names and values that every step repeats, ``lists`` names and what this step
-- adds to each: the letters that it took, the entries that it made; 500 of each are kept. Returns the id of the row.
local function write_row(key, id, row, facts, count, lists)
  local fields = {unpack(facts)}
  fields[#fields + 1] = 'count'
  fields[#fields + 1] = (tonumber(row['count']) or 0) + count
  for l = 1, #lists, 2 do
    local kept, added = {}, lists[l + 1]
    for ident in string.gmatch(row[lists[l]] or '', '%S+') do kept[#kept + 1] = ident end
    for i = 1, math.min(#added, 500 - #kept) do kept[#kept + 1] = added[i] end
    fields[#fields + 1] = lists[l]
    fields[#fields + 1] = table.concat(kept, ' ')
  end
  local written = redis.call('XADD', key, 'MAXLEN', '~', 10000, '*', unpack(fields))
  if id ~= '' then redis.call('XDEL', key, id) end
  return written
end
