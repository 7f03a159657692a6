-- Open: opens an account for each contract that has none. How many, the unit, then the contracts.
local earlier = replayed()
if earlier then
  return earlier
end
local unit = ARGV[FIRST + 1]
local mixed = other_unit(unit)
if mixed then
  return mixed
end
local new, sum, seen = {}, 0, {}
for number = 1, tonumber(ARGV[FIRST]) do
  local contract = contract_at(FIRST + 2 + (number - 1) * CONTRACT_FIELDS)
  local account = find(contract.name)
  if (not account or account[TRACKED]) and not seen[contract.name] then
    seen[contract.name] = true
    new[#new + 1] = contract
    sum = sum + contract.most
  end
end
local refused = too_much(sum, 'these contracts')
if refused then
  return refused
end
books[UNIT] = unit
for _, contract in ipairs(new) do
  local account = account_of(contract.name, true)
  put_terms(account, contract)
  account[TRACKED] = false
  account[ALLOCATED] = contract.most
  books[TOTAL] = books[TOTAL] + contract.most
  enter(account)
  changed(account)
  log('opened', account, contract.most, nil, nil, contract.facts)
end
local reply = { 'done', sum, books[SEQ] }
if #new > 0 then
  remember(reply, DENIAL_S)
end
return finish(reply)
