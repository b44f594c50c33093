// SPDX-License-Identifier: MIT
// Strings and regular expressions: a made-up server log is written line by line, searched, taken apart and rewritten.
import { generator, measure } from './measure.js';

const METHODS = ['GET', 'POST', 'PUT', 'DELETE'];
const WORDS = ['account', 'basket', 'checkout', 'delivery', 'export', 'feedback', 'gallery', 'history'];

function writeLog(lines) {
	const random = generator(42);
	let log = '';
	for (let i = 0; i < lines; i++) {
		const path = Array.from({ length: 1 + random(3) }, () => WORDS[random(8)]).join('/');
		log += `10.0.${random(256)}.${random(256)} - [2024-0${1 + random(9)}-1${random(10)}] ` +
			`"${METHODS[random(4)]} /${path}?id=${random(100000)}" ${200 + random(4) * 100} ${random(50000)}\n`;
	}
	return log;
}

function work() {
	const log = writeLog(50000);
	const line = /^(\d+\.\d+\.\d+\.\d+) - \[([^\]]+)\] "([A-Z]+) (\/[^"?]*)\?id=(\d+)" (\d{3}) (\d+)$/gm;
	let bytes = 0, failures = 0;
	const paths = new Map();
	for (const [, , , method, path, , status, size] of log.matchAll(line)) {
		bytes += Number(size);
		failures += status.startsWith('5') ? 1 : 0;
		const key = `${method.toLowerCase()} ${path}`;
		paths.set(key, (paths.get(key) ?? 0) + 1);
	}
	const hidden = log.replace(/\b(\d+)\.(\d+)\.\d+\.\d+\b/g, '$1.$2.x.x').replace(/id=\d+/g, (id) => `id=${'#'.repeat(id.length - 3)}`);
	let hash = 0;
	for (let i = 0; i < hidden.length; i += 3)
		hash = (Math.imul(hash, 31) + hidden.charCodeAt(i)) | 0;
	const words = hidden.split(/[^a-z]+/).filter((word) => word.length > 6 && !/(.)\1/.test(word));
	return `${bytes} ${failures} ${paths.size} ${hash} ${words.length} ${[...new Set(words)].sort().join(' ')}`;
}

await measure(work, '1246678078 12556 1680 1565034427 37607 checkout delivery history');
