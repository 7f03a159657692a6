-- Settle: replaces a hold by what was used, posted in full whatever the budget says.
-- The hold id, name, amount, whether it is final, track, facts as JSON, and the usage.
local hold_id, name, amount = ARGV[FIRST], ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])
local final, track, known = ARGV[FIRST + 3] == '1', ARGV[FIRST + 4] == '1', ARGV[FIRST + 5]

-- Returns a hold that the books no longer know, as one that expired: late, but never lost.
local function forgotten()
  local account = account_of(name, track)
  if not account then
    return nil
  end
  enter(account)
  retire(hold_id)
  return new_hold(name, 0, 'expired', 'expected', books[NOW], '', false)
end

local hold = hold_of(hold_id)
if hold and hold[BY] == ATTEMPT then
  return again(hold[KEPT], ATTEMPT)
end
hold = hold or forgotten()
if not hold then
  return no_agent(name)
end
local earlier = resolved_before(hold_id, hold, 'settled', amount)
if earlier then
  return earlier
end

local account = find(hold[AGENT])
local late = hold[STATUS] ~= 'open'
if hold[STATUS] == 'open' then
  account[HELD] = account[HELD] - hold[AMOUNT]
elseif hold[STATUS] == 'charged' then
  take_back(account, hold)
end
account[CONSUMED] = account[CONSUMED] + amount
local cost, unpriced = count_cost(account, amount, price_in(FIRST + 6))
if final then
  count_buckets(account, amount, FIRST + 6)
else
  account[UNMEASURED] = account[UNMEASURED] + amount
end
touch(account)
local moves = {}
if hold[MODE] ~= 'let_through' then
  moves = cover(account)
end
changed(account)

local more = { string.format('"held":%.0f', hold[AMOUNT]) }
if late then
  more[#more + 1] = '"late":true'
end
if hold[MODE] == 'strict' and amount > hold[AMOUNT] then
  more[#more + 1] = '"bound_broken":true' -- the provider did not keep the cap that it was given
end
if is_unpriced(FIRST + 6) then
  more[#more + 1] = '"unpriced":true'
end
local seq = log('settled', account, amount, hold_id, moves, with_facts(known, more))
local reply = { 'posted', hold[AGENT], amount, overdraft(account), moves, seq, late }
if final then
  end_hold(hold_id, hold, 'settled', amount, reply)
else
  charge_for_now(hold_id, hold, amount, cost, unpriced)
  hold[BY], hold[KEPT] = ATTEMPT, kept(reply)
end
return finish(reply)
