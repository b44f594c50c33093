// SPDX-License-Identifier: GPL-2.0-only
//
// check_snapshot.mjs FILE [path type name least most]... - is FILE a heap snapshot as V8 writes them? Counts, ranges and
// groups as DevTools' loader takes them for granted; and what lies at each path has that type, name and size. For node.
import assert from 'node:assert/strict';
import fs from 'node:fs';

const [file, ...wanted] = process.argv.slice(2);
const { snapshot, nodes, edges, strings, ...others } = JSON.parse(fs.readFileSync(file, 'utf8'));
const { meta } = snapshot;

assert.deepEqual(meta.node_fields, ['type', 'name', 'id', 'self_size', 'edge_count', 'trace_node_id', 'detachedness']);
assert.deepEqual(meta.node_types, [['hidden', 'array', 'string', 'object', 'code', 'closure', 'regexp', 'number', 'native', 'synthetic',
	'concatenated string', 'sliced string', 'symbol', 'bigint', 'object shape'], 'string', 'number', 'number', 'number', 'number', 'number']);
assert.deepEqual(meta.edge_fields, ['type', 'name_or_index', 'to_node']);
assert.deepEqual(meta.edge_types, [['context', 'element', 'property', 'internal', 'hidden', 'shortcut', 'weak'], 'string_or_number', 'node']);
for (const name of ['trace_function_infos', 'trace_tree', 'samples', 'locations'])
	assert.deepEqual(others[name], [], name);

const NODE = meta.node_fields.length, EDGE = meta.edge_fields.length;
assert.equal(nodes.length, snapshot.node_count * NODE);
assert.equal(edges.length, snapshot.edge_count * EDGE);
assert.ok(nodes.every(Number.isSafeInteger) && edges.every(Number.isSafeInteger));
assert.ok(strings.every((text) => typeof text === 'string'));

// Nodes, and where each one's edges begin: they lie together, in the order of the nodes.
const ids = new Set(), firstEdge = [];
let edge = 0, bytes = 0;
for (let at = 0; at < nodes.length; at += NODE) {
	const [type, name, id, size, count, trace, detached] = nodes.slice(at, at + NODE);
	assert.ok(type >= 0 && type < meta.node_types[0].length);
	assert.ok(name >= 0 && name < strings.length);
	assert.ok(id > 0 && !ids.has(id), `id ${id} of node ${at / NODE}`);
	ids.add(id);
	assert.ok(size >= 0 && size <= 2 ** 32);
	assert.equal(trace + detached, 0);
	firstEdge.push(edge);
	edge += count;
	bytes += size;
}
assert.equal(edge, snapshot.edge_count);
firstEdge.push(edge);
for (let at = 0; at < edges.length; at += EDGE) {
	const [type, name, to] = edges.slice(at, at + EDGE);
	const kind = meta.edge_types[0][type];
	assert.ok(kind);
	assert.ok(to >= 0 && to < nodes.length && to % NODE === 0);
	assert.ok(name >= 0 && (kind === 'element' || kind === 'hidden' || name < strings.length));
}

const edgesOf = (node) => {
	const found = [];
	for (let i = firstEdge[node]; i < firstEdge[node + 1]; i++) {
		const kind = meta.edge_types[0][edges[i * EDGE]], name = edges[i * EDGE + 1];
		found.push({ kind, name: kind === 'element' || kind === 'hidden' ? name : strings[name], to: edges[i * EDGE + 2] / NODE });
	}
	return found;
};
const typeOf = (node) => meta.node_types[0][nodes[node * NODE]];
const nameOf = (node) => strings[nodes[node * NODE + 1]];

// The root comes first; the globals are what the user has, the rest is below "(GC roots)".
assert.equal(typeOf(0), 'synthetic');
const roots = edgesOf(0);
assert.equal(roots[0].name, 'globalThis');
assert.equal(typeOf(roots[0].to), 'object');
assert.ok(roots.some((root) => typeOf(root.to) === 'synthetic' && nameOf(root.to) === '(GC roots)'));

// Without the weak edges, all is reached.
const reached = new Uint8Array(snapshot.node_count), queue = [0];
reached[0] = 1;
while (queue.length)
	for (const { kind, to } of edgesOf(queue.pop()))
		if (kind !== 'weak' && !reached[to]) {
			reached[to] = 1;
			queue.push(to);
		}
assert.ok(reached.every(Boolean), `${reached.filter((r) => !r).length} nodes that nothing reaches`);

for (let i = 0; i < wanted.length; i += 5) {
	const [path, type, name, least, most] = wanted.slice(i, i + 5);
	let node = 0;
	for (const step of path.split('.')) {
		const found = edgesOf(node).find(({ kind, name }) => kind !== 'hidden' && String(name) === step);
		assert.ok(found, `${path}: no ${step}`);
		node = found.to;
	}
	assert.equal(typeOf(node), type, path);
	assert.equal(nameOf(node).slice(0, 40), name, path);
	const size = nodes[node * NODE + 3];
	assert.ok(size >= least && size <= most, `${path}: ${size} bytes`);
}
console.log(`${snapshot.node_count} nodes, ${snapshot.edge_count} edges, ${bytes} bytes`);
