// SPDX-License-Identifier: GPL-2.0-only
//
// turns_mixed.js - the computation of rounds.js, cut into turns of 0.1 to 100 ms by timers, files and checkpoints.
//
// args[0] is a directory that holds a file `data`. What a kill may change (when a timer fires, whether an append
// happened) stays out of the digest.
import { appendFile, args, checkpoint, env, readFile, writeFile } from 'thaw'
import { compute } from './rounds.js'

async function append(text) {
	try {
		await appendFile(`${args[0]}/appended`, text)
	} catch (e) {
		if (e.code !== 'EINTERRUPTED') throw e
	}
}

async function pause(r) {
	switch (r % 16) {
	case 0:
		await append(`${r}\n`)
		break
	case 1:
		return (await readFile(`${args[0]}/data`, 'utf8')).length
	case 2:
		await writeFile(`${args[0]}/written`, 'x'.repeat(r & 0xffff))
		break
	case 3:
		if (r & 0x300) break // it waits for the disk
		await checkpoint()
		break
	case 4:
		return Promise.race([new Promise(resolve => setTimeout(resolve, 1, 11)), new Promise(() => {})])
	case 5:
	case 6:
	case 7:
		await new Promise(resolve => setTimeout(resolve, (r >>> 8) & 3))
		break
	default:
		return new Promise(resolve => setImmediate(resolve, r & 63))
	}
	return r & 31
}

compute(n => env.STOP || String(n) === env.LIMIT, pause).then(({ n, digest }) => console.log('result', n, digest))
