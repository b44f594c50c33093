// SPDX-License-Identifier: MIT
//
// training.js - what the engine does while its compiler watches (trainer.c): some of everything that programs are made of, each
// for about as long. Nothing in it depends on time, chance or the machine, so that every build is trained alike.
const results = [];
const part = (work) => results.push(work());

// Calls, small integers, closures.
part(() => {
	const hanoi = (n, from, to, over) => n ? hanoi(n - 1, from, over, to) + 1 + hanoi(n - 1, over, to, from) : 0;
	const adders = Array.from({ length: 10 }, (_, i) => (n) => n + i);
	let sum = hanoi(15, 0, 2, 1);
	for (let i = 0; i < 60000; i++)
		sum = adders[i % 10](sum) & 0xffffff;
	return sum;
});

// Loops over typed arrays: a sieve, and bits.
part(() => {
	const sieve = new Uint8Array(200000);
	let count = 0, bits = 1;
	for (let i = 2; i < sieve.length; i++) {
		if (sieve[i])
			continue;
		count++;
		for (let j = i * 2; j < sieve.length; j += i)
			sieve[j] = 1;
	}
	for (let i = 0; i < 150000; i++)
		bits = (Math.imul(bits, 69069) + (bits >>> 7) ^ bits << 3) | 0;
	return count + ' ' + bits;
});

// Objects, classes, getters, inheritance, destructuring.
part(() => {
	class Shape {
		#name;
		constructor(name) { this.#name = name; this.hits = 0; }
		get name() { return this.#name; }
		area() { return 0; }
		hit() { this.hits++; return this.area(); }
	}
	class Box extends Shape {
		constructor(w, h) { super('box'); this.w = w; this.h = h; }
		area() { return this.w * this.h; }
	}
	class Disc extends Shape {
		constructor(r) { super('disc'); this.r = r; }
		area() { return this.r * this.r * 3.25; }
	}
	const shapes = [];
	let sum = 0;
	for (let i = 0; i < 300; i++)
		shapes.push(i % 3 ? new Box(i, i + 1) : new Disc(i));
	for (let round = 0; round < 60; round++)
		for (const shape of shapes)
			sum += shape.hit() + shape.name.length;
	for (let i = 0; i < 20000; i++) {
		const { w = 1, ...rest } = { w: i, a: 1, b: 2 };
		const [x, y] = [w, rest.a];
		sum += x + y;
	}
	return sum;
});

// Floating point: a matrix, a simulation.
part(() => {
	const n = 36, a = [], b = [];
	let x = 0.5, v = 0, energy = 0;
	for (let i = 0; i < n; i++) {
		a.push(Array.from({ length: n }, (_, j) => i + j / 8));
		b.push(Float64Array.from({ length: n }, (_, j) => i - j / 4));
	}
	for (let i = 0; i < n; i++)
		for (let j = 0; j < n; j++) {
			let s = 0;
			for (let k = 0; k < n; k++)
				s += a[i][k] * b[k][j];
			energy += s;
		}
	for (let i = 0; i < 60000; i++) {
		v -= x * 0.001953125;
		x += v * 0.001953125;
		energy += Math.sqrt(x * x + v * v) + Math.floor(x * 8);
	}
	return energy.toFixed(3);
});

// Text: building, splitting, searching, regular expressions.
part(() => {
	const words = [];
	let text = '', found = 0;
	for (let i = 0; i < 4000; i++)
		words.push((i * 7919 % 4001).toString(36));
	text = words.join(' ');
	for (let i = 0; i < 4000; i++)
		text += i % 11 ? String.fromCharCode(97 + i % 26) : `-${i}-`;
	for (const word of text.split(/[\s-]+/))
		found += word.length * (word.charCodeAt(0) & 7);
	found += text.replace(/([a-z])(\d)/g, (_, letter, digit) => digit + letter).length;
	for (const match of text.matchAll(/\b[a-m]+\w*(?=\s)/g))
		found += match.index & 3;
	for (let i = 0; i < text.length; i++)
		if (text[i] === 'e' || text.startsWith('zz', i))
			found++;
	return found + text.indexOf('zzz') + text.toUpperCase().slice(5, 30).trim().padEnd(30).length;
});

// Arrays and their functions, sorting, spreading.
part(() => {
	let list = Array.from({ length: 6000 }, (_, i) => i * 7919 % 6007);
	list.sort((a, b) => a - b);
	list = list.map((n) => n * 3).filter((n) => n & 1).concat([...list].reverse());
	while (list.length > 6000)
		list.push(list.shift() ^ list.pop() ^ list.pop());
	const names = list.slice(0, 1000).map(String).sort();
	return list.reduce((sum, n) => sum + n, 0) + Math.max(...list) + names.join('').length + list.findIndex((n) => n === 9);
});

// Map, Set, properties by computed names, JSON.
part(() => {
	const map = new Map(), set = new Set(), counts = {};
	for (let i = 0; i < 12000; i++) {
		map.set('k' + i % 3000, i);
		set.add(i * 31 % 5000);
		counts['n' + i % 700] = (counts['n' + i % 700] ?? 0) + 1;
		if (i % 5 === 0)
			map.delete('k' + i % 1000);
	}
	let sum = set.size;
	for (const [key, value] of map)
		sum += key.length + value;
	for (const name in counts)
		sum += counts[name];
	const json = JSON.stringify({ counts, list: [...set].slice(0, 3000), deep: { a: [1.5, null, true, 'text\n'] } });
	return sum + JSON.stringify(JSON.parse(json), (key, value) => value, 1).length + Object.entries(counts).length;
});

// Trees that come and go, linked lists, cycles for the collector.
part(() => {
	const tree = (depth) => depth ? { left: tree(depth - 1), right: tree(depth - 1) } : { left: null, right: null };
	const size = (node) => node.left ? 1 + size(node.left) + size(node.right) : 1;
	let sum = 0;
	for (let i = 0; i < 10; i++) {
		const node = tree(10);
		node.self = node;
		sum += size(node);
	}
	return sum;
});

// Generators, iterators, exceptions, labels and switches.
part(() => {
	function* numbers(n) { for (let i = 0; i < n; i++) yield i; }
	let sum = 0;
	for (const n of numbers(8000)) {
		try {
			if (n % 50 === 0)
				throw new RangeError('no ' + n);
			switch (n % 6) {
			case 0: sum += 1; break;
			case 1: sum += n; break;
			case 5: continue;
			default: sum ^= n;
			}
		} catch (error) {
			sum += error.message.length;
		} finally {
			sum++;
		}
	}
	return sum;
});

// Large integers, dates, compiling.
part(() => {
	let power = 1n, sum = 0;
	for (let i = 1n; i < 120n; i++)
		power *= i;
	for (let i = 0; i < 60; i++)
		sum += new Function('a', 'b', `const f = (x) => { let y = x; for (let i = 0; i < 3; i++) y += a * i; return y }
			return { value: f(b) + ${i}, text: \`\${a} \${b}\` }`)(i, 2).value;
	return power.toString().length + sum + new Date(86400000 * 365.25 * 30).toISOString();
});

// Promises.
let steps = 0;
const walk = async (n) => { for (let i = 0; i < n; i++) steps += await i; return steps; };
Promise.all([walk(1500), walk(1500), ...Array.from({ length: 200 }, (_, i) => Promise.resolve(i).then((x) => { steps += x; }))])
	.then(() => { results.push(steps); globalThis.trained = results.join(' | '); });
