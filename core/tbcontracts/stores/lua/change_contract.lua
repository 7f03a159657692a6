-- ChangeContract: changes an agent's terms; allocation moves by the difference. The unit, the contract,
-- and the one that the agent must have for it, if that was said.
local contract = contract_at(FIRST + 1)
local was = ARGV[FIRST + 1 + CONTRACT_FIELDS] and contract_at(FIRST + 1 + CONTRACT_FIELDS)

local earlier = replayed()
if earlier then
  return earlier
end
if books[CLOSED] then
  return refuse('closed', 'changes of contracts')
end
local mixed = other_unit(ARGV[FIRST])
if mixed then
  return mixed
end
local account = account_of(contract.name)
if not account then
  return no_agent(contract.name)
end
if was and not has_terms(account, was) then
  return refuse('changed_meanwhile', account[TERMS])
end
local wanted = contract.most - account[MOST]
local difference
if wanted > 0 then
  difference = math.max(0, wanted - account[OWED])
else
  -- What is used, held, lent or overdrawn cannot be taken.
  difference = math.max(wanted, -math.max(0, remaining(account)))
end
local refused = too_much(difference, 'this contract')
if refused then
  return refused
end
put_terms(account, contract)
account[OWED] = account[OWED] + difference - wanted
account[ALLOCATED] = account[ALLOCATED] + difference
books[TOTAL] = books[TOTAL] + difference
changed(account)
local seq = log('contract_changed', account, difference, nil, nil, contract.facts)
local reply = { 'done', difference, seq }
remember(reply, DAY_S)
return finish(reply)
