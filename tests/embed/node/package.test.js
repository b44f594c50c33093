// SPDX-License-Identifier: GPL-2.0-only
// The package as somebody installs it: from the tarball, offline, in a new directory; its example, its types, ES modules.
'use strict'
const { test } = require('node:test')
const assert = require('node:assert')
const fs = require('node:fs')
const os = require('node:os')
const path = require('node:path')
const { spawnSync } = require('node:child_process')

const { THAW_VM_TARBALL: tarball, THAW_VM_NPM: npm } = process.env
const directory = fs.mkdtempSync(path.join(os.tmpdir(), 'thaw-test-npm-'))
process.on('exit', () => fs.rmSync(directory, { recursive: true }))

const run = (program, ...list) => {
	const ran = spawnSync(program, list, { cwd: directory, encoding: 'utf8', env: { ...process.env, npm_config_cache: path.join(directory, 'cache'), HOME: directory } })
	if (ran.error) throw ran.error
	return [ran.stdout + ran.stderr, ran.status]
}

test('npm installs it offline', { skip: spawnSync('npm', ['--version']).error && 'there is no npm' }, () => {
	fs.writeFileSync(path.join(directory, 'package.json'), '{"private": true}')
	const [output, status] = run('npm', 'install', '--offline', '--no-audit', '--no-fund', tarball)
	assert.equal(status, 0, output)
	fs.writeFileSync(path.join(directory, 'a.js'), 'const { ThawVM } = require("thaw-vm"); console.log(new ThawVM().eval("6 * 7"))')
	assert.deepEqual(run(process.execPath, 'a.js'), ['42\n', 0])
	fs.writeFileSync(path.join(directory, 'a.mjs'),
		'import ThawVM, { Snapshot, interrupt } from "thaw-vm"; console.log(new ThawVM().snapshot() instanceof Snapshot, interrupt(0))')
	assert.deepEqual(run(process.execPath, 'a.mjs'), ['true false\n', 0])
})

test('the example runs', () => {
	const modules = path.join(directory, 'node_modules', 'thaw-vm')
	if (!fs.existsSync(modules)) fs.cpSync(process.env.THAW_VM_PACKAGE, modules, { recursive: true })
	const [output, status] = run(process.execPath, path.join(modules, 'example.js'))
	assert.equal(status, 0, output)
	assert.match(output, /^ {2}the program says: tea 1700000000\nkept: basket\.push\(\["cup", 250\]\)\nundone: [^\n]*ERR_THAW_EXCEPTION, not a function\nundone: for \(;;\);: ERR_THAW_INTERRUPTED/)
	assert.match(output, /the basket: \[ \[ 'tea', 300 \], \[ 'cup', 250 \] \]/)
	assert.match(output, /the last one has: \[ 'number', 99 \]/)
	assert.match(output, /it has \[ 'number', 7 \]\n$/)
})

test('another architecture is told', () => {
	fs.writeFileSync(path.join(directory, 'b.js'), `
		Object.defineProperty(process, 'arch', { value: 's390x' })
		try { require(${JSON.stringify(process.env.THAW_VM_PACKAGE)}) } catch (error) { console.log(error.code, error.message) }`)
	assert.deepEqual(run(process.execPath, 'b.js'), ['ERR_THAW_PLATFORM thaw-vm: cannot load the addon for linux-s390x: this package has none\n', 0])
})

test('its types fit', () => {
	const tsc = path.join(npm, 'node_modules/typescript/bin/tsc')
	const modules = path.join(directory, 'node_modules', 'thaw-vm')
	if (!fs.existsSync(modules)) fs.cpSync(process.env.THAW_VM_PACKAGE, modules, { recursive: true })
	fs.writeFileSync(path.join(directory, 'good.ts'), `
		import ThawVM, { Snapshot, ThawError, interrupt, type VMOptions, type PendingCall } from 'thaw-vm'
		const options: VMOptions = { maxBytes: 1 << 26, functions: { add: (a: number, b: number) => a + b, async slow() { return 1 } }, log(text, fd) { text.length + fd } }
		using vm = new ThawVM(options)
		const sum: number = vm.call('add', [1, 2]), ended: Promise<boolean> = vm.run({ unref: true, ms: 5 })
		const snapshot: Snapshot = vm.snapshot(), bytes: Uint8Array = snapshot.bytes({ since: snapshot })
		const fork = Snapshot.from(bytes, snapshot, { maxBytes: 1 }).fork({ turnMs: 5 })
		const calls: PendingCall[] = fork.pending()
		fork.context('other').eval('1', { name: 'a.js', module: true })
		try { fork.rollback(snapshot) } catch (error) { if (error instanceof ThawError && error.code === 'ERR_THAW_BUSY') error.missing?.length }
		const there: boolean = interrupt(vm.id)
		export { sum, ended, calls, there }`)
	fs.writeFileSync(path.join(directory, 'bad.ts'), `
		import { ThawVM, Snapshot } from 'thaw-vm'
		new ThawVM({ maxbytes: 1 })
		new Snapshot()
		new ThawVM().eval(1)
		new ThawVM().snapshot().fork({ image: 'a' })`)
	const [output] = run(process.execPath, tsc, '--noEmit', '--strict', '--target', 'es2022', '--lib', 'es2022,esnext.disposable', '--module', 'nodenext',
		'good.ts', 'bad.ts')
	assert.deepEqual(output.match(/^\S+: error TS/gm).map(line => line.replace(/,.*/, '')), ['bad.ts(3', 'bad.ts(4', 'bad.ts(5', 'bad.ts(6'])
})
