// SPDX-License-Identifier: MIT
//
// measure.js - times one of the engine's benchmarks, which runs in one turn, and prints "begin", then "MILLISECONDS GENERATIONS".
//
// A new program is a new image: its first generation, which holds the engine itself, belongs to the start and is made before
// the clock is. Without an image there is nothing to wait for.
import { checkpoint, stats } from 'thaw';

// random(n): an integer below n, the same ones in every run. The low bits of such a generator repeat soon.
export function generator(seed) {
	return (n) => {
		seed = (Math.imul(seed, 1103515245) + 12345) & 0x7fffffff;
		return (seed >>> 8) % n;
	};
}

export async function measure(work, expected) {
	await checkpoint().catch(() => {});
	console.log('begin');
	const before = stats().checkpoints;
	const start = performance.now();
	const result = String(work());
	const milliseconds = performance.now() - start;
	if (result !== expected)
		throw new Error(`the result is ${result}, it should be ${expected}`);
	console.log(`${milliseconds} ${stats().checkpoints - before}`);
}
