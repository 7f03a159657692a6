-- Void: gives a hold back. The hold id, and facts as JSON.
local hold_id, facts = ARGV[FIRST], ARGV[FIRST + 1]

local hold = hold_of(hold_id)
if not hold then
  return finish({ 'done', 0, books[SEQ] })
end
local earlier = resolved_before(hold_id, hold, 'voided', false)
if earlier then
  return earlier
end
local account = find(hold[AGENT])
local given_back = 0
if hold[STATUS] == 'open' then
  given_back = hold[AMOUNT]
  account[HELD] = account[HELD] - given_back
elseif hold[STATUS] == 'charged' then
  given_back = take_back(account, hold)
end
changed(account)
local reply = { 'done', given_back, log('voided', account, given_back, hold_id, nil, facts) }
end_hold(hold_id, hold, 'voided', false, reply)
return finish(reply)
