-- Confidence: notes or forgets the score of an agent's last answer. The name, score, facts as JSON.
local name, score = ARGV[FIRST], tonumber(ARGV[FIRST + 1]) or false

local earlier = replayed()
if earlier then
  return earlier
end
local account = account_of(name)
if not account then
  return no_agent(name)
end
account[CONFIDENCE] = score
touch(account)
local reply = { 'done', 0, log('confidence', account, 0, nil, nil, ARGV[FIRST + 2]) }
remember(reply, DENIAL_S)
return finish(reply)
