-- Finish: ends an agent's work; its rest, reserve too, goes to the pool. The name.
local name = ARGV[FIRST]

local earlier = replayed()
if earlier then
  return earlier
end
local account = account_of(name)
if not account then
  return no_agent(name)
end
if account[FINISHED] then
  local reply = { 'done', 0, books[SEQ] }
  if AGAIN then -- a copy that comes later must not finish what was opened again
    remember(reply, DENIAL_S)
  end
  return finish(reply)
end
local rest = math.max(0, remaining(account))
account[FINISHED] = true
changed(account)
local reply = { 'done', rest, log('finished', account, rest) }
remember(reply, DAY_S)
return finish(reply)
