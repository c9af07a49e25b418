-- Shared by the scripts that judge a consumer by its silence (included as text, still a constant
-- script).
-- A lease is its holder's: each consumer writes its own down before it reads. A consumer may have
-- no lease written: it is another program, or of a version before, or its row was deleted. It is
-- judged by what it said of itself among the workers, else by the longest lease that is known. A
-- healthy worker renews every 10 s or more often, so nothing is taken from it.

local UNKNOWN = 30000 -- ms; three times as long as a healthy worker is silent at most

-- The text in a field of a hash; '' if there is none, or the key holds something else.
local function text_in(key, field)
  local found = redis.pcall('HGET', key, field)
  return type(found) == 'string' and found or ''
end

-- lease_reader(leases_key, workers_key, own): a function of a consumer's name, which returns its lease in ms.
local function lease_reader(leases_key, workers_key, own)
  local known, longest = {}, nil
  local function the_longest()
    if longest then return longest end
    longest = math.max(own, UNKNOWN)
    local rows = redis.pcall('HGETALL', leases_key)
    for i = 2, #rows, 2 do
      longest = math.max(longest, tonumber(string.match(rows[i], '^(%d+) %d+$') or 0))
    end
    return longest
  end
  local function said(name)
    local ok, row = pcall(cjson.decode, text_in(workers_key, name))
    return ok and type(row) == 'table' and tonumber(row.lease) and math.floor(row.lease * 1000)
  end
  return function(name)
    if not known[name] then
      local announced = tonumber(string.match(text_in(leases_key, name), '^(%d+) %d+$'))
      -- A reclaimer decides on what it takes over at once; it has no lease of its own.
      local sweeps = string.sub(name, -10) == '.reclaimer' and own
      known[name] = announced or sweeps or said(name) or the_longest()
    end
    return known[name]
  end
end
