-- Shared by the scripts that read the packed fields of scheduled events (included as text, still a constant script).

-- Lua can pass about 7,000 values to one command.
local MOST_FIELDS = 7000

-- Names and values in turn; nil: it is not what `schedule` packs.
local function read_packed(packed)
  local ok, fields = pcall(cmsgpack.unpack, packed)
  if not ok or type(fields) ~= 'table' or #fields == 0 or #fields % 2 == 1 or #fields > MOST_FIELDS then return nil end
  for i = 1, #fields do
    if type(fields[i]) ~= 'string' then return nil end
  end
  return fields
end
