# SPDX-License-Identifier: MIT
# Threads, a queue, fibers, big numbers, regular expressions, digests: prints 'started', then line after line a number and
# what all of it says of that, the same in every run.
require 'digest'

last = ARGV[0] ? ARGV[0].to_i : 1 << 60
$stdout.sync = true
puts 'started'
asked, answered = Queue.new, Queue.new
lock = Monitor.new rescue lock = Mutex.new
3.times do
  Thread.new { loop { number = asked.pop; lock.synchronize { answered << number * number } } }
end
words = Hash.new { |h, k| h[k] = '' }
numbers = Fiber.new { n = 0; loop { n += 1; Fiber.yield n * 7919 % 10007 } }
big = 1
(1..last).each do |n|
  key = numbers.resume
  words[key] = "#{n} #{words[key * 31 % 10007]}"[0, 40]
  asked << n
  square = answered.pop
  big = big * (n + 1) % (10**40 + 121)
  text = words[key].gsub(/(\d)(\d)/, '\2\1')
  sum = (0..3000).inject(0) { |a, i| (a * 31 + i * key) % 1_000_003 }
  puts "#{n} #{Digest::SHA256.hexdigest("#{text} #{square} #{big} #{sum} #{words.size}")[0, 12]}"
  sleep 0.002
end
