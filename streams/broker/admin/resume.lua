-- resume: ends pauses, and writes down who did. The first write frees memory, so a server without any allows it.
--
-- KEYS[1]  hash of what is paused
-- KEYS[2]  audit stream
-- ARGV[1]  who resumes
-- ARGV[2 ..]  scopes; none: everything that is paused
-- Returns  {{scope, value, scope, value, ...} of the pauses ended, {scope, value, ...} of those that go on}

local kind = redis.call('TYPE', KEYS[2])['ok']
if kind ~= 'none' and kind ~= 'stream' then
  return redis.error_reply('WRONGTYPE the audit key ' .. KEYS[2] .. ' holds a ' .. kind)
end
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
  redis.call('XADD', KEYS[2], 'MAXLEN', '~', 10000, '*', 'action', 'resume', 'scope', ended[i], 'by', ARGV[1])
end
return {ended, others}
