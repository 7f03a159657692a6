-- Journal: entries after a number, oldest first; nothing is written. The number, how many at most.
local found = {}
local from = string.format('%.0f-0', tonumber(ARGV[FIRST]) + 1)
for _, entry in ipairs(call('XRANGE', JOURNAL, from, '+', 'COUNT', ARGV[FIRST + 1])) do
  found[#found + 1] = decode(entry[2][2])
end
return answer('ok', false, found)
