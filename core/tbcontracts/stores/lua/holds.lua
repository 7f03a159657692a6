-- What commands share that move budget or end holds. It stands after common.lua.

-- --- who gives -----------------------------------------------------------------------------------

-- Compares as bytes: Lua's own comparison follows the server's locale.
local function comes_before(score, name, other_score, other_name)
  if score ~= other_score then
    return score < other_score
  end
  for at = 1, math.min(#name, #other_name) do
    local byte, other = string.byte(name, at), string.byte(other_name, at)
    if byte ~= other then
      return byte < other
    end
  end
  return #name < #other_name
end

-- Returns those of the accounts changed by this call that may give something, in order: their
-- places in the sorted set are out of date.
local function changed_donors(taker)
  local found = {}
  for name, account in pairs(touched) do
    local score = name ~= taker[NAME] and account[PRIORITY] <= taker[PRIORITY] and score_of(account)
    if score then
      found[#found + 1] = { score, account }
    end
  end
  table.sort(found, function(one, other)
    return comes_before(one[1], one[2][NAME], other[1], other[2][NAME])
  end)
  return found
end

-- Returns a function that gives one donor after another, in order; then nothing.
local function donors_of(taker)
  local fresh, next_fresh = changed_donors(taker), 1
  local bound = string.format('(%.0f', (taker[PRIORITY] + 1) * 2 ^ 41)
  local names, at, offset, more, waiting = {}, 0, 0, true, nil
  local function from_set()
    while true do
      at = at + 1
      if at > #names then
        if not more then
          return nil
        end
        local size = offset == 0 and FIRST_PAGE or PAGE
        names = call('ZRANGEBYSCORE', DONORS, '-inf', bound, 'LIMIT', offset, size)
        offset, at, more = offset + #names, 1, #names == size
        if #names == 0 then
          return nil
        end
      end
      local name = names[at]
      if name ~= taker[NAME] and not touched[name] then
        return find(name)
      end
    end
  end
  return function()
    waiting = waiting or from_set()
    local mine = fresh[next_fresh]
    if mine and not (waiting and comes_before(waiting[SCORE], waiting[NAME], mine[1], mine[2][NAME])) then
      next_fresh = next_fresh + 1
      return mine[2]
    end
    local account = waiting
    waiting = nil
    return account
  end
end

-- Finds donors for a shortfall: the pool first, then agents in order. Returns the moves up to it, or
-- all that could be found; how much they bring; and whether more donors were needed than are asked.
local function plan(shortfall, taker)
  local moves = {}
  local found = math.min(books[POOL], shortfall)
  if found > 0 then
    moves[1] = { false, found }
  end
  if found >= shortfall then
    return moves, found, false
  end
  local next_donor, asked = donors_of(taker), 0
  while true do
    local donor = next_donor()
    if not donor then
      return moves, found, false
    end
    if asked == DONORS_MAX then
      return moves, found, true
    end
    asked = asked + 1
    local take = math.min(surplus(donor), shortfall - found)
    moves[#moves + 1] = { donor[NAME], take }
    found = found + take
    if found == shortfall then
      return moves, found, false
    end
  end
end

local function move_to(taker, moves)
  for _, move in ipairs(moves) do
    local donor, amount = move[1], move[2]
    if donor then
      local account = accounts[donor]
      account[ALLOCATED] = account[ALLOCATED] - amount
      touch(account)
    else
      books[POOL] = books[POOL] - amount
    end
    taker[ALLOCATED] = taker[ALLOCATED] + amount
  end
end

-- Brings in what an overdraft needs, or as much of it as there is.
local function cover(account)
  local lacking = -remaining(account)
  if lacking <= 0 or account[TRACKED] then
    return {}
  end
  local moves = plan(lacking, account)
  move_to(account, moves)
  return moves
end

-- --- holds ---------------------------------------------------------------------------------------

-- Returns a hold, or nil. What a refused copy left behind under an id is no hold.
local function hold_of(hold_id)
  local hold = holds[hold_id]
  if hold == nil then
    local raw = call('HGET', HOLDS, hold_id)
    hold = raw and decode(raw) or false
    holds[hold_id] = hold
  end
  if hold and hold[STATUS] ~= 'refused' then
    return hold
  end
  return nil
end

local function new_hold(agent, amount, status, mode, limit, by, known)
  return { agent, amount, 0, status, mode, limit, false, false, by, known, '', false, 0, 0 }
end

local function rewrite(hold_id, hold)
  holds[hold_id] = hold
  rewritten[hold_id] = hold
end

local function keep_for(hold_id, seconds)
  forget[#forget + 1] = exactly(books[NOW] + seconds)
  forget[#forget + 1] = 'h' .. hold_id
end

-- Notes that a hold is open no longer, or was ended for good: it is forgotten a while after.
local function retire(hold_id)
  keep_for(hold_id, KEEP_HOLDS_S)
end

-- Counts what a charge cost, or how many tokens of it have no price; returns both. In dollars the
-- charge is the cost. `cost` and `tokens` are nil where no usage says them.
local function count_cost(account, amount, cost, tokens)
  local unpriced = 0
  if books[UNIT] == 'usd' then
    if tokens and not cost then
      unpriced = tokens
    end
    cost = amount
  elseif not cost then
    cost, unpriced = 0, tokens or amount
  end
  account[COST] = account[COST] + cost
  account[UNPRICED] = account[UNPRICED] + unpriced
  return cost, unpriced
end

-- Takes back what was charged for a hold by estimate; returns how much it was.
local function take_back(account, hold)
  account[CONSUMED] = account[CONSUMED] - hold[CHARGED]
  account[UNMEASURED] = account[UNMEASURED] - hold[CHARGED]
  account[COST] = account[COST] - hold[FOR_COST]
  account[UNPRICED] = account[UNPRICED] - hold[FOR_UNPRICED]
  return hold[CHARGED]
end

-- Marks a hold as charged by estimate; a settle or void that still comes replaces that.
local function charge_for_now(hold_id, hold, amount, cost, unpriced)
  retire(hold_id)
  hold[STATUS], hold[CHARGED], hold[FOR_COST], hold[FOR_UNPRICED] = 'charged', amount, cost, unpriced
  rewrite(hold_id, hold)
end

-- Marks a hold as ended, for good.
local function end_hold(hold_id, hold, verb, amount, reply)
  retire(hold_id)
  hold[STATUS], hold[VERB], hold[FOR], hold[BY], hold[KEPT] = verb, verb, amount, ATTEMPT, kept(reply)
  rewrite(hold_id, hold)
end

-- Returns the first reply if the hold was ended in just this way, or that it was in another.
local function resolved_before(hold_id, hold, verb, amount)
  if not hold[VERB] then
    return nil
  end
  if hold[VERB] == verb and hold[FOR] == amount then
    return again(hold[KEPT], hold[BY])
  end
  return refuse('hold_resolved', hold_id, hold[AGENT], hold[VERB], hold[FOR], verb, amount)
end

-- Ends at most this many holds whose limit has passed, oldest first; returns how many.
local function sweep(most)
  if most == 0 then
    return 0
  end
  local due = call('ZRANGEBYSCORE', DUE, '-inf', exactly(books[NOW]), 'LIMIT', #swept, most)
  for _, hold_id in ipairs(due) do
    swept[#swept + 1] = hold_id
    local hold = hold_of(hold_id)
    local account = find(hold[AGENT])
    account[HELD] = account[HELD] - hold[AMOUNT]
    account[EXPIRED] = account[EXPIRED] + 1
    local charge = hold[MODE] == 'strict'
    if charge then
      account[CONSUMED] = account[CONSUMED] + hold[AMOUNT]
      account[UNMEASURED] = account[UNMEASURED] + hold[AMOUNT]
      charge_for_now(hold_id, hold, hold[AMOUNT], count_cost(account, hold[AMOUNT]))
    else
      retire(hold_id)
      hold[STATUS] = 'expired'
      rewrite(hold_id, hold)
    end
    changed(account)
    log('expired', account, hold[AMOUNT], hold_id, nil, '{"charged":' .. tostring(charge) .. '}')
  end
  return #due
end
