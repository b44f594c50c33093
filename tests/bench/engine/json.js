// SPDX-License-Identifier: MIT
// JSON and sorting: orders are written, parsed, grouped and sorted, some at a time, as a server would.
import { generator, measure } from './measure.js';

const random = generator(7);

const compare = (a, b) => a < b ? -1 : a > b ? 1 : 0;

const order = (id) => ({
	id, customer: { name: `customer ${random(500)}`, city: ['Aachen', 'Brno', 'Cork', 'Delft'][random(4)], vip: random(10) === 0 },
	items: Array.from({ length: 1 + random(5) }, () => ({ sku: `S-${random(1000)}`, count: 1 + random(9), price: random(10000) / 100 })),
	note: random(3) ? null : 'leave it "at the door"\n',
});

function work() {
	const totals = new Map();
	let bytes = 0, checksum = 0;
	for (let round = 0; round < 430; round++) {
		const text = JSON.stringify(Array.from({ length: 120 }, (_, i) => order(round * 1000 + i)));
		const orders = JSON.parse(text);
		bytes += text.length;
		for (const { customer, items } of orders) {
			const total = items.reduce((sum, { count, price }) => sum + Math.round(count * price * 100), 0);
			totals.set(customer.name, (totals.get(customer.name) ?? 0) + total);
		}
		orders.sort((a, b) => b.items.length - a.items.length || compare(a.customer.name, b.customer.name) || a.id - b.id);
		checksum = (Math.imul(checksum, 31) + orders[17].id) | 0;
	}
	const best = [...totals].sort(([, a], [, b]) => b - a)[0];
	return `${bytes} ${checksum} ${best.join(' ')}`;
}

await measure(work, '11560938 -450846205 customer 284 10681577');
