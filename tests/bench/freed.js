// SPDX-License-Identifier: MIT
// freed.js - a million objects, of which half are freed: what is resident, how large the image is, and what the next generation
// stores, before and after. WHICH (cases/freed.sh) is `halves` (the second half is freed) or `every other`. Under node, too.
const thaw = await import('thaw').catch(() => null), fs = thaw ?? await import('fs/promises')
const count = 1000000, items = []
const text = async path => String(await fs.readFile(path, 'utf8'))
const resident = async () => Number(/VmRSS:\s+(\d+)/.exec(await text('/proc/self/status'))[1]) / 1024
const sleep = ms => new Promise(done => setTimeout(done, ms))

function tell(row, value) {
	console.log(`memory freed, ${which}\t${row}\t${value}\tMiB`)
}

async function collect() {
	for (let i = 0; i < 3; i++) {
		thaw ? thaw.gc() : globalThis.gc?.()
		await sleep(50)
	}
}

async function look(when, changed) {
	const generation = await thaw?.checkpoint()
	await collect()
	tell(`resident ${when}`, await resident())
	if (!thaw)
		return
	if (changed)
		tell('stored by the next generation', generation.bytes / 1048576)
	tell(`heap ${when}`, thaw.stats().heapBytes / 1048576)
	tell(`image ${when}`, thaw.stats().imageBytes / 1048576)
}

for (let i = 0; i < count; i++)
	items.push({ id: i, name: 'object ' + i, tags: ['a', i % 7], next: null })
await collect()
await look('before', false)
if (which === 'halves')
	items.length = count / 2
else
	for (let i = 0; i < count; i += 2)
		items[i] = null
await collect()
await look('after', true)
thaw?.exit(0)
