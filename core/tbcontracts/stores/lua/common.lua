-- What all commands share. It stands before each of them, and they are one script together.
--
-- Everything is decided first, on copies in tables; `finish` writes it in the end. For a script that
-- fails halfway keeps what it has written until then.
--
-- KEYS  the books of one scope, always the same eight:
local META, ACCOUNTS, HOLDS, DUE, DONORS, REPLIES, FORGET, JOURNAL = unpack(KEYS)
-- meta     string: the scope's record
-- acct     hash: agent -> account
-- hold     hash: hold id -> hold
-- due      sorted set: open holds by their limit
-- don      sorted set: who can give something, in the order in which they are asked
-- key      hash: idempotency key -> what came of it
-- keydue   sorted set: "k" and key, or "h" and hold id, by the time when it may be forgotten
-- log      stream: the journal; the id of an entry is its number
-- Records are MessagePack arrays: small, quick to read here, and exact up to 2^53.
--
-- ARGV  first what every command has, then its own:
local CLOCK, SEEN_EPOCH, SEEN_SEQ, NEW_EPOCH = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local AGAIN, JOURNAL_MAX, KEEP_HOLDS_S = ARGV[5] == '1', ARGV[6], tonumber(ARGV[7])
local ATTEMPT, FINGERPRINT = ARGV[8], ARGV[10]
local KEY = ARGV[9] ~= '' and string.sub(ARGV[9], 2) -- it begins with "="; a key may be empty
local FIRST = 11

local call, encode, decode = redis.call, cmsgpack.pack, cmsgpack.unpack

local LAYOUT = 1
local SWEEP_MOST, FORGET_MOST, DONORS_MAX, FIRST_PAGE, PAGE = 16, 16, 64, 2, 16
local SURPLUS_MAX = 2 ^ 41 - 1
local TOTAL_MAX = 2 ^ 53 - 1
local DAY_S, DENIAL_S, NOTE_S = 86400, 600, 60

