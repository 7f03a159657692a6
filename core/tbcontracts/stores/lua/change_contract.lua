-- ChangeContract: changes an agent's terms; allocation moves by the difference. The contract.
local contract = contract_at(FIRST)

local earlier = replayed()
if earlier then
  return earlier
end
if books[CLOSED] then
  return refuse('closed', 'changes of contracts')
end
local account = account_of(contract.name)
if not account then
  return no_agent(contract.name)
end
local used = account[CONSUMED] + account[HELD]
local wanted = account[ALLOCATED] + contract.most - account[MOST]
-- Allocation that an overdraft has passed already cannot fall, and must not rise by this.
local floor = math.min(account[ALLOCATED], used)
local difference = math.max(wanted, floor) - account[ALLOCATED]
local refused = too_much(difference, 'this contract')
if refused then
  return refused
end
put_terms(account, contract)
account[ALLOCATED] = account[ALLOCATED] + difference
books[TOTAL] = books[TOTAL] + difference
changed(account)
local seq = log('contract_changed', account, difference, nil, nil, contract.facts)
local reply = { 'done', difference, seq }
remember(reply, DAY_S)
return finish(reply)
