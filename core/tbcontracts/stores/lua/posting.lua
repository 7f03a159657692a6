-- What both ways to post usage share. It stands after holds.lua.

-- Adds up the buckets of a usage: "1" for measured, "0" for estimated or "" for none, then five.
local function count_buckets(account, amount, first)
  local measured = ARGV[first]
  if measured == '' then
    return
  end
  if measured == '0' then
    account[UNMEASURED] = account[UNMEASURED] + amount
  end
  for at = 1, 5 do
    account[BUCKET + at] = account[BUCKET + at] + tonumber(ARGV[first + at])
  end
end

-- Returns facts as JSON: what the caller knows, and what was decided here.
local function with_facts(known, more)
  local inner = string.sub(known, 2, -2)
  if inner == '' then
    return '{' .. table.concat(more, ',') .. '}'
  end
  more[#more + 1] = inner
  return '{' .. table.concat(more, ',') .. '}'
end
