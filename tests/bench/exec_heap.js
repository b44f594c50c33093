// SPDX-License-Identifier: MIT
// exec_heap.js MIB [PAGES] - a program with so much live data: objects, or with PAGES one buffer, of which it writes one
// byte in each of so many random pages a second. Says 'ready', and then 'tick' every 5 ms.
const mib = Number(process.argv[2]), pages = Number(process.argv[3] ?? 0)
const items = [], bytes = pages ? Buffer.alloc(mib << 20, 1) : null
// Some 190 bytes each.
for (let i = 0; !pages && i < mib * 5500; i++) items.push({ id: i, name: 'user ' + i, tags: [i & 7, i & 11], next: items[i >> 1] })
let n = 0, seed = 1
const random = below => (seed = (Math.imul(seed, 1103515245) + 12345) >>> 0) % below
console.log('ready')
setInterval(() => { console.log('tick', ++n, bytes ? bytes.length : items[n * 7919 % items.length].name) }, 5)
if (pages) setInterval(() => { for (let i = 0; i < pages; i++) bytes[random(bytes.length >> 12) << 12]++ }, 1000)
