// SPDX-License-Identifier: MIT
// Eight threads over one piece of shared memory, which wait for each other by Atomics: a line a round, the same in every run.
const { Worker, isMainThread, workerData } = require('worker_threads')
const THREADS = 8, WORDS = 1 << 16

if (!isMainThread) {
	const { shared, words, me } = workerData, turn = new Int32Array(shared, 0, 16), data = new Int32Array(shared, 64, words)
	for (let round = 1; ; round++) {
		while (Atomics.load(turn, 0) < round) Atomics.wait(turn, 0, Atomics.load(turn, 0), 1000)
		for (let i = me; i < words; i += 8) data[i] = Math.imul(data[i] ^ i, 0x9e3779b1) + round | 0
		if (Atomics.add(turn, 1, 1) === round * 8 - 1) Atomics.notify(turn, 1)
	}
}
const last = Number(process.argv[2] ?? Infinity)
console.log('started')
const shared = new SharedArrayBuffer(64 + 4 * WORDS), turn = new Int32Array(shared, 0, 16), data = new Int32Array(shared, 64, WORDS)
for (let me = 0; me < THREADS; me++) new Worker(__filename, { workerData: { shared, words: WORDS, me } })
let round = 0
async function step() {
	Atomics.store(turn, 0, ++round)
	Atomics.notify(turn, 0)
	for (let done; (done = Atomics.load(turn, 1)) < round * THREADS;) {
		const wait = Atomics.waitAsync(turn, 1, done, 100)
		if (wait.async) await wait.value
	}
	console.log(round, data.reduce((a, x) => Math.imul(a, 31) + x | 0, 0))
	if (round < last) setTimeout(step, 2)
	else process.exit(0)
}
step()
