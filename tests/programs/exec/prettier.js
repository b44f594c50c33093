// SPDX-License-Identifier: MIT
// Prettier over the sources of other packages: a line for each, the same in every run.
const { createHash } = require('crypto')
const fs = require('fs'), path = require('path')
const modules = path.join(__dirname, '../../../build/npm-exec/node_modules')
const prettier = require(path.join(modules, 'prettier'))
const last = Number(process.argv[2] ?? Infinity)

console.log('started')
const files = []
for (const [of, kind, parser] of [['express/lib', '.js', 'babel'], ['fastify/lib', '.js', 'acorn'], ['immer/src', '.ts', 'typescript'],
	['hono', '.md', 'markdown'], ['fastify', '.json', 'json'], ['fastify/docs', '.md', 'markdown']])
	for (const name of fs.readdirSync(path.join(modules, of), { recursive: true }).sort())
		if (name.endsWith(kind) && !name.includes('node_modules')) files.push([path.join(modules, of, name), parser])
const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 12)

async function all() {
	for (let n = 1; n <= last; n++) {
		const [file, parser] = files[n * 7 % files.length], text = fs.readFileSync(file, 'utf8').slice(0, 40000)
		const done = await prettier.format(text, { parser, tabWidth: n % 8 + 1, semi: n % 2 === 0, useTabs: n % 3 === 0 }).catch(error => `${error}`)
		console.log(n, path.basename(file), hash(done))
		await new Promise(go => setTimeout(go, 1))
	}
}
all()
