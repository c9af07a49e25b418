-- resume: ends pauses, with an audit row for each.
-- The first write frees memory, so a server without memory allows it, and with it the rest.
--
-- KEYS[1]  hash of the pauses
-- KEYS[2]  audit stream
-- ARGV[1]  the operator
-- ARGV[2 ..]  scopes; none for every pause
-- Returns  {{scope, value, scope, value, ...} that ended, {scope, value, ...} that go on}

-- include: audit.inc.lua

local wrong = wrong_audit(KEYS[2])
if wrong then return wrong end
local wanted = {}
for i = 2, #ARGV do wanted[ARGV[i]] = true end
local rows, value_of, scopes = redis.call('HGETALL', KEYS[1]), {}, {}
for i = 1, #rows, 2 do
  value_of[rows[i]] = rows[i + 1]
  scopes[#scopes + 1] = rows[i]
end
table.sort(scopes)
local ended, others = {}, {}
for _, scope in ipairs(scopes) do
  local list = (#ARGV == 1 or wanted[scope]) and ended or others
  list[#list + 1] = scope
  list[#list + 1] = value_of[scope]
end
for i = 1, #ended, 2 do
  redis.call('HDEL', KEYS[1], ended[i])
  write_audit(KEYS[2], 'action', 'resume', 'scope', ended[i], 'by', ARGV[1])
end
return {ended, others}
