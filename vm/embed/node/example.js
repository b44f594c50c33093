// SPDX-License-Identifier: MIT
// An agent that tries code in a sandbox: what goes well is kept, what does not is as if it had never been. node example.js
'use strict'
const { ThawVM, Snapshot } = require('thaw-vm')

async function main() {
	const vm = new ThawVM({
		maxBytes: 64 << 20,
		turnMs: 500,
		log: text => process.stdout.write(`  the program says: ${text}`),
		functions: {
			now: () => 1700000000,
			fetchPrice: async item => { await new Promise(done => setTimeout(done, 10)); return item.length * 100 },
		},
	})
	vm.eval('const basket = []; async function buy(item) { basket.push([item, await fetchPrice(item)]); console.log(item, now()) }', { name: 'basket.js' })
	await vm.call('buy', ['tea'])

	for (const code of ['basket.push(["cup", 250])', 'basket.length = 0; basket.oops()', 'for (;;);']) {
		const before = vm.snapshot()
		try {
			vm.eval(code, { name: 'attempt.js' })
			console.log('kept:', code)
		} catch (error) {
			vm.rollback(before)
			console.log(`undone: ${code}: ${error.code}, ${error.message}`)
		}
	}
	console.log('the basket:', vm.eval('basket'))

	const snapshot = vm.snapshot()
	const forks = Array.from({ length: 100 }, () => snapshot.fork({ functions: { now() {}, fetchPrice() {} } }))
	forks.forEach((fork, index) => fork.eval(`basket.push(['number', ${index}])`))
	console.log('100 forks, the last one has:', forks.at(-1).eval('basket.at(-1)'))

	const bytes = snapshot.bytes()
	const delta = forks[7].snapshot().bytes({ since: snapshot })
	const copy = Snapshot.from(delta, Snapshot.from(bytes)).fork({ functions: { now() {}, fetchPrice() {} } })
	console.log(`the snapshot: ${bytes.length >> 10} KiB, what one fork has changed: ${delta.length} bytes; it has`, copy.eval('basket.at(-1)'))
}
main()
