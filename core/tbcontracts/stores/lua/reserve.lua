-- Reserve: grants a hold whole, with the help of pool and donors, or denies it.
-- The name, amount, hold id, ttl, what must stay, mode, track, trial, and facts as JSON.
local name, amount, hold_id = ARGV[FIRST], tonumber(ARGV[FIRST + 1]), ARGV[FIRST + 2]
local ttl_s, leave, mode = tonumber(ARGV[FIRST + 3]), tonumber(ARGV[FIRST + 4]), ARGV[FIRST + 5]
local track, trial = ARGV[FIRST + 6] == '1', ARGV[FIRST + 7] == '1'
local facts, sizing = ARGV[FIRST + 8], ARGV[FIRST + 9]
local observed = mode == 'observe'

-- Decides: the moves that the hold needs, or why it is denied.
local function admit(account)
  if books[CLOSED] then
    return nil, denied(account, amount, 0, 'scope_closed')
  end
  if account[TRACKED] then
    return {}, nil
  end
  local rest, score, threshold = remaining(account), account[CONFIDENCE], account[THRESHOLD]
  if score and threshold and score >= threshold then
    local denial = denied(account, amount, rest, 'confident')
    denial[8], denial[9] = score, threshold
    return nil, denial
  end
  local shortfall = amount + leave - rest
  if shortfall <= 0 then
    return {}, nil
  end
  local moves, found, fragmented = plan(shortfall, account)
  if found == shortfall then
    return moves, nil
  end
  local code = 'budget_exceeded'
  if fragmented then
    code = 'fragmented'
  elseif found + rest >= amount then
    code = 'reserve_kept'
  end
  return nil, denied(account, amount, rest + found - leave, code)
end

local function open_hold(held, kept_mode, reply)
  if holds[hold_id] then -- what a refused copy left there would be forgotten soon
    unforgotten[1] = 'h' .. hold_id
  end
  local limit = books[NOW] + ttl_s
  rewrite(hold_id, new_hold(name, held, 'open', kept_mode, limit, ATTEMPT, kept(reply)))
  reply[5] = limit
end

local function grant(account, moves)
  enter(account)
  account[FINISHED] = false
  move_to(account, moves)
  account[HELD] = account[HELD] + amount
  local reply = { 'granted', hold_id, name, amount, 0, moves, 0, false }
  open_hold(amount, mode, reply)
  reply[7] = log('held', account, amount, hold_id, moves, facts)
  return reply
end

-- Lets a hold through that does not fit: nothing is held and nothing moves.
local function grant_anyway(account, denial)
  enter(account)
  account[DENIALS] = account[DENIALS] + 1
  local reply = { 'granted', hold_id, name, 0, 0, {}, 0, denial }
  open_hold(0, 'let_through', reply)
  local said = why(denial, nil, leave) .. ',"sizing":' .. sizing .. '}'
  reply[7] = log('would_deny', account, amount, hold_id, nil, said)
  return reply
end

local earlier = replayed()
if earlier then
  return earlier
end
local known = hold_of(hold_id)
if holds[hold_id] and holds[hold_id][BY] == ATTEMPT then
  return again(holds[hold_id][KEPT], ATTEMPT)
end
if known then
  return refuse('hold_exists', hold_id)
end
local account = account_of(name, track)
if not account then
  if AGAIN and there and not KEY then
    local said = { 'error', { 'unknown_agent', name, {} } }
    local note = new_hold(name, 0, 'refused', mode, 0, ATTEMPT, kept(said))
    call('HSET', HOLDS, hold_id, encode(note))
    call('ZADD', FORGET, exactly(books[NOW] + DENIAL_S), 'h' .. hold_id)
  end
  return no_agent(name)
end

sweep(SWEEP_MOST)
local moves, denial = admit(account)
while denial and sweep(SWEEP_MOST) > 0 do
  moves, denial = admit(account)
end

local reply
if not denial then
  reply = grant(account, moves)
elseif observed then
  reply = grant_anyway(account, denial)
elseif trial then
  reply = denial
else
  enter(account)
  reply = log_denial(account, denial, nil, leave)
end
local refused = reply[1] == 'denied'
if not (refused and trial) then
  remember(reply, refused and DENIAL_S or math.max(DAY_S, 2 * ttl_s))
end
-- Copies of a call without a key find the refusal under the hold's id: it is counted once, and none
-- of them is granted later. A trial leaves no trace of itself, unless something was written on the
-- way, or its first copy may still come.
if refused and (trial and (AGAIN or entries[1]) or not trial and not KEY) then
  rewrite(hold_id, new_hold(name, 0, 'refused', mode, 0, ATTEMPT, kept(reply)))
  keep_for(hold_id, AGAIN and DENIAL_S or NOTE_S)
end
return finish(reply)
