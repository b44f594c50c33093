// SPDX-License-Identifier: MIT
// Maps and Sets that come and go: a cache that forgets what was not used for long, and a graph that is walked breadth first.
import { generator, measure } from './measure.js';

const random = generator(1);

function cache(size, requests) {
	const entries = new Map();
	let hits = 0;
	for (let i = 0; i < requests; i++) {
		const key = `key ${Math.min(random(size * 4), random(size * 4))}`;
		const entry = entries.get(key);
		if (entry !== undefined) {
			hits++;
			entry.uses++;
			entries.delete(key);
			entries.set(key, entry);
			continue;
		}
		entries.set(key, { key, born: i, uses: 1 });
		if (entries.size > size)
			entries.delete(entries.keys().next().value);
	}
	let uses = 0;
	for (const entry of entries.values())
		uses += entry.uses;
	return `${hits} ${uses}`;
}

function walk(nodes, edges) {
	const graph = new Map();
	for (let i = 0; i < nodes; i++)
		graph.set(i, new Set());
	for (let i = 0; i < edges; i++) {
		const a = random(nodes), b = random(nodes);
		graph.get(a).add(b);
		graph.get(b).add(a);
	}
	const seen = new Set([0]);
	let border = new Set([0]), steps = 0;
	while (border.size > 0) {
		const next = new Set();
		for (const node of border)
			for (const neighbour of graph.get(node))
				if (!seen.has(neighbour)) {
					seen.add(neighbour);
					next.add(neighbour);
				}
		border = next;
		steps++;
	}
	return `${seen.size} ${steps}`;
}

await measure(() => `${cache(5000, 320000)} ${walk(20000, 60000)}`, '103259 7540 19951 10');
