-- Close: the scope takes no more holds.
local earlier = replayed()
if earlier then
  return earlier
end
if books[CLOSED] then
  return finish({ 'done', 0, books[SEQ] })
end
books[CLOSED] = true
local reply = { 'done', 0, log('closed', nil, 0) }
remember(reply, DENIAL_S)
return finish(reply)
