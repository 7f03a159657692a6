-- What both ways to post usage share. It stands after holds.lua.

-- What a usage cost, and all of its tokens; nil where it does not say, or there is none. It is "1"
-- for measured, "0" for estimated or "" for none; then come five buckets, and the cost or "".
local function price_in(first)
  if ARGV[first] == '' then
    return nil, nil
  end
  return tonumber(ARGV[first + 6]), ARGV[first + 1] + ARGV[first + 2]
end

-- Whether dollars are charged for a usage whose price is not known.
local function is_unpriced(first)
  return books[UNIT] == 'usd' and ARGV[first] ~= '' and ARGV[first + 6] == ''
end

-- Adds up the buckets of a usage.
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
