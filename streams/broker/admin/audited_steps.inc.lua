-- Shared by the scripts of actions that take several steps; needs audit.inc.lua (included as
-- text, still a constant script).
-- An action has one row in the audit stream, however many steps it takes. Each step writes the
-- row anew with the sums, and deletes the row of the step before: a row for each step would push
-- the rows of other actions out of the stream.
--
-- The row of the step before as a table; empty at the first step, or if the row is gone.
local function row_before(key, id)
  local wrong = wrong_audit(key)
  if wrong then return nil, wrong end
  local row, stored = {}, {}
  if id ~= '' then stored = redis.call('XRANGE', key, id, id) end
  if #stored == 1 then
    for i = 1, #stored[1][2], 2 do row[stored[1][2][i]] = stored[1][2][i + 1] end
  end
  return row
end

-- Writes the row of a step, and returns its id. ``facts`` are names and values that every step
-- repeats. ``lists`` are names and the ids that this step adds to each (dead letters, entries). Of
-- these ids 500 are kept.
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
  local written = write_audit(key, unpack(fields))
  if id ~= '' then redis.call('XDEL', key, id) end
  return written
end
