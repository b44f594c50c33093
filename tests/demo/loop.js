// SPDX-License-Identifier: MIT
//
// loop.js - the second program of `make demo`: one loop that never gives the event loop a turn.
//
// The number below a million with the longest Collatz chain, among other things, without a single `await`: whoever kills this
// process kills it in the middle of the loop, and that is where it goes on. Nothing here saves or loads anything.
const below = 1e6;

function length(n) {
	return n === 1 ? 1 : 1 + length(n % 2 === 0 ? n / 2 : 3 * n + 1);
}

let longest = 0;
let start = 0;
let digest = 0;
for (let n = 1; n < below; n += 3) {
	const steps = length(n);
	digest = (Math.imul(digest, 31) + steps) | 0;
	if (steps > longest) {
		longest = steps;
		start = n;
	}
}
console.log(`${start} takes ${longest} steps to 1 (digest ${digest >>> 0})`);
