// SPDX-License-Identifier: GPL-2.0-only
/*
 * Values of every kind, which one machine makes and another one finds as they were
 * (tests/image/image_travels.c). It leaves generation 1 behind, and ends.
 */
import { on, checkpoint, exit } from 'thaw'

const values = {
	doubles: Float64Array.from({ length: 1000 }, (_, i) => Math.sqrt(i) / 3),
	integers: new Int32Array([1, -1, 2 ** 31 - 1, -(2 ** 31)]),
	odd: [NaN, -0, Infinity, 5e-324, 2 ** 53 + 1],
	big: 3n ** 500n,
	texts: ['plain', 'Größe', '\u{1f600}'],
	map: new Map(Array.from({ length: 1000 }, (_, i) => ['key ' + i, { i }])),
	date: new Date(0),
	pattern: /a(b+)c/g,
	*generator() { yield* [1, 2, 3] },
}
const begun = values.generator()
begun.next()
let resolved
const later = new Promise(resolve => { resolved = resolve }).then(value => value + 1)

function tell() {
	return [
		values.doubles.join(), values.integers.join(), values.odd.map(x => Object.is(x, -0) ? '-0' : String(x)).join(),
		String(values.big), values.texts.join(), values.texts.map(x => x.length).join(),
		[...values.map].map(([key, value]) => key + value.i).join(), values.date.toISOString(),
		'xabbbc'.replace(values.pattern, '<$1>'),
	].join('\n')
}

const told = tell()
let elsewhere = false
on('restore', () => { elsewhere = true })
await checkpoint()
setTimeout(async () => {
	resolved(41)
	if (elsewhere) console.log(tell() === told, [...begun].join(), await later)
	exit(0)
})