-- The fields of an account.
local NAME, PLACE, PRIORITY, MOST, RESERVE, THRESHOLD, TRACKED, FINISHED = 1, 2, 3, 4, 5, 6, 7, 8
local ALLOCATED, CONSUMED, HELD, UNMEASURED, DENIALS, EXPIRED = 9, 10, 11, 12, 13, 14
local CONFIDENCE, SAID, BUCKET, COST, UNPRICED, TERMS, OWED, SCORE = 15, 16, 16, 22, 23, 24, 25, 26
-- (five buckets stand at 17 to 21; SCORE is the account's place among the donors, as written)

-- The fields of a hold.
local AGENT, AMOUNT, CHARGED, STATUS, MODE, LIMIT, VERB, FOR = 1, 2, 3, 4, 5, 6, 7, 8
local BY, KEPT, PUT_OFF_BY, PUT_OFF, FOR_COST, FOR_UNPRICED = 9, 10, 11, 12, 13, 14
-- (VERB and FOR say how it was ended; KEPT is what the attempt BY was answered that granted or ended
-- it, PUT_OFF the same of the last one that put off its limit; FOR_COST and FOR_UNPRICED were counted
-- for CHARGED)

-- The fields of what a key was used for.
local K_BY, K_PRINT, K_UNTIL, K_KEPT, K_OWN = 1, 2, 3, 4, 5
-- (K_OWN is set where only copies of the same attempt may find it)

-- The scope: layout, epoch, seq, now, pool, total, closed, number of accounts, unit.
local EPOCH, SEQ, NOW, POOL, TOTAL, CLOSED, PLACES, UNIT = 2, 3, 4, 5, 6, 7, 8, 9
local books
local there = call('GET', META)
if there then
  books = decode(there)
else
  books = { LAYOUT, NEW_EPOCH, 0, 0, 0, 0, false, 0, false }
end

local clock = tonumber(CLOCK)
if not clock then
  local time = call('TIME')
  clock = tonumber(time[1]) + tonumber(time[2]) / 1000000
end
if books[1] <= LAYOUT and clock > books[NOW] then
  books[NOW] = clock
end

local accounts, touched = {}, {} -- by name
local holds, rewritten = {}, {} -- by id
local swept, entries, remembered = {}, {}, {}
local forget, unforgotten = {}, {}
local span = { 0, 0 } -- the first entry that this call writes, and how many

-- What is kept of an answer, for copies of the same call: the reply, and which entries it wrote.
local function kept(reply)
  return { reply, span }
end

local function exactly(number)
  return string.format('%.17g', number)
end

-- --- answers -------------------------------------------------------------------------------------

-- One packed string: as an array of arrays it would take the server longer to send than to decide.
local function answer(status, reply, written)
  return encode({ status, books[EPOCH], books[SEQ], clock, reply, written or {} })
end

-- Keeps the time, which never runs backwards, where nothing else is written.
local function write_time()
  if there then
    call('SET', META, encode(books))
  end
end

local function keep_answer(key, reply, ttl_s, own)
  local until_s = books[NOW] + ttl_s
  call('HSET', REPLIES, key, encode({ ATTEMPT, FINGERPRINT, until_s, kept(reply), own }))
  forget[#forget + 1] = exactly(until_s)
  forget[#forget + 1] = 'k' .. key
end

-- An error: the books stay as they were. Where this call is asked again, its first copy may still be
-- on its way, and must find that it was refused.
local function refuse(code, ...)
  local details = { code, ... }
  write_time()
  if AGAIN and KEY and there and code ~= 'key_conflict' then
    keep_answer(KEY, { 'error', details }, DENIAL_S, true)
    call('ZADD', FORGET, unpack(forget))
  end
  return answer('error', details)
end

-- The reply of an earlier copy of this call (`by` is then its attempt), or of an earlier call with the
-- same key. Writing the time has a second use here: where an acknowledgement is asked for, the server
-- waits for what was written on this connection.
local function again(known, by)
  local reply, wrote, written = known[1], known[2], {}
  write_time()
  if by == ATTEMPT and wrote[2] > 0 then -- whoever asks again did not hear of these
    local first, last = wrote[1], wrote[1] + wrote[2] - 1
    local range = { string.format('%.0f-0', first), string.format('%.0f-0', last) }
    for _, entry in ipairs(call('XRANGE', JOURNAL, range[1], range[2])) do
      written[#written + 1] = decode(entry[2][2])
    end
  end
  if reply[1] == 'error' then
    return answer('error', reply[2])
  end
  return answer('ok', reply, written)
end

if books[1] > LAYOUT then
  return encode({ 'error', '', 0, clock, { 'layout', books[1], LAYOUT }, {} })
end
if SEEN_EPOCH ~= '' and (books[EPOCH] ~= SEEN_EPOCH or books[SEQ] < SEEN_SEQ) then
  return answer('regressed', {})
end

-- --- keys ----------------------------------------------------------------------------------------

-- Returns the reply to this key, if there was one, or that it was the reply to something else.
local function replayed()
  if not KEY then
    return nil
  end
  local raw = call('HGET', REPLIES, KEY)
  if not raw then
    return nil
  end
  local known = decode(raw)
  if known[K_BY] == ATTEMPT then
    return again(known[K_KEPT], ATTEMPT)
  end
  if known[K_UNTIL] <= books[NOW] or known[K_OWN] then
    return nil
  end
  if known[K_PRINT] ~= FINGERPRINT then
    return refuse('key_conflict')
  end
  return again(known[K_KEPT], nil)
end

local function remember(reply, ttl_s)
  if KEY then
    remembered = { reply, ttl_s }
  end
end

-- --- accounts ------------------------------------------------------------------------------------

local function find(name)
  local account = accounts[name]
  if account == nil then
    local raw = call('HGET', ACCOUNTS, name)
    account = raw and decode(raw) or false
    accounts[name] = account
  end
  return account
end

-- Returns an account; with `track`, a new one (not yet on the books) for a name that has none.
local function account_of(name, track)
  local account = find(name)
  if account and (track or not account[TRACKED]) then
    return account
  end
  if track then
    return {
      name, -1, 1, 0, 0, false, true, false, 0, 0, 0, 0, 0, 0, false, false,
      0, 0, 0, 0, 0, 0, 0, '', 0, false,
    }
  end
  return nil
end

local function no_agent(name)
  local known = call('HLEN', ACCOUNTS) <= 1000 and call('HKEYS', ACCOUNTS) or {}
  return refuse('unknown_agent', name, known)
end

local function touch(account)
  touched[account[NAME]] = account
end

-- Puts an account on the books that is not on them yet.
local function enter(account)
  if account[PLACE] < 0 then
    account[PLACE] = books[PLACES]
    books[PLACES] = books[PLACES] + 1
    accounts[account[NAME]] = account
  end
  touch(account)
end

local function remaining(account)
  return account[ALLOCATED] - account[CONSUMED] - account[HELD]
end

local function surplus(account)
  if account[TRACKED] then
    return 0
  end
  return math.max(0, remaining(account) - account[RESERVE])
end

-- Notes a change; a finished agent gives up its rest.
local function changed(account)
  local rest = remaining(account)
  if account[FINISHED] and rest > 0 then
    account[ALLOCATED] = account[ALLOCATED] - rest
    books[POOL] = books[POOL] + rest
  end
  touch(account)
end

local function overdraft(account)
  if account[TRACKED] then
    return 0
  end
  return math.max(0, -remaining(account))
end

-- --- the journal ---------------------------------------------------------------------------------

local function log(kind, account, amount, hold_id, moves, facts)
  local seq = books[SEQ] + 1
  books[SEQ] = seq
  local agent, allocated, consumed, held = false, 0, 0, 0
  if account then
    if kind ~= 'denied' then
      account[SAID] = false -- the next refusal repeats nothing
    end
    agent, allocated, consumed, held = account[NAME], account[ALLOCATED], account[CONSUMED], account[HELD]
  end
  entries[#entries + 1] = {
    seq, books[NOW], kind, agent, amount, hold_id or false, moves or {},
    allocated, consumed, held, books[POOL], facts or '{}',
  }
  return seq
end

-- --- refusals ------------------------------------------------------------------------------------

local function denied(account, asked, reach, code)
  return {
    'denied', account[NAME], asked, math.max(0, reach), math.max(0, asked - reach), code,
    books[SEQ], false, false,
  }
end

-- The facts of an entry about a denial, without the brace at their end: the model is JSON.
local function why(denial, model, leave)
  local facts = string.format('{"code":%s,"available":%.0f', cjson.encode(denial[6]), denial[4])
  if denial[8] then
    facts = facts .. string.format(',"score":%.17g,"threshold":%.17g', denial[8], denial[9])
  end
  if model then
    facts = facts .. ',"model":' .. model
  end
  if leave and leave > 0 then
    facts = facts .. string.format(',"leave":%.0f', leave)
  end
  return facts
end

-- Puts a denial on the books; one that repeats the agent's last one is only counted.
local function log_denial(account, denial, model, leave)
  local code, asked, reach = denial[6], denial[3], denial[4]
  account[DENIALS] = account[DENIALS] + 1
  touch(account)
  denial[7] = books[SEQ]
  local said = account[SAID]
  if said and said[1] == code and said[2] == asked and said[3] == reach and said[4] == model then
    return denial
  end
  account[SAID] = { code, asked, reach, model }
  denial[7] = log('denied', account, asked, nil, nil, why(denial, model, leave) .. '}')
  return denial
end

-- --- writing -------------------------------------------------------------------------------------

local function put(command, key, values)
  for first = 1, #values, 200 do
    call(command, key, unpack(values, first, math.min(first + 199, #values)))
  end
end

local function score_of(account)
  local rest = surplus(account)
  if rest == 0 then
    return false
  end
  return account[PRIORITY] * 2 ^ 41 + SURPLUS_MAX - math.min(rest, SURPLUS_MAX)
end

local function write_accounts()
  local records, in_order, out = {}, {}, {}
  for name, account in pairs(touched) do
    local score = score_of(account)
    if score and score ~= account[SCORE] then
      in_order[#in_order + 1] = string.format('%.0f', score)
      in_order[#in_order + 1] = name
    elseif not score and account[SCORE] then
      out[#out + 1] = name
    end
    account[SCORE] = score
    records[#records + 1] = name
    records[#records + 1] = encode(account)
  end
  put('HSET', ACCOUNTS, records)
  put('ZADD', DONORS, in_order)
  put('ZREM', DONORS, out)
end

local function write_holds()
  local records, limits, ended = {}, {}, {}
  for hold_id, hold in pairs(rewritten) do
    records[#records + 1] = hold_id
    records[#records + 1] = encode(hold)
    if hold[STATUS] == 'open' then
      limits[#limits + 1] = exactly(hold[LIMIT])
      limits[#limits + 1] = hold_id
    else
      ended[#ended + 1] = hold_id
    end
  end
  put('HSET', HOLDS, records)
  put('ZADD', DUE, limits)
  put('ZREM', DUE, ended)
end

-- Notes what may be forgotten later, and forgets a little of what is due, but nothing of this call.
local function write_forgetting()
  put('ZREM', FORGET, unforgotten)
  if #forget == 0 then
    return
  end
  put('ZADD', FORGET, forget)
  local due = call('ZRANGEBYSCORE', FORGET, '-inf', exactly(books[NOW]), 'LIMIT', 0, FORGET_MOST)
  if #due == 0 then
    return
  end
  local keys, old = {}, {}
  for _, one in ipairs(due) do
    local list = string.sub(one, 1, 1) == 'k' and keys or old
    list[#list + 1] = string.sub(one, 2)
  end
  put('HDEL', REPLIES, keys)
  put('HDEL', HOLDS, old)
  put('ZREM', FORGET, due)
end

-- Writes everything, and answers.
local function finish(reply)
  if entries[1] then
    span[1], span[2] = entries[1][1], #entries
  end
  call('SET', META, encode(books))
  write_accounts()
  write_holds()
  if remembered[1] then
    keep_answer(KEY, remembered[1], remembered[2], false)
  end
  for _, entry in ipairs(entries) do
    local id = string.format('%.0f-0', entry[1])
    if JOURNAL_MAX ~= '' then
      call('XADD', JOURNAL, 'MAXLEN', '~', JOURNAL_MAX, id, 'e', encode(entry))
    else
      call('XADD', JOURNAL, id, 'e', encode(entry))
    end
  end
  write_forgetting()
  return answer('ok', reply, entries)
end
