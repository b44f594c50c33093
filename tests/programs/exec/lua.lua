-- SPDX-License-Identifier: MIT
-- Tables, coroutines, closures and strings: prints 'started', then line after line a number and what they say of it.
local last = tonumber(arg[1]) or math.huge
io.stdout:setvbuf('line')
print('started')
local words, n = {}, 0
local numbers = coroutine.wrap(function() local i = 0 while true do i = i + 1 coroutine.yield(i * 7919 % 10007) end end)
local function mix(text) local h = 5381 for i = 1, #text do h = (h * 33 + text:byte(i)) % 4294967296 end return h end
while n < last do
	n = n + 1
	local key = numbers()
	words[key] = ('%d %s'):format(n, (words[key] or ''):sub(1, 30))
	local sum = 0
	for k = key, key + 200 do if words[k] then sum = sum + #words[k] * k end end
	for i = 1, 20000 do sum = (sum + i * key) % 1000003 end
	print(n, mix(words[key] .. sum))
end
