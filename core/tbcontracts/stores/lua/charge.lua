-- Charge: posts usage that had no hold. The name, amount, track, facts as JSON, and the usage.
local name, amount, track = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2] == '1'

local earlier = replayed()
if earlier then
  return earlier
end
local account = account_of(name, track)
if not account then
  return no_agent(name)
end
enter(account)
account[CONSUMED] = account[CONSUMED] + amount
count_cost(account, amount, price_in(FIRST + 4))
count_buckets(account, amount, FIRST + 4)
local moves = cover(account)
changed(account)
local facts = ARGV[FIRST + 3]
if is_unpriced(FIRST + 4) then
  facts = with_facts(facts, { '"unpriced":true' })
end
local seq = log('charged', account, amount, nil, moves, facts)
local reply = { 'posted', name, amount, overdraft(account), moves, seq, false }
remember(reply, DAY_S)
return finish(reply)
