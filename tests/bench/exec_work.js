// SPDX-License-Identifier: MIT
// exec_work.js cpu|memory - a few seconds of arithmetic over a small array, or of small objects that live for a while.
const kind = process.argv[2]
let sum = 0
if (kind === 'cpu') {
	const n = 400, a = Float64Array.from({ length: n * n }, (_, i) => i % 7), b = a.slice(), c = new Float64Array(n * n)
	for (let round = 0; round < 40; round++)
		for (let i = 0; i < n; i++)
			for (let k = 0; k < n; k++) {
				const x = a[i * n + k]
				for (let j = 0; j < n; j++) c[i * n + j] += x * b[k * n + j]
			}
	sum = c.reduce((x, y) => x + y)
} else {
	let live = new Map()
	for (let i = 0; i < 6000000; i++) {
		live.set(i % 100000, { i, text: 'x' + i, list: [i, i + 1, i + 2] })
		sum += live.get(i * 31 % 100000)?.list.length ?? 0
	}
}
console.log('done', sum)
