-- Shared by the scripts that end an entry's life in a group (included as text, still a constant script).
-- delete_finished(key, ids): deletes those of `ids` that no group of the stream needs any more. With one group that is
-- all of them; with several, an entry goes once every group has read it and none has it pending.

local function after(a, b)
  local a_ms, a_seq = string.match(a, '^(%d+)-(%d+)$')
  local b_ms, b_seq = string.match(b, '^(%d+)-(%d+)$')
  if a_ms ~= b_ms then return tonumber(a_ms) > tonumber(b_ms) end
  return tonumber(a_seq) > tonumber(b_seq)
end

local function delete_finished(key, ids)
  local groups = redis.pcall('XINFO', 'GROUPS', key)
  if groups.err then return end
  if #groups > 1 then
    local finished = {}
    for _, id in ipairs(ids) do
      local needed = false
      for _, row in ipairs(groups) do
        local name, last
        for i = 1, #row, 2 do
          if row[i] == 'name' then name = row[i + 1] elseif row[i] == 'last-delivered-id' then last = row[i + 1] end
        end
        if after(id, last) or #redis.call('XPENDING', key, name, id, id, 1) > 0 then
          needed = true
          break
        end
      end
      if not needed then finished[#finished + 1] = id end
    end
    ids = finished
  end
  if #ids > 0 then redis.call('XDEL', key, unpack(ids)) end
end
