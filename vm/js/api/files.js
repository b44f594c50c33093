// SPDX-License-Identifier: MIT
//
// files.js - directories and the like, as node:fs/promises has them, and standard input.
//
// Called when it is first needed (later.js; primordials.js says what must not be used).
(function (host, parts) {
	'use strict';

	const { asyncIterator, list, arrayOf, put, Date, Promise, Uint8Array, promiseThen, stringIndexOf, stringSlice } = parts.primordials;
	const { late, optionsOf, TextDecoder } = parts;
	const { operate, operation, pathOf } = parts.files;

	// ---- Files and directories ----

	const KINDS = { __proto__: null, file: 'f', directory: 'd', link: 'l' };

	class Entry { // what stat() and readdir() tell of a file
		#kind;
		constructor(kind) {
			this.#kind = kind;
		}
		isFile() { return this.#kind === KINDS.file; }
		isDirectory() { return this.#kind === KINDS.directory; }
		isSymbolicLink() { return this.#kind === KINDS.link; }
	}
	put(Entry.prototype, parts.primordials.toStringTag, 'Entry', false);

	// [kind, dev, ino, mode, nlink, uid, gid, rdev, size, blksize, blocks, atimeMs, mtimeMs, ctimeMs]
	const FIELDS = ['dev', 'ino', 'mode', 'nlink', 'uid', 'gid', 'rdev', 'size', 'blksize', 'blocks', 'atimeMs', 'mtimeMs', 'ctimeMs'];
	function statsOf(data) {
		const entry = new Entry(data[0]);
		for (let i = 0; i < FIELDS.length; i++)
			put(entry, FIELDS[i], data[i + 1]);
		put(entry, 'atime', new Date(data[11]));
		put(entry, 'mtime', new Date(data[12]));
		put(entry, 'ctime', new Date(data[13]));
		return entry;
	}

	// [kind, name, kind, name ...]
	function entriesOf(data, path, typed) {
		const found = list();
		for (let i = 0; i < data.length; i += 2) {
			if (!typed) {
				found[found.length] = data[i + 1];
				continue;
			}
			const entry = new Entry(data[i]);
			put(entry, 'name', data[i + 1]);
			put(entry, 'parentPath', path);
			found[found.length] = entry;
		}
		return arrayOf(found);
	}

	// `once`: to do it again would not be the same.
	function begin(op, path, more) {
		const made = operation(op, path, false, more.flags ?? '');
		made.once = !!more.once;
		made.made = more.made;
		if (more.to !== undefined)
			made.data = made.to = more.to;
		return made;
	}

	const flag = (options, name, letter) => options[name] ? letter : '';
	const two = (op, once) => (from, to) => operate(() => begin(op, from, { __proto__: null, to: pathOf(to), once }));

	late.files = {
		__proto__: null,
		readdir: (path, options) => operate(() => {
			const typed = !!optionsOf(options, 'readdir').withFileTypes;
			return begin('readdir', path, { __proto__: null, made: (data) => entriesOf(data, path, typed) });
		}),
		stat: (path) => operate(() => begin('stat', path, { __proto__: null, made: statsOf })),
		lstat: (path) => operate(() => begin('lstat', path, { __proto__: null, made: statsOf })),
		mkdir: (path, options) => operate(() => {
			const flags = flag(optionsOf(options, 'mkdir'), 'recursive', 'r');
			return begin('mkdir', path, { __proto__: null, flags, once: flags === '' });
		}),
		rm: (path, options) => operate(() => {
			const read = optionsOf(options, 'rm');
			const flags = flag(read, 'recursive', 'r') + flag(read, 'force', 'f');
			return begin('rm', path, { __proto__: null, flags, once: !read.force });
		}),
		rename: two('rename', true),
		copyFile: two('copyfile', false),
		symlink: (target, path) => operate(() => begin('symlink', path, { __proto__: null, to: pathOf(target), once: true })),
		realpath: (path) => operate(() => begin('realpath', path, { __proto__: null })),
		readlink: (path) => operate(() => begin('readlink', path, { __proto__: null })),
	};

	// ---- Standard input ----

	let ended = false; // this process's
	let tail = Promise.resolve(); // reads come one after the other, as they were asked for
	const then = (promise, fulfilled, rejected) => {
		put(promise, 'constructor', undefined, false);
		return promiseThen(promise, fulfilled, rejected);
	};
	parts.inputAgain = () => { ended = false; };

	// The next bytes; undefined: the end.
	function readOnce() {
		if (ended)
			return undefined;
		return operate(() => {
			const made = operation('input', 'standard input', false, undefined);
			made.made = (bytes) => {
				ended = bytes === undefined;
				return bytes;
			};
			return made;
		});
	}

	function read() {
		const next = then(tail, readOnce, readOnce);
		tail = next;
		return next;
	}

	const step = (value) => ({ value, done: value === undefined });
	const iteratorOf = (next) => ({
		next,
		return(value) { return new Promise((resolve) => { resolve({ value, done: true }); }); },
		[asyncIterator]() { return this; },
	});

	// Lines that were read and not asked for yet stay for the next who asks for lines.
	const decoder = new TextDecoder();
	let rest = '';

	function nextLine() {
		const end = stringIndexOf(rest, '\n');
		if (end >= 0) {
			const line = stringSlice(rest, 0, end > 0 && rest[end - 1] === '\r' ? end - 1 : end);
			rest = stringSlice(rest, end + 1);
			return step(line);
		}
		return then(read(), (bytes) => {
			rest += parts.decode(decoder, bytes ?? new Uint8Array(0), bytes !== undefined);
			if (bytes !== undefined)
				return nextLine();
			const last = rest;
			rest = '';
			return step(last === '' ? undefined : last);
		});
	}

	function lines() {
		let before = Promise.resolve();
		return iteratorOf(() => {
			before = then(before, nextLine, nextLine);
			return before;
		});
	}

	function whole() {
		const pieces = list();
		const more = () => then(read(), (bytes) => {
			if (bytes === undefined)
				return parts.joined(pieces);
			pieces[pieces.length] = bytes;
			return more();
		});
		return more();
	}

	late.stdin = {
		__proto__: null,
		[asyncIterator]: () => iteratorOf(() => then(read(), step)),
		lines,
		bytes: whole,
		text: () => then(whole(), (bytes) => parts.decode(new TextDecoder(), bytes, false)),
	};
})
