-- Expire: ends what is due. How many at most.
local earlier = replayed()
if earlier then
  return earlier
end
local ended = sweep(tonumber(ARGV[FIRST]))
local reply = { 'done', ended, books[SEQ] }
if ended > 0 then
  remember(reply, DENIAL_S)
end
return finish(reply)
