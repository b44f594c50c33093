// SPDX-License-Identifier: MIT
// Typed arrays and 32-bit arithmetic: SHA-256 of 1 MiB.
import { measure } from './measure.js';

// The first 32 bits of the fractions of roots of primes.
const primes = [];
for (let n = 2; primes.length < 64; n++)
	if (primes.every((prime) => n % prime))
		primes.push(n);
const fraction = (x) => (x - Math.floor(x)) * 4294967296 | 0;
const K = Int32Array.from(primes, (prime) => fraction(Math.cbrt(prime)));
const rotate = (x, n) => x >>> n | x << 32 - n;

function sha256(message) {
	const state = Int32Array.from(primes.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
	const w = new Int32Array(64);
	const padded = new Uint8Array((message.length + 9 + 63) & ~63);
	const view = new DataView(padded.buffer);
	padded.set(message);
	padded[message.length] = 0x80;
	view.setUint32(padded.length - 4, message.length * 8);
	view.setUint32(padded.length - 8, Math.floor(message.length / 0x20000000));
	for (let block = 0; block < padded.length; block += 64) {
		for (let i = 0; i < 16; i++)
			w[i] = view.getInt32(block + 4 * i);
		for (let i = 16; i < 64; i++) {
			const a = w[i - 15], b = w[i - 2];
			w[i] = w[i - 16] + w[i - 7] + (rotate(a, 7) ^ rotate(a, 18) ^ a >>> 3) + (rotate(b, 17) ^ rotate(b, 19) ^ b >>> 10);
		}
		let [a, b, c, d, e, f, g, h] = state;
		for (let i = 0; i < 64; i++) {
			const first = h + (rotate(e, 6) ^ rotate(e, 11) ^ rotate(e, 25)) + (e & f ^ ~e & g) + K[i] + w[i] | 0;
			const second = (rotate(a, 2) ^ rotate(a, 13) ^ rotate(a, 22)) + (a & b ^ a & c ^ b & c) | 0;
			h = g, g = f, f = e, e = d + first | 0;
			d = c, c = b, b = a, a = first + second | 0;
		}
		[a, b, c, d, e, f, g, h].forEach((value, i) => { state[i] += value; });
	}
	return Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, '0')).join('');
}

function work() {
	const message = new Uint8Array(1 << 20);
	for (let i = 0; i < message.length; i++)
		message[i] = i * 31 + (i >> 8);
	return sha256(message);
}

await measure(work, 'f6a34d4c79c3d12c297589206bf216b084347471a53ea5e7fe9a46bd1230f098');
