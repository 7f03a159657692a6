-- TopUp: adds new budget. "=" and the name ("" is the pool), and amount.
local name = ARGV[FIRST] ~= '' and string.sub(ARGV[FIRST], 2)
local amount = tonumber(ARGV[FIRST + 1])

local earlier = replayed()
if earlier then
  return earlier
end
if books[CLOSED] then
  return refuse('closed', 'top-ups')
end
local account = name and account_of(name)
if name and not account then
  return no_agent(name)
end
local refused = too_much(amount, 'this top-up')
if refused then
  return refused
end
if account then
  account[FINISHED] = false
  account[ALLOCATED] = account[ALLOCATED] + amount
  changed(account)
else
  books[POOL] = books[POOL] + amount
end
books[TOTAL] = books[TOTAL] + amount
local reply = { 'done', amount, log('topped_up', account, amount) }
remember(reply, DAY_S)
return finish(reply)
