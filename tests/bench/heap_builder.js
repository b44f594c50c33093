// SPDX-License-Identifier: MIT
// A table of records, `BYTES` of heap large: what the restore benchmark restores. Plain global code, so that it runs in Thaw and in quickjs-wasi.
globalThis.table = []
globalThis.build = bytes => {
	// Some 236 bytes a record, measured.
	const records = Math.floor(bytes / 236)
	for (let i = 0; i < records; i++) {
		if (i % 65536 === 0)
			table.push([])
		table[table.length - 1].push({ id: i, name: 'record ' + i, tags: ['a', i % 7], next: null })
	}
	return records
}
globalThis.lookup = i => table[Math.floor(i / 65536)][i % 65536].name
