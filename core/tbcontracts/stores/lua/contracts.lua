-- What both ways to bring contracts into force share. It stands after holds.lua.

-- Reads a contract: name, priority, budget, reserve, threshold, all of it as JSON, facts as JSON.
local CONTRACT_FIELDS = 7

local function contract_at(first)
  return {
    name = ARGV[first],
    priority = tonumber(ARGV[first + 1]),
    most = tonumber(ARGV[first + 2]),
    reserve = tonumber(ARGV[first + 3]),
    threshold = tonumber(ARGV[first + 4]) or false,
    terms = ARGV[first + 5],
    facts = ARGV[first + 6],
  }
end

local function put_terms(account, contract)
  account[PRIORITY], account[MOST], account[RESERVE] =
    contract.priority, contract.most, contract.reserve
  account[THRESHOLD], account[TERMS] = contract.threshold, contract.terms
end

-- Whether an account has what the books decide by from this contract.
local function has_terms(account, contract)
  return account[PRIORITY] == contract.priority
    and account[MOST] == contract.most
    and account[RESERVE] == contract.reserve
    and account[THRESHOLD] == contract.threshold
end

-- Refuses contracts in another unit than the books are in: dollars are no tokens.
local function other_unit(unit)
  if books[UNIT] and unit ~= books[UNIT] then
    return refuse('other_unit', books[UNIT])
  end
  return nil
end

-- Refuses a budget whose sum would no longer be exact.
local function too_much(more, what)
  if books[TOTAL] + more > TOTAL_MAX then
    return refuse('too_much', what, string.format('%.0f', books[TOTAL] + more))
  end
  return nil
end
