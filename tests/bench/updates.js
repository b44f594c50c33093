// The second half of a program (cases/writers.sh) that begins with heap_builder.js and `const mib = N, updates = N`: random objects
// are updated, ten thousand in a turn.
import { checkpoint } from 'thaw'
const records = build(mib * 1048576)
let seed = 1
const random = below => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >>> 8) % below }
function update(count) {
	for (let i = 0; i < count; i++) {
		const at = random(records), record = table[Math.floor(at / 65536)][at % 65536]
		record.name = 'record ' + at + ' ' + i
		record.tags[1] = i
	}
}
await checkpoint().catch(() => {})
const began = performance.now()
let last = began, longest = 0
for (let done = 0; done < updates; done += 1000) {
	update(1000)
	const now = performance.now()
	longest = Math.max(longest, now - last)
	last = now
	if (done % 10000 === 0)
		await null
}
console.log(`random updates\t${mib} MiB\t${last - began}\tms`)
console.log(`longest stall of random updates\t${mib} MiB\t${longest}\tms`)
