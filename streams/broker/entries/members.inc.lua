-- Shared by the scripts that read members of rows (included as text, still a constant script).
-- Anything may stand in a row that others can write to. A text that is no member is told here,
-- before a command with it fails and takes its neighbours along.

local MOST_IN_64_BITS = '18446744073709551615'

-- A number of an entry id, in the one way in which the server writes it.
local function is_part(digits)
  if string.find(digits, '%D') or digits == '' then return false end
  if string.sub(digits, 1, 1) == '0' then return digits == '0' end
  return #digits < #MOST_IN_64_BITS or #digits == #MOST_IN_64_BITS and digits <= MOST_IN_64_BITS
end

local function is_id(id)
  local ms, seq = string.match(id, '^(%d+)-(%d+)$')
  return ms ~= nil and is_part(ms) and is_part(seq)
end

-- Level and entry id of a member, level|ms-seq; nil: it is none.
local function read_member(member)
  local level, id = string.match(member, '^(%-?%d+)|(%d+%-%d+)$')
  if level and #level <= 20 and is_id(id) then return level, id end
end

-- A number that is one: neither text nor infinite.
local function finite(text, otherwise)
  local number = tonumber(text)
  if number and number > -math.huge and number < math.huge then return number end
  return otherwise
end
