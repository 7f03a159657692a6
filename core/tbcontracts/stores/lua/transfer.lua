-- Transfer: moves allocation by hand, whole or not at all. "=" and the donor
-- ("" is the pool), the taker, amount.
local giver = ARGV[FIRST] ~= '' and string.sub(ARGV[FIRST], 2)
local name, amount = ARGV[FIRST + 1], tonumber(ARGV[FIRST + 2])

local earlier = replayed()
if earlier then
  return earlier
end
if books[CLOSED] then
  return refuse('closed', 'transfers')
end
local taker = account_of(name)
if not taker then
  return no_agent(name)
end
local code, reach = 'budget_exceeded', books[POOL]
if giver then
  local donor = account_of(giver)
  if not donor then
    return no_agent(giver)
  end
  if donor == taker then
    return refuse('to_itself', name)
  end
  reach = surplus(donor)
  if donor[PRIORITY] > taker[PRIORITY] then
    code, reach = 'uphill', 0
  end
end
local reply
if amount > reach or code == 'uphill' then
  reply = log_denial(taker, denied(taker, amount, reach, code))
  remember(reply, DENIAL_S)
else
  local moves = { { giver, amount } }
  taker[FINISHED] = false
  move_to(taker, moves)
  changed(taker)
  reply = { 'done', amount, log('transferred', taker, amount, nil, moves) }
  remember(reply, DAY_S)
end
return finish(reply)
