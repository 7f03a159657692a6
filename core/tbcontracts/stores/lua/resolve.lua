-- Resolve: the reply to a key, or what came of a hold by its id; nothing is written. The name.
local raw = call('HGET', REPLIES, ARGV[FIRST])
if raw then
  local known = decode(raw)
  if known[K_UNTIL] > books[NOW] and known[K_KEPT][1][1] ~= 'error' then
    return answer('ok', known[K_KEPT][1])
  end
end
raw = call('HGET', HOLDS, ARGV[FIRST])
local known = raw and decode(raw)[KEPT]
if known and known[1][1] ~= 'error' then
  return answer('ok', known[1])
end
return answer('ok', false)
