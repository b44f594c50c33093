// SPDX-License-Identifier: MIT
//
// indexer.js - the program of `make demo`: an index of real JavaScript, all of it in memory.
//
//	thaw run indexer.js LIST		LIST names one source file per line
//
// Every file is parsed with acorn; its text, its tokens, its whole syntax tree and the place of every identifier stay in the
// heap: some hundred MiB that were expensive to make. Nothing here saves or loads anything: the loop below just runs, through any number
// of SIGKILLs. At the end it prints one line: counts, and a digest over everything the index holds, which is the same
// however often the program was killed.
import { parse } from '../../build/npm/node_modules/acorn/dist/acorn.mjs';
import { args, on, readFile, stats } from 'thaw';

const files = []; // {name, text, tokens, tree, error}
const words = new Map(); // identifier -> [file number, offset, file number, offset, ...]
let nodes = 0;

// One line for the driver on stderr, now and then and after each restore: what this process has cost so far.
const report = (event) => console.error(`${event} ${files.length} ${JSON.stringify(stats())}`);

function parseAny(file, sourceType) {
	file.tokens = [];
	return parse(file.text, {
		ecmaVersion: 'latest', sourceType, allowHashBang: true, allowReturnOutsideFunction: true,
		locations: true, onToken: file.tokens,
	});
}

// Every node of a tree, parents first, in the order of the source.
function visit(node, callback) {
	callback(node);
	for (const key in node) {
		const value = node[key];
		if (Array.isArray(value)) {
			for (const item of value)
				if (item !== null && typeof item.type === 'string')
					visit(item, callback);
		} else if (value !== null && typeof value === 'object' && typeof value.type === 'string') {
			visit(value, callback);
		}
	}
}

function addFile(name, text) {
	const file = { name, text, tokens: null, tree: null, error: null };
	const number = files.push(file) - 1;
	try {
		file.tree = parseAny(file, 'module');
	} catch {
		try {
			file.tree = parseAny(file, 'script');
		} catch (error) {
			file.error = error.message;
			return;
		}
	}
	visit(file.tree, (node) => {
		nodes++;
		if (node.type !== 'Identifier' && node.type !== 'PrivateIdentifier')
			return;
		const places = words.get(node.name);
		if (places)
			places.push(number, node.start);
		else
			words.set(node.name, [number, node.start]);
	});
}

// Two 32-bit lanes, multiply and rotate: not secret, only sensitive to every value and to their order.
let low = 0x9e3779b9 | 0, high = 0x85ebca6b | 0;
function mix(value) {
	low = Math.imul((low ^ value) << 13 | (low ^ value) >>> 19, 0xcc9e2d51);
	high = Math.imul((high + low) << 15 | (high + low) >>> 17, 0x1b873593) + value | 0;
}
function mixText(text) {
	mix(text.length);
	for (let i = 0; i < text.length; i++)
		mix(text.charCodeAt(i));
}
const digest = () => [high, low].map((lane) => (lane >>> 0).toString(16).padStart(8, '0')).join('');

const nextTurn = () => new Promise((resolve) => setTimeout(resolve, 0));

async function digestAll() {
	for (const file of files) {
		mixText(file.name);
		mix(file.text.length);
		for (const token of file.tokens) {
			mix(token.start);
			mixText(token.type.label);
		}
		if (file.tree)
			visit(file.tree, (node) => {
				mix(node.start);
				mix(node.end);
				mix(node.type.length);
				mix(node.loc.start.line);
			});
		else
			mixText(file.error);
		await nextTurn();
	}
	let count = 0;
	for (const word of [...words.keys()].sort()) {
		mixText(word);
		for (const place of words.get(word))
			mix(place);
		if (++count % 5000 === 0)
			await nextTurn();
	}
}

on('restore', () => report('restored'));

const list = (await readFile(args[0], 'utf8')).split('\n').filter((name) => name !== '');
for (const name of list) {
	addFile(name, await readFile(name, 'utf8'));
	if (files.length % 25 === 0)
		report('progress');
}
report('indexed');
await digestAll();

const most = [...words].sort((a, b) => b[1].length - a[1].length || (a[0] < b[0] ? -1 : 1)).slice(0, 5);
report('finished');
console.log(JSON.stringify({
	files: files.length,
	unparsable: files.filter((file) => file.error !== null).length,
	sourceBytes: files.reduce((sum, file) => sum + file.text.length, 0),
	nodes,
	identifiers: words.size,
	places: [...words.values()].reduce((sum, places) => sum + places.length / 2, 0),
	most: most.map(([word, places]) => `${word} ${places.length / 2}`),
	digest: digest(),
}));
