// SPDX-License-Identifier: MIT
// The same heap in node's startup snapshot (node --build-snapshot), which V8 reads as `new v8::Isolate` with a blob does:
// node_snapshot.mjs MIB BUILDER.js. A process for each: what an empty one takes is told, too.
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'

const [mib, builder] = process.argv.slice(2), rounds = 7
const room = mkdtempSync(join(tmpdir(), 'thaw-node-snapshot-')), blob = join(room, 'blob')
const tell = (what, value, unit) => console.log(`forks: ${what}\t${mib} MiB\t${value.toFixed(3)}\t${unit}`)
const run = (...parameters) => {
	const begun = performance.now()
	execFileSync(process.execPath, ['--max-old-space-size=8192', ...parameters], { stdio: 'ignore' })
	return performance.now() - begun
}
const median = (list) => list.sort((a, b) => a - b)[list.length >> 1]

try {
	const entry = join(room, 'entry.js'), empty = join(room, 'empty.js')
	writeFileSync(entry, `${readFileSync(builder, 'utf8')}\nbuild(${mib} * 1048576)\n`
		+ `require('node:v8').startupSnapshot.setDeserializeMainFunction(() => { if (!lookup(1)) process.exit(1) })\n`)
	writeFileSync(empty, '')
	tell('written whole', run('--snapshot-blob', blob, '--build-snapshot', entry), 'ms')
	tell('bytes whole', statSync(blob).size / 1024, 'KiB')
	const opened = [], nothing = []
	for (let i = 0; i < rounds; i++) {
		opened.push(run('--snapshot-blob', blob, 'main'))
		nothing.push(run(empty))
	}
	tell('a process that opens the file, to the first call', median(opened), 'ms')
	tell('a process that does nothing', median(nothing), 'ms')
} finally {
	rmSync(room, { recursive: true })
}
