// SPDX-License-Identifier: MIT
// Allocation: binary trees that are built and dropped beside one that stays, and a search tree whose nodes are moved about.
import { generator, measure } from './measure.js';

const build = (depth) => depth === 0 ? { left: null, right: null } : { left: build(depth - 1), right: build(depth - 1) };
const count = (tree) => tree.left === null ? 1 : 1 + count(tree.left) + count(tree.right);

// A treap: a search tree by key that is a heap by priority.
function insert(node, key, priority) {
	if (node === null)
		return { key, priority, left: null, right: null };
	if (key === node.key)
		return node;
	const side = key < node.key ? 'left' : 'right', other = key < node.key ? 'right' : 'left';
	const child = insert(node[side], key, priority);
	node[side] = child;
	if (child.priority <= node.priority)
		return node;
	node[side] = child[other];
	child[other] = node;
	return child;
}

const height = (node) => node === null ? 0 : 1 + Math.max(height(node.left), height(node.right));
const sum = (node) => node === null ? 0 : node.key + sum(node.left) + sum(node.right);

function work() {
	const longLived = build(15);
	let nodes = 0, treap = null;
	const random = generator(99);
	for (let depth = 4; depth <= 16; depth += 2)
		for (let i = 0; i < 1 << (17 - depth); i++)
			nodes += count(build(depth));
	for (let i = 0; i < 70000; i++)
		treap = insert(treap, random(1 << 22), random(1 << 22));
	return `${nodes} ${count(longLived)} ${height(treap)} ${sum(treap)}`;
}

await measure(work, '1824086 65535 37 145554387549');
