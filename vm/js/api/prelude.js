// SPDX-License-Identifier: MIT
//
// prelude.js - what the host asks a program for, and the module "thaw": events, checkpoint promises, files, the environment.
//
// The last of the embedded sources that make a fresh VM (primordials.js says how, and what must not be used here). What it
// returns lives in the heap for ever: a restored program goes on with the prelude of the build that created it. So the numbers
// of `enter` below are a protocol that never changes its meaning, only grows (blob.c's BLOB_VERSION guards it).
//
// Everything a program waits for is kept in the heap and not in the host (due times, files being read, checkpoint promises):
// the host may be killed at any instant, and another process goes on from what the heap says.
(function (host, parts) {
	'use strict';

	const { apply, defineProperty, freeze, list, put, arrayOf, has, whenSettled, Error, TypeError, RangeError, Promise, Map,
		Number, String, isInteger, stringIndexOf, mapGet, mapSet, mapDelete, mapForEach } = parts.primordials;
	const { inspect, describe, checkCallback, bytesOver, copyOf, nextDue, runOne, statement, report,
		complete, timers } = parts;

	parts.define('console', parts.console);

	// ---- Events ----

	const listeners = { __proto__: null, checkpoint: list(), restore: list(), SIGINT: list(), SIGTERM: list(), SIGHUP: list(),
			    SIGQUIT: list(), SIGUSR1: list(), SIGWINCH: list(), SIGCONT: list() };

	function listenersOf(event) {
		if (typeof event !== 'string' || !(event in listeners))
			throw new TypeError('there is no event \'' + String(event) + '\': there are \'checkpoint\', \'restore\', ' +
				'\'SIGINT\', \'SIGTERM\', \'SIGHUP\', \'SIGQUIT\', \'SIGUSR1\', \'SIGWINCH\' and \'SIGCONT\'');
		return listeners[event];
	}

	// The host asks for nothing to be run after a checkpoint while nobody listens: an idle program stays clean.
	function listening() {
		host.listening(listeners.checkpoint.length, listeners.restore.length);
	}

	// A signal that has a listener does nothing else. The process has to be told, each new one again.
	function hearing(event) {
		if (event !== 'checkpoint' && event !== 'restore')
			host.hear(event, listeners[event].length > 0);
	}

	function hearAgain() {
		for (const event in listeners)
			if (listeners[event].length > 0)
				hearing(event);
	}

	// Lists are replaced, not changed: one that is being told goes on to its end. Each entry is {listener, owner}: the module
	// whose code has registered it.
	function on(event, listener) {
		checkCallback(listener);
		const before = listenersOf(event);
		const after = list();
		for (let i = 0; i < before.length; i++)
			after[i] = before[i];
		after[after.length] = { __proto__: null, listener, owner: host.owner() };
		listeners[event] = after;
		listening();
		hearing(event);
	}

	function off(event, listener) {
		const before = listenersOf(event);
		const after = list();
		let last = before.length - 1;
		while (last >= 0 && before[last].listener !== listener)
			last--;
		for (let i = 0; i < before.length; i++)
			if (i !== last)
				after[after.length] = before[i];
		listeners[event] = after;
		listening();
		hearing(event);
	}

	function emit(event, info) {
		const all = listeners[event];
		for (let i = 0; i < all.length; i++)
			apply(all[i].listener, undefined, [info]);
	}

	// Those of a module that goes (hot.js); `end`: off with them. How many.
	function listenersBy(owner, end) {
		let count = 0;
		for (const event in listeners) {
			const before = listeners[event];
			const after = list();
			for (let i = 0; i < before.length; i++)
				if (before[i].owner !== owner)
					after[after.length] = before[i];
			count += before.length - after.length;
			if (end && after.length < before.length) {
				listeners[event] = after;
				hearing(event);
			}
		}
		if (end)
			listening();
		return count;
	}

	parts.countListeners = (owner) => listenersBy(owner, false);
	parts.endListeners = (owner) => listenersBy(owner, true);

	// ---- Checkpoints ----

	let waiterCount = 0;
	let firstWaiter = 1; // the lowest number that is not settled
	const waiters = new Map(); // number -> {resolve, reject, name}: checkpoint() promises that are not settled

	function nameOf(options) {
		if (options === undefined)
			return undefined;
		if (typeof options !== 'object' || options === null)
			throw new TypeError('checkpoint() takes an object such as { name: \'before-migration\' }. Received ' + inspect(options));
		const { name } = options;
		if (name !== undefined && (typeof name !== 'string' || !host.nameable(name)))
			throw new TypeError('name must be 1 to 63 of A-Z a-z 0-9 . _ / : @ + -, must not begin with \'-\', ' +
				'and must not be digits alone. Received ' + inspect(name));
		return name;
	}

	function checkpoint(options) {
		return new Promise((resolve, reject) => {
			const name = nameOf(options);
			if (!host.checkpoint(waiterCount + 1, name)) {
				reject(new Error('there is no image: run the program with thaw run, or with --image'));
				return;
			}
			mapSet(waiters, ++waiterCount, { __proto__: null, resolve, reject, name });
		});
	}

	// What those who asked for a name are told has it.
	function withName({ generation, ...rest }, name) {
		return name === undefined ? { generation, ...rest } : { generation, name, ...rest };
	}

	function settle(last, act) {
		while (firstWaiter <= waiterCount && firstWaiter <= last) {
			const waiter = mapGet(waiters, firstWaiter);
			mapDelete(waiters, firstWaiter++);
			act(waiter);
		}
	}

	// The same when a turn runs again after a crash, since the number is of this heap; what was rolled back or cloned has another
	// branch.
	let effectCount = 0;
	const effectId = () => host.branch() + '-' + String(++effectCount);

	function durable(last, info) {
		const names = list();
		settle(last, (waiter) => {
			if (waiter.name !== undefined && !has(names, waiter.name))
				names[names.length] = waiter.name;
			waiter.resolve(withName(info, waiter.name));
		});
		if (info.pages > 0 || info.bytes > 0)
			emit('checkpoint', { ...info, names: arrayOf(names) });
	}

	function failed(last, text, code) {
		settle(last, (waiter) => {
			const error = new Error(text);
			put(error, 'code', code);
			waiter.reject(error);
		});
	}

	// The live bindings of the module "thaw": renewed at the start of a turn, never for their own sake.
	let current = { __proto__: null, generation: 0, restored: 0 };
	const args = [];
	let renew;

	function sync(generation, restored) {
		current = { __proto__: null, generation, restored };
		renew?.();
	}

	function renewArguments() {
		const values = host.args();
		defineProperty(args, 'length', { __proto__: null, value: 0 });
		for (let i = 0; i < values.length; i++)
			put(args, i, values[i]);
	}

	function bind(update) {
		const bound = host.bound();
		current = { __proto__: null, generation: bound[0], restored: bound[1] };
		renewArguments();
		renew = update;
		update();
	}

	// The first turn of a restored program; before it, at most the rest of the turn that it was stopped in. `own` has the numbers
	// of the first checkpoint and the first file operation that this rest has asked for in this process, or 0.
	function restored(info, origin, own) {
		if (renew !== undefined)
			renewArguments();
		hearAgain();
		parts.inputAgain?.();
		sync(info.generation, info.restores);
		// Whoever waited for a checkpoint when this heap was captured waited for this generation: it is durable, we are it. Unless
		// it came in the turn that went on after the one they waited for: then that one has their names.
		const { names, ...made } = origin;
		settle(own.waiter > 0 ? own.waiter - 1 : waiterCount, (waiter) => {
			const name = has(names, waiter.name) ? waiter.name : undefined;
			waiter.resolve({ ...withName(made, name), restored: true });
		});
		mapForEach(operations, (operation, number) => {
			if (own.operation === 0 || number < own.operation)
				resume(number, operation);
		});
		emit('restore', info);
	}

	// ---- Files ----

	let operationCount = 0;
	const operations = new Map(); // number -> what was asked, until the host answers

	function bytesOf(data) {
		if (typeof data === 'string')
			return data;
		const bytes = bytesOver(data);
		if (bytes === undefined)
			throw new TypeError('data must be a string, a typed array, a DataView or an ArrayBuffer. Received ' + inspect(data));
		return copyOf(bytes);
	}

	function pathOf(path) {
		if (typeof path !== 'string' || path === '' || stringIndexOf(path, '\0') !== -1)
			throw new TypeError('path must be a string without null bytes. Received ' + inspect(path));
		return path;
	}

	function encodingOf(options) {
		const encoding = typeof options === 'object' && options !== null ? options.encoding : options;
		if (encoding === undefined || encoding === null)
			return false;
		if (encoding !== 'utf8' && encoding !== 'utf-8')
			throw new TypeError('encoding must be \'utf8\'. Received ' + inspect(encoding));
		return true;
	}

	// What these throw rejects the promise.
	const operate = (begin) => new Promise((resolve, reject) => {
		const operation = begin();
		operation.resolve = resolve;
		operation.reject = reject;
		const number = ++operationCount;
		mapSet(operations, number, operation);
		request(number, operation);
	});
	// One that cannot begin is none.
	function request(number, operation) {
		try {
			host.file(number, operation.op, operation.path, operation.text, operation.data);
		} catch (error) {
			mapDelete(operations, number);
			operation.reject(error);
		}
	}
	const operation = (op, path, text, data) =>
		({ __proto__: null, op, path: pathOf(path), text, data, resolve: undefined, reject: undefined });
	const readFile = (path, options) => operate(() => operation('read', path, encodingOf(options), undefined));
	const writeFile = (path, data) => operate(() => operation('write', path, false, bytesOf(data)));
	const appendFile = (path, data) => operate(() => operation('append', path, false, bytesOf(data)));

	function fileError(code, errno, message, syscall, path, to = undefined) {
		const error = new Error(code + ': ' + message + ', ' + syscall + ' \'' + path + '\'' + (to === undefined ? '' : ' -> \'' + to + '\''));
		put(error, 'errno', errno);
		put(error, 'code', code);
		put(error, 'syscall', syscall);
		put(error, 'path', path);
		return error;
	}

	function fileDone(number, failure, data) {
		const operation = mapGet(operations, number);
		if (operation === undefined)
			return;
		mapDelete(operations, number);
		if (failure !== undefined)
			operation.reject(fileError(failure.code, failure.errno, failure.message, failure.syscall, operation.path, operation.to));
		else
			operation.resolve(operation.made === undefined ? data : operation.made(data));
	}

	// In another process: reading and replacing can be done again, appending twice would be wrong.
	function resume(number, operation) {
		if (operation.op !== 'append' && !operation.once) {
			request(number, operation);
			return;
		}
		mapDelete(operations, number);
		if (operation.once)
			operation.reject(fileError('EINTERRUPTED', 0,
				'the process ended meanwhile: it may or may not have happened', operation.op, operation.path, operation.to));
		else
			operation.reject(fileError('EINTERRUPTED', 0,
				'the process ended while the data was being appended: it may or may not be in the file', 'write',
				operation.path));
	}

	// Those that most programs do not need (files.js).
	parts.files = { __proto__: null, operate, operation, pathOf, isReading: encodingOf };
	const files = { __proto__: null };
	for (const name of ['readdir', 'stat', 'lstat', 'mkdir', 'rm', 'rename', 'copyFile', 'realpath', 'readlink', 'symlink'])
		files[name] = { [name](...values) {
			parts.need('files');
			return apply(parts.late.files[name], undefined, values);
		} }[name];
	const stdin = { __proto__: null };
	for (const name of ['text', 'bytes', 'lines', parts.primordials.asyncIterator])
		stdin[name] = (...values) => {
			parts.need('files');
			return apply(parts.late.stdin[name], stdin, values);
		};

	// ---- The environment: asked for each time, so that it is this process's, and its secrets are not in the image ----

	const env = new Proxy({}, {
		__proto__: null,
		get: (target, name) => (typeof name === 'string' ? host.environment(name) : undefined) ?? target[name],
		has: (target, name) => typeof name === 'string' && host.environment(name) !== undefined,
		ownKeys: () => host.environment_names(),
		getOwnPropertyDescriptor(target, name) {
			const value = typeof name === 'string' ? host.environment(name) : undefined;
			return value === undefined ? undefined : { __proto__: null, value, writable: true, enumerable: true,
								   configurable: true };
		},
		defineProperty() { return false; }, // so that assigning throws
		deleteProperty() { return false; },
		preventExtensions() { return false; },
	});

	function exit(code = 0) {
		code = Number(code);
		host.exit(isInteger(code) ? code & 255 : 1);
		for (;;); // the host ends the script at the next poll, with an error that nobody can catch
	}

	// ---- The main module, rejections, and the door for the host ----

	let main = 'none'; // 'pending' while a top-level await of the main module waits
	let mainCount = 0; // an upgrade may replace it

	function watchMain(promise) {
		const number = ++mainCount;
		const become = (state) => { main = number === mainCount ? state : main; };
		main = 'pending';
		whenSettled(promise, () => become('done'), (error) => {
			become('failed');
			host.uncaught(error);
		});
	}

	// Reasons of the promises that were rejected in this turn and that nobody handled until its end.
	function unhandled(rejected, handled) {
		const reasons = list();
		for (let i = 0; i < rejected.length; i++)
			if (!has(handled, rejected[i][0]) && !parts.heard?.rejected(rejected[i][0], rejected[i][1]))
				reasons[reasons.length] = rejected[i][1];
		for (let i = 0; parts.heard !== undefined && i < handled.length; i++)
			parts.heard.handled(handled[i]);
		return reasons;
	}

	const ignore = () => {};

	const COLOURS = { __proto__: null, depth: undefined, colors: true };

	function enter(operation, a, b, c) {
		switch (operation) {
		case 0: return nextDue();
		case 1: return runOne(a);
		case 2: return durable(a, b);
		case 3: return failed(a, b, c);
		case 4: return restored(a, b, c);
		case 5: return fileDone(a, b, c);
		case 6: return watchMain(a);
		case 7: return whenSettled(a, ignore, ignore); // the host looks at this one itself
		case 8: return inspect(a, b === true ? COLOURS : undefined);
		case 9: return describe(a);
		case 10: return unhandled(a, b);
		case 11: return sync(a, b);
		case 12: return main;
		case 13: return parts.heard === undefined ? false : parts.heard.told(a);
		case 14: return emit(a, a);
		case 15: return parts.beginTime();
		case 16: return parts.upgrade(a, b, c);
		case 20: return statement(a);
		case 21: return report(a);
		case 22: return complete(a);
		case 23: return timers();
		default: throw new RangeError('the host asked for operation ' + operation);
		}
	}

	// What thaw.js exports; module.c hands it over as import.meta.internals.
	const internals = {
		enter, inspect, checkpoint, effectId, on, off, readFile, writeFile, appendFile, env, args, exit, bind, freeze,
		files: freeze(files), stdin: freeze(stdin),
		current: () => current,
		hot: parts.hot,
		stats: () => host.stats(),
		gc: () => host.collect(),
	};
	defineProperty(globalThis, Symbol.for('thaw.internals'), { __proto__: null, value: freeze(internals) });
	return enter;
})
