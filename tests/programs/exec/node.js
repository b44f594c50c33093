// SPDX-License-Identifier: MIT
// Prints 'started', then line after line a number and what all that a program consists of says of it: the same in every
// run. Maps, buffers, promises, timers, closures, generators, regular expressions, crypto (C++), zlib (the thread pool), a child process.
const { createHash } = require('crypto')
const { gzipSync, gunzip } = require('zlib')
const { execFile } = require('child_process')
const last = Number(process.argv[2] ?? Infinity)

console.log('started')
const map = new Map(), list = [], bytes = Buffer.alloc(1 << 20)
let tree = null, n = 0
const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 12)
function* numbers() { for (let i = 1; ; i++) yield i * 7919 % 10007 }
const endless = numbers()
const insert = (node, key) => !node ? { key, left: null, right: null }
	: (key < node.key ? node.left = insert(node.left, key) : key > node.key && (node.right = insert(node.right, key)), node)
const depth = node => node ? 1 + Math.max(depth(node.left), depth(node.right)) : 0
const unzip = packed => new Promise((yes, no) => gunzip(packed, (error, all) => error ? no(error) : yes(all)))
const child = number => new Promise((yes, no) => {
	execFile('echo', [String(number)], (error, out) => error && !error.killed && error.signal !== 'SIGKILL' ? no(error) : yes(error ? number : Number(out)))
})

async function step() {
	const number = ++n, key = endless.next().value
	map.set(`key ${key}`, { number, text: 'x'.repeat(key % 100), when: [number, key] })
	list.push({ key, before: list[list.length - 1]?.key ?? 0 })
	if (list.length > 3000) list.splice(0, 1000)
	tree = insert(tree, key)
	bytes.writeUInt32LE(number, key * 100 % bytes.length & ~3)
	const text = [...map.keys()].slice(-20).join().replace(/key (\d+)/g, (_, k) => k * 2)
	const all = await unzip(gzipSync(JSON.stringify(list.slice(-50))))
	const echoed = number % 10 ? number : await child(number)
	const sum = list.slice(-100).reduce((a, { key, before }) => a + key - before, 0)
	console.log(number, hash(`${text} ${all} ${echoed} ${sum} ${depth(tree)} ${map.size} ${bytes.readUInt32LE(key * 100 % bytes.length & ~3)}`))
	if (number < last) setTimeout(step, 2)
}
step()
