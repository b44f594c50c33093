// SPDX-License-Identifier: MIT
// The same heap through quickjs-wasi under node:  build BYTES SNAPSHOT BUILDER.js  |  restore SNAPSHOT RECORD
import { readFileSync, writeFileSync, openSync, writeSync, closeSync } from 'node:fs'
import { pathToFileURL } from 'node:url'

const root = process.env.THAW_NPM + '/node_modules/quickjs-wasi/'
const { QuickJS } = await import(pathToFileURL(root + 'dist/index.js'))
const wasm = readFileSync(root + 'quickjs.wasm')

const [verb, ...rest] = process.argv.slice(2)
if (verb === 'build') {
	const vm = await QuickJS.create({ wasm })
	vm.evalCode(readFileSync(rest[2], 'utf8')).dispose()
	vm.evalCode(`build(${rest[0]})`).dispose()
	const bytes = QuickJS.serializeSnapshot(vm.snapshot())
	// writeFileSync refuses more than 2 GiB at once.
	const file = openSync(rest[1], 'w')
	for (let at = 0; at < bytes.length; at += 1 << 28)
		writeSync(file, bytes, at, Math.min(1 << 28, bytes.length - at))
	closeSync(file)
} else {
	const bytes = readFileSync(rest[0])
	const vm = await QuickJS.restore(QuickJS.deserializeSnapshot(bytes), { wasm })
	console.log(vm.evalCode(`lookup(${rest[1]})`).toString())
}
