// SPDX-License-Identifier: MIT
// esbuild, which is Go compiled to WebAssembly, in this process: a line for each file that it makes smaller, the same in
// every run.
const { createHash } = require('crypto')
const fs = require('fs'), path = require('path')
const modules = path.join(__dirname, '../../../build/npm-exec/node_modules')
const last = Number(process.argv[2] ?? Infinity)

console.log('started')
// Its text is made for a browser's worker; it runs here without one.
globalThis.self = globalThis
const esbuild = require(path.join(modules, 'esbuild-wasm/lib/browser.js'))
const files = []
for (const [of, kind, loader] of [['express/lib', '.js', 'js'], ['fastify/lib', '.js', 'js'], ['immer/src', '.ts', 'ts'], ['hono/dist', '.js', 'js']])
	for (const name of fs.readdirSync(path.join(modules, of), { recursive: true }).sort())
		if (name.endsWith(kind)) files.push([path.join(modules, of, name), loader])
const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 12)

async function all() {
	await esbuild.initialize({ wasmModule: new WebAssembly.Module(fs.readFileSync(path.join(modules, 'esbuild-wasm/esbuild.wasm'))), worker: false })
	for (let n = 1; n <= last; n++) {
		const [file, loader] = files[n * 7 % files.length]
		const { code, map } = await esbuild.transform(fs.readFileSync(file, 'utf8'), { loader, minify: n % 2 === 0, sourcemap: true, target: ['es2017', 'es2020', 'esnext'][n % 3] })
		console.log(n, path.basename(file), hash(code), hash(map))
		await new Promise(go => setTimeout(go, 1))
	}
	process.exit(0)
}
all()
