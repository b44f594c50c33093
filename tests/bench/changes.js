// The second half of a program (cases/durable.sh) that begins with heap_builder.js and `const mib = N, seconds = N`: one object after
// the other is changed, and nothing else is done before that is durable.
import { checkpoint } from 'thaw'
const records = build(mib * 1048576)
await checkpoint()
let seed = 1, bytes = 0, changes = 0
const random = below => { seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff; return (seed >>> 8) % below }
const change = async at => {
	table[Math.floor(at / 65536)][at % 65536].next = { at, changes }
	bytes += (await checkpoint()).bytes
}
for (let i = 0; i < 20; i++)
	await change(random(records))
bytes = 0
const began = performance.now()
for (; performance.now() - began < seconds * 1000; changes++)
	await change(random(records))
console.log(`durable changes\t${mib} MiB of JavaScript objects\t${changes / (performance.now() - began) * 1000}\t/s`)
console.log(`bytes written\t${mib} MiB of JavaScript objects\t${bytes / changes / 1024}\tKiB a change`)
