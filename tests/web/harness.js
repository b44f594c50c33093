// SPDX-License-Identifier: GPL-2.0-only
//
// One file of web-platform-tests: thaw -e "await import('.../harness.js')" WPT-DIRECTORY FILE. It is run as in a dedicated worker, with the
// harness that is in that directory, and each of its tests is a line: PASS or FAIL, the name, what was wrong.
import { args, readFile, exit } from 'thaw'

const [root, file] = args
const directory = file.slice(0, file.lastIndexOf('/') + 1)
const place = (path) => path.startsWith('/') ? root + path : root + '/' + directory + path
const evaluate = eval // in the global scope, and sloppy
const line = (text) => JSON.stringify(String(text)).slice(1, -1)

globalThis.GLOBAL = { isWindow: () => false, isWorker: () => true, isShadowRealm: () => false }
globalThis.fetch = async (path) => {
	const bytes = await readFile(place(String(path)))
	return { ok: true, status: 200, text: async () => new TextDecoder().decode(bytes), arrayBuffer: async () => bytes.buffer,
		 json: async () => JSON.parse(new TextDecoder().decode(bytes)) }
}

// How tests come by a SharedArrayBuffer where pages may not have its constructor.
globalThis.WebAssembly = { Memory: class { buffer = new SharedArrayBuffer(0) } }

const run = async (path) => evaluate(await readFile(path, 'utf8'))
await run(root + '/resources/testharness.js')
globalThis.location = new URL('http://web-platform.test/' + file) // after the harness, which takes this for a shell without
setup({ explicit_done: true })
add_result_callback((test) => console.log(test.status === 0 ? 'PASS' : 'FAIL', line(test.name), test.status === 0 ? '' : line(test.message ?? 'status ' + test.status)))
add_completion_callback((tests, status) => {
	console.log('DONE', status.status, line(status.message ?? ''))
	exit(0)
})
// What nobody caught is the test's to judge: it fails those that are under way.
addEventListener('error', (event) => event.preventDefault())
addEventListener('unhandledrejection', (event) => event.preventDefault())

// The scripts of a page, or those that a file for all scopes names, and itself: together, since what one declares is the others', too.
const text = await readFile(root + '/' + file, 'utf8')
const scripts = []
if (file.endsWith('.html')) {
	for (const [, path, inline] of text.matchAll(/<script(?: src=["']?([^"'>]*)["']?)?[^>]*>([^]*?)<\/script>/g)) {
		if (path === undefined)
			scripts.push(inline)
		else if (!path.startsWith('/resources/testharness'))
			scripts.push(await readFile(place(path), 'utf8'))
	}
} else {
	for (const [, path] of text.matchAll(/^\/\/ META: script=(.*)$/gm))
		scripts.push(await readFile(place(path.trim()), 'utf8'))
	scripts.push(text)
}
// Strict, if the file itself is.
const strict = /^\s*(['"])use strict\1;?\s*$/m
evaluate((strict.test(scripts.at(-1)) ? '\'use strict\';' : '') + scripts.map((script) => script.replace(strict, '')).join('\n;\n'))
done()
setTimeout(() => {}, 1e9) // timers that wait for events keep nothing alive
