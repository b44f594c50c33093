// SPDX-License-Identifier: MIT
//
// old_data.js - hands everything that a program can hand to the world out of a heap that it has not touched for long.
//
// The data is made first, each piece far from the next. Then there is a generation, and the program waits for GO in its
// environment; killed and started again with it, it finds none of its pages in memory. What it says and writes must be what it
// says and writes if nothing ever happened to it.
import { appendFile, args, checkpoint, env, gc, on, readFile, stats, writeFile } from 'thaw';
import module, { shout } from './old_data.mjs';

const padding = [];
function apart(value) {
	padding.push(new Uint8Array(300000).fill(padding.length + 1));
	return value;
}
// Longer than a page, and not made of parts.
const long = (text, bytes) => (text.repeat(Math.ceil(bytes / text.length)) + '.').replace(/\.$/, '');
const directory = env.DIRECTORY;

const old = {
	line: apart(long('a line of text; ', 300000)),
	wide: apart(long('wide \u00fc\u4e16\u{1f600} ', 70000)),
	lone: apart(long('lone \ud800 ', 20000)),
	bytes: apart(new Uint8Array(300000).map((_, i) => i * 7)),
	floats: apart(new Float64Array(20000).map((_, i) => i / 3)),
	buffer: apart(new TextEncoder().encode(long('bytes of text \u00e9 ', 50000)).buffer),
	object: apart(Object.fromEntries(Array.from({ length: 2000 }, (_, i) => [`key ${i}`, { i, text: `value ${i}` }]))),
	map: apart(new Map(Array.from({ length: 500 }, (_, i) => [{ i }, new Set([i, `${i}`])]))),
	rows: apart(Array.from({ length: 50 }, (_, i) => ({ i, square: i * i, name: `row ${i}` }))),
	error: apart(new RangeError(long('an old error ', 9000), { cause: new TypeError('an old cause') })),
	source: apart(`(${shout})('evaluated') + ${JSON.stringify(long('source ', 9000))}.length`),
	json: apart(JSON.stringify(Array.from({ length: 3000 }, (_, i) => ({ i, text: `item ${i}` })))),
	format: apart(long('%s %d %o ', 5000)),
	files: Array.from({ length: 6 }, (_, i) => apart(`${directory}/${'./'.repeat(1500)}file-${i}`)),
	modules: ['./late.mjs', '/late.mjs', 'file:///late.mjs', 'late-package', '/late.json', 'missing-package'].map(name => apart(
		name.startsWith('file:') ? `file://${directory}${name.slice(7)}` : name.startsWith('/') ? directory + name : name)),
	variable: apart(long('A_VARIABLE_OF_THE_ENVIRONMENT_', 5000)),
	name: apart('name:' + 'n'.repeat(50)),
	timer: apart([long('of a timer ', 9000), { of: 'a timer' }]),
	url: apart('https://example.org/' + 'path/'.repeat(2000)),
};
const waiting = apart(new Promise(resolve => on('restore', resolve)));

await checkpoint();
if (!env.GO)
	console.log('ready');
for (let turns = 0; !env.GO; turns++)
	;

const lazy = stats();
await writeFile(`${directory}/lazy`, `${lazy.restores} ${lazy.pagesRestored} ${lazy.heapBytes}`);

// Files, before anything else has touched the data.
await Promise.all([writeFile(old.files[0], old.bytes), writeFile(old.files[1], old.wide), writeFile(old.files[2], old.floats)]);
await appendFile(old.files[0], old.line);
await appendFile(old.files[1], new Uint8Array(old.buffer));
await writeFile(old.files[3], old.lone);
console.log((await readFile(old.files[0])).length, (await readFile(old.files[1], 'utf8')).length);
old.bytes.set((await readFile(old.files[2])).subarray(0, 100000), 150000);
console.log(old.bytes.reduce((sum, byte) => (sum * 31 + byte) % 1000003, 7));
await readFile(old.files[4]).catch(error => console.log(error.code, error.message.length, error.syscall));
await writeFile(`${old.files[5]}/below`, old.line).catch(error => console.log(error.code));

// The console.
console.log(old.line);
console.log(old.wide, old.lone);
console.log(old.bytes, old.floats.subarray(19000), old.buffer);
console.log(old.object, old.map);
console.dir(old.map, { depth: 4 });
console.table(old.rows);
console.log(old.format, ...old.rows);
console.error(old.line);
console.error(old.error);
console.warn(old.error.stack);
console.group(old.line.slice(0, 5000));
console.info(old.rows);
console.groupEnd();
console.count(old.name);
console.assert(false, old.line);

// Names of every kind.
console.log(env[old.variable], old.variable in env, Object.keys(env).includes(old.name), args);
for (const name of old.modules)
	console.log(await import(name).then(found => found.default, error => error.message.replaceAll(directory, 'DIRECTORY')));
const { names } = await checkpoint({ name: old.name });
console.log(names, module.here, shout(old.line).length);
await Promise.resolve().then(() => checkpoint({ name: old.line })).catch(error => console.log(error.name));

// Text, randomness, time.
console.log(new TextDecoder().decode(old.buffer).length, new TextEncoder().encode(old.wide).length, new TextEncoder().encode(old.lone).length);
crypto.getRandomValues(old.bytes.subarray(100000, 160000));
crypto.getRandomValues(new Uint32Array(old.floats.buffer, 80000, 10000));
console.log(crypto.randomUUID().length, Math.random() < 1, performance.now() > 0, new Date(0).toLocaleString().length > 0, new Date().getTimezoneOffset());
console.log(JSON.parse(old.json).length, (0, eval)(old.source), new Function('old', 'return old.source.length')(old));
console.log(structuredClone(old.object)['key 1999'], old.url.split('/').length);
old.bytes.fill(3);
console.log(old.bytes.at(-1), padding.reduce((sum, part) => sum + part[1000], 0));

// Turns.
await new Promise(resolve => setTimeout((text, object) => { console.log(text, object); resolve(); }, 5, ...old.timer));
await new Promise(resolve => setImmediate(resolve));
console.log(typeof waiting.then, await Promise.race([Promise.resolve(old.name), waiting]) !== undefined);
Promise.reject(old.error).catch(error => console.log(error.message));
gc();
await new Promise(resolve => setTimeout(resolve, 5));
setTimeout(() => { throw old.error; }, 1);
