// SPDX-License-Identifier: MIT
//
// measure.js - times one of the engine's benchmarks, which runs in one turn, and prints samples for interleave.
//
// A new program is a new image: its first generation, which holds the engine itself, belongs to the start and is made before
// the clock is. Without an image there is nothing to wait for; and in another engine there is no such module.
const { checkpoint, stats } = await import('thaw').catch(() => ({ checkpoint: async () => {}, stats: () => ({ checkpoints: 0 }) }));

// random(n): an integer below n, the same ones in every run. The low bits of such a generator repeat soon.
export function generator(seed) {
	return (n) => {
		seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
		return (seed >>> 8) % n;
	};
}

export async function measure(work, expected) {
	await checkpoint().catch(() => {});
	const before = stats().checkpoints;
	const start = performance.now();
	const result = String(work());
	const milliseconds = performance.now() - start;
	if (result !== expected)
		throw new Error(`the result is ${result}, it should be ${expected}`);
	console.log(`-\t-\t${milliseconds}\tms`);
	if (stats().checkpoints > before)
		console.log(`generations of a run\t-\t${stats().checkpoints - before}\t`);
}
