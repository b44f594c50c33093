// SPDX-License-Identifier: MIT
// TypeScript's compiler over immer's sources, again and again with other options: a line for each file that it emits, the
// same in every run. A compilation is one long turn: most kills hit the middle of one.
const { createHash } = require('crypto')
const fs = require('fs'), path = require('path')
const modules = path.join(__dirname, '../../../build/npm-exec/node_modules')
const ts = require(path.join(modules, 'typescript'))
const last = Number(process.argv[2] ?? Infinity)

console.log('started')
const source = path.join(modules, 'immer/src'), files = []
for (const name of fs.readdirSync(source, { recursive: true }).sort()) if (name.endsWith('.ts')) files.push(path.join(source, name))
const hash = text => createHash('sha256').update(text).digest('hex').slice(0, 12)
const targets = ['ES5', 'ES2015', 'ES2018', 'ES2020', 'ES2022', 'ESNext']
let n = 0
function line(text) {
	console.log(++n, text)
	if (n >= last) process.exit(0)
}
function compile(round) {
	const options = { target: ts.ScriptTarget[targets[round % targets.length]], module: ts.ModuleKind.ESNext, strict: round % 2 === 0,
		moduleResolution: ts.ModuleResolutionKind.Bundler, declaration: true, types: [], lib: ['lib.es2020.d.ts'], newLine: ts.NewLineKind.LineFeed }
	const program = ts.createProgram(files, options)
	const faults = ts.getPreEmitDiagnostics(program).map(d => `${d.code} ${d.start} ${ts.flattenDiagnosticMessageText(d.messageText, ' ')}`)
	line(`${faults.length} ${hash(faults.join())}`)
	program.emit(undefined, (name, text) => line(`${path.basename(name)} ${hash(text)}`))
	setTimeout(compile, 2, round + 1)
}
compile(0)
