-- Refuse: writes a refusal that was decided before the books were asked.
-- The name, amount, code, whether it is only observed, track, and the model as JSON.
local name, amount, code = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2]
local observed, track = ARGV[FIRST + 3] == '1', ARGV[FIRST + 4] == '1'

local model = ARGV[FIRST + 5] ~= '' and ARGV[FIRST + 5] or nil

local earlier = replayed()
if earlier then
  return earlier
end
local account = account_of(name, track)
if not account then
  return no_agent(name)
end
local denial = denied(account, amount, remaining(account), code)
enter(account)
if observed then
  account[DENIALS] = account[DENIALS] + 1
  denial[7] = log('would_deny', account, amount, nil, nil, why(denial, model) .. '}')
else
  log_denial(account, denial, model)
end
remember(denial, DENIAL_S)
return finish(denial)
