-- Read: the scope's books at one moment, its accounts in the order of opening; nothing is written.
if not there then
  return answer('ok', false)
end
local found = {}
for _, raw in ipairs(call('HVALS', ACCOUNTS)) do
  found[#found + 1] = decode(raw)
end
table.sort(found, function(one, other)
  return one[PLACE] < other[PLACE]
end)
return answer('ok', { books[SEQ], books[POOL], books[TOTAL], books[CLOSED], found, books[UNIT] })
