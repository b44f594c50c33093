// SPDX-License-Identifier: MIT
// Small integers in arrays: how many reversals the worst order of eight pancakes needs (fannkuch), and the queens of a board.
import { measure } from './measure.js';

function flips(order, pancakes) {
	let count = 0;
	for (let i = 0; i < order.length; i++)
		pancakes[i] = order[i];
	for (let first; (first = pancakes[0]) !== 0; count++)
		for (let low = 0, high = first; low < high; low++, high--) {
			const pancake = pancakes[low];
			pancakes[low] = pancakes[high];
			pancakes[high] = pancake;
		}
	return count;
}

function fannkuch(size) {
	const order = Array.from({ length: size }, (_, i) => i);
	const pancakes = order.slice(), counts = order.map(() => 0);
	let most = 0, checksum = 0, sign = 1;
	for (;;) {
		const count = flips(order, pancakes);
		most = Math.max(most, count);
		checksum += sign * count;
		sign = -sign;
		let place = 1;
		for (; place < size; place++) {
			const first = order[0];
			for (let i = 0; i < place; i++)
				order[i] = order[i + 1];
			order[place] = first;
			if (counts[place]++ < place)
				break;
			counts[place] = 0;
		}
		if (place === size)
			return `${checksum} ${most}`;
	}
}

function queens(size) {
	const columns = [], rising = [], falling = [];
	const place = (row) => {
		if (row === size)
			return 1;
		let solutions = 0;
		for (let column = 0; column < size; column++) {
			if (columns[column] || rising[row + column] || falling[row - column + size])
				continue;
			columns[column] = rising[row + column] = falling[row - column + size] = true;
			solutions += place(row + 1);
			columns[column] = rising[row + column] = falling[row - column + size] = false;
		}
		return solutions;
	};
	return place(0);
}

await measure(() => `${[8, 8, 8, 8, 8, 8, 8].map((size) => fannkuch(size)).join(', ')}, ${queens(11)}`, '1616 22, 1616 22, 1616 22, 1616 22, 1616 22, 1616 22, 1616 22, 2680');
