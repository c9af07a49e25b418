-- Shared by the scripts that give places to the overdue (included as text, still a constant script).

-- Adds {since ms, index of its level, kind} for the oldest new entries of a level that wait since `latest` or longer.
local function add_overdue(waiting, key, group, i, latest, most)
  for _, row in ipairs(redis.call('XINFO', 'GROUPS', key)) do
    local name, last
    for f = 1, #row, 2 do
      if row[f] == 'name' then name = row[f + 1] elseif row[f] == 'last-delivered-id' then last = row[f + 1] end
    end
    if name == group then
      for _, entry in ipairs(redis.call('XRANGE', key, '(' .. last, string.format('%.0f', latest), 'COUNT', most)) do
        waiting[#waiting + 1] = {tonumber(string.match(entry[1], '^%d+')), i, 'new'}
      end
    end
  end
end

-- How many of each level and kind are among the oldest `most`: {index of a level -> {kind -> count}}.
local function count_oldest(waiting, most)
  -- By age; of the same age the higher level first. The comparison must be total: sort is not stable.
  table.sort(waiting, function(a, b)
    if a[1] ~= b[1] then return a[1] < b[1] end
    if a[2] ~= b[2] then return a[2] < b[2] end
    return a[3] < b[3]
  end)
  local counts = {}
  for n = 1, math.min(most, #waiting) do
    local i, kind = waiting[n][2], waiting[n][3]
    counts[i] = counts[i] or {new = 0, due = 0}
    counts[i][kind] = counts[i][kind] + 1
  end
  return counts
end
