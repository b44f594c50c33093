// SPDX-License-Identifier: MIT
// Calls and small integers: the functions of Fibonacci, Takeuchi and Ackermann.
import { measure } from './measure.js';

const fib = (n) => n < 2 ? n : fib(n - 1) + fib(n - 2);
const tak = (x, y, z) => y >= x ? z : tak(tak(x - 1, y, z), tak(y - 1, z, x), tak(z - 1, x, y));
const ack = (m, n) => m === 0 ? n + 1 : n === 0 ? ack(m - 1, 1) : ack(m - 1, ack(m, n - 1));

await measure(() => `${fib(35)} ${tak(18, 12, 6)} ${ack(2, 500)}`, '9227465 7 1003');
