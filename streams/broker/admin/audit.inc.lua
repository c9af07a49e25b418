-- Shared by the scripts that write an audit row (included as text, still a constant script).

-- The refusal of an audit key that holds another kind of value; nil where a row can be added. A
-- script asks before its first write, so that no action goes unrecorded.
local function wrong_audit(key)
  local kind = redis.call('TYPE', key)['ok']
  if kind ~= 'none' and kind ~= 'stream' then
    return redis.error_reply('WRONGTYPE the audit key ' .. key .. ' holds a ' .. kind)
  end
end

-- Adds a row of names and values; the stream keeps about 10,000.
local function write_audit(key, ...)
  return redis.call('XADD', key, 'MAXLEN', '~', 10000, '*', ...)
end
