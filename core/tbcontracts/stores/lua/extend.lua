-- Extend: lets an open hold live on. The hold id, ttl, and facts as JSON.
local hold_id, ttl_s, facts = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2]

local hold = hold_of(hold_id)
if hold and hold[PUT_OFF_BY] == ATTEMPT then
  return again(hold[PUT_OFF], ATTEMPT)
end
if not hold or hold[STATUS] ~= 'open' then
  return refuse('not_open', hold_id, hold and hold[STATUS] or false)
end
hold[LIMIT] = books[NOW] + ttl_s
rewrite(hold_id, hold)
local account = find(hold[AGENT])
touch(account)
local seq = log('extended', account, hold[AMOUNT], hold_id, nil, facts)
local reply = { 'done', hold[AMOUNT], seq }
hold[PUT_OFF_BY], hold[PUT_OFF] = ATTEMPT, kept(reply)
return finish(reply)
