// SPDX-License-Identifier: MIT
//
// prelude.js - what a fresh VM gets before any program: timers, checkpoint promises, files, and the globals that the engine lacks.
//
// One function expression, called once with the host functions and console.js's result. What it makes lives in the heap for ever:
// a restored program goes on with the prelude of the build that created it. So the numbers of `enter` below are a protocol that
// never changes its meaning, only grows (blob.c's BLOB_VERSION guards it).
//
// Everything a program waits for is kept here and not in the host (due times, files being read, checkpoint promises): the
// host may be killed at any instant, and another process goes on from what the heap says.
(function (host, output) {
	'use strict';

	const { console, inspect, describe } = output;
	const define = (name, value) => Object.defineProperty(globalThis, name,
		{ value, writable: true, enumerable: false, configurable: true });
	const runCallback = Reflect.apply;

	// ---- Timers: a binary heap by due time (milliseconds of the program's clock), then by age ----
	//
	// The clock follows the wall clock from process to process, and the monotonic one within a process (loop.c).

	const timers = []; // a binary heap; timer.index is its place, -1: not in it
	let timerSequence = 0;
	let timerReferences = 0; // how many active timers and immediates keep the program alive
	const timersById = new Map(); // only those whose number was asked for
	const immediates = new Set(); // in order; a Set, so that clearing one is cheap
	let batch = 0; // immediates left in this round: those queued meanwhile wait for the next
	let limit = 0; // timers due until then run in this round

	function earlier(a, b) {
		return a.due !== b.due ? a.due < b.due : a.sequence < b.sequence;
	}

	function siftUp(timer, index) {
		while (index > 0) {
			const up = (index - 1) >> 1;
			if (!earlier(timer, timers[up]))
				break;
			timers[index] = timers[up];
			timers[index].index = index;
			index = up;
		}
		timers[index] = timer;
		timer.index = index;
	}

	function siftDown(timer, index) {
		for (;;) {
			let down = 2 * index + 1;
			if (down >= timers.length)
				break;
			if (down + 1 < timers.length && earlier(timers[down + 1], timers[down]))
				down++;
			if (!earlier(timers[down], timer))
				break;
			timers[index] = timers[down];
			timers[index].index = index;
			index = down;
		}
		timers[index] = timer;
		timer.index = index;
	}

	function insertTimer(timer, due) {
		timer.due = due;
		timer.sequence = timerSequence++;
		if (timer.referenced)
			timerReferences++;
		siftUp(timer, timers.length);
	}

	function removeTimer(timer) {
		const index = timer.index;
		if (index < 0)
			return;
		timer.index = -1;
		if (timer.referenced)
			timerReferences--;
		const last = timers.pop();
		if (last === timer)
			return;
		if (index > 0 && earlier(last, timers[(index - 1) >> 1]))
			siftUp(last, index);
		else
			siftDown(last, index);
	}

	// What programs hold: the state is out of their reach, and of inspect()'s.
	let timerOf, immediateOf;

	class Timeout {
		#timer;
		constructor(timer) {
			this.#timer = timer;
		}
		static {
			timerOf = (handle) => #timer in handle ? handle.#timer : undefined;
		}
		ref() {
			return setReferenced(this, this.#timer, true);
		}
		unref() {
			return setReferenced(this, this.#timer, false);
		}
		hasRef() {
			return this.#timer.referenced;
		}
		refresh() {
			const timer = this.#timer;
			if (timer.index >= 0 || timer.running) {
				removeTimer(timer);
				insertTimer(timer, host.clock() + timer.delay);
			}
			return this;
		}
		close() {
			clear(this);
			return this;
		}
		[Symbol.toPrimitive]() {
			const timer = this.#timer;
			if (timer.id === 0) {
				timer.id = ++timerSequence;
				timersById.set(timer.id, this);
			}
			return timer.id;
		}
		[Symbol.dispose]() {
			clear(this);
		}
	}

	class Immediate {
		#timer;
		constructor(timer) {
			this.#timer = timer;
		}
		static {
			immediateOf = (handle) => #timer in handle ? handle.#timer : undefined;
		}
		ref() {
			return setReferenced(this, this.#timer, true);
		}
		unref() {
			return setReferenced(this, this.#timer, false);
		}
		hasRef() {
			return this.#timer.referenced;
		}
	}

	function setReferenced(handle, timer, referenced) {
		if (timer.referenced !== referenced) {
			timer.referenced = referenced;
			if (timer.index >= 0 || immediates.has(timer))
				timerReferences += referenced ? 1 : -1;
		}
		return handle;
	}

	function check(callback) {
		if (typeof callback !== 'function')
			throw new TypeError(`The "callback" argument must be of type function. Received ${inspect(callback)}`);
	}

	function start(callback, delay, values, repeat) {
		check(callback);
		delay = Number(delay);
		// Longer than node's 2^31 ms is allowed: here a timer can be waited for through any number of restarts.
		if (!(delay >= 1))
			delay = 1;
		const timer = { index: -1, due: 0, sequence: 0, referenced: true, id: 0, running: false, delay, repeat,
				callback, values, handle: undefined };
		timer.handle = new Timeout(timer);
		insertTimer(timer, host.clock() + delay);
		return timer.handle;
	}

	function clear(handle) {
		if (typeof handle === 'number' || typeof handle === 'string')
			handle = timersById.get(Number(handle));
		if (typeof handle !== 'object' || handle === null)
			return;
		const immediate = immediateOf(handle);
		if (immediate !== undefined && immediates.delete(immediate) && immediate.referenced)
			timerReferences--;
		const timer = timerOf(handle);
		if (timer !== undefined) {
			removeTimer(timer);
			forget(timer);
		}
	}

	function forget(timer) {
		timer.running = false;
		if (timer.id !== 0)
			timersById.delete(timer.id);
	}

	function runTimer(timer, now) {
		removeTimer(timer);
		if (timer.repeat) {
			// Keeps its cadence; after a stop, however long, it fires once and goes on from there.
			const next = timer.due + timer.delay;
			insertTimer(timer, next > now ? next : now + timer.delay);
			runCallback(timer.callback, timer.handle, timer.values);
			return;
		}
		timer.running = true; // refresh() inside the callback is allowed
		try {
			runCallback(timer.callback, timer.handle, timer.values);
		} finally {
			timer.running = false;
			if (timer.index < 0)
				forget(timer);
		}
	}

	function runImmediate() {
		batch--;
		for (const timer of immediates) {
			immediates.delete(timer);
			if (timer.referenced)
				timerReferences--;
			runCallback(timer.callback, timer.handle, timer.values);
			return true;
		}
		batch = 0;
		return false;
	}

	// One turn's worth: one timer that is due, or one immediate. False: there was nothing to run.
	function runOne(now) {
		if (batch > 0 && runImmediate())
			return true;
		if (timers.length > 0 && timers[0].due <= limit) {
			runTimer(timers[0], now);
			return true;
		}
		limit = now;
		batch = immediates.size;
		if (batch > 0)
			return runImmediate();
		if (timers.length > 0 && timers[0].due <= now) {
			runTimer(timers[0], now);
			return true;
		}
		return false;
	}

	// When the host has to call again: 0 never, else the due time, negative if it keeps nothing alive.
	function nextDue() {
		if (immediates.size > 0)
			return timerReferences > 0 ? 1 : -1;
		if (timers.length === 0)
			return 0;
		const due = Math.max(timers[0].due, 1);
		return timerReferences > 0 ? due : -due;
	}

	define('setTimeout', function setTimeout(callback, delay, ...values) {
		return start(callback, delay, values, false);
	});
	define('setInterval', function setInterval(callback, delay, ...values) {
		return start(callback, delay, values, true);
	});
	define('setImmediate', function setImmediate(callback, ...values) {
		check(callback);
		const timer = { index: -1, referenced: true, callback, values, handle: undefined };
		timer.handle = new Immediate(timer);
		immediates.add(timer);
		timerReferences++;
		return timer.handle;
	});
	define('clearTimeout', function clearTimeout(handle) { clear(handle); });
	define('clearInterval', function clearInterval(handle) { clear(handle); });
	define('clearImmediate', function clearImmediate(handle) { clear(handle); });

	// ---- Events ----

	const listeners = { checkpoint: [], restore: [] };

	function listenersOf(event) {
		if (!Object.hasOwn(listeners, event))
			throw new TypeError(`there is no event '${String(event)}': there are 'checkpoint' and 'restore'`);
		return listeners[event];
	}

	// The host asks for nothing to be run after a checkpoint while nobody listens: an idle program stays clean.
	function listening() {
		host.listening(listeners.checkpoint.length, listeners.restore.length);
	}

	function on(event, listener) {
		check(listener);
		listenersOf(event).push(listener);
		listening();
	}

	function off(event, listener) {
		const list = listenersOf(event);
		const index = list.lastIndexOf(listener);
		if (index >= 0)
			list.splice(index, 1);
		listening();
	}

	function emit(event, info) {
		for (const listener of listeners[event].slice())
			runCallback(listener, undefined, [info]);
	}

	// ---- Checkpoints ----

	let waiterCount = 0;
	const waiters = new Map(); // number -> {resolve, reject, name}: checkpoint() promises that are not settled

	function nameOf(options) {
		if (options === undefined)
			return undefined;
		if (typeof options !== 'object' || options === null)
			throw new TypeError(`checkpoint() takes an object such as { name: 'before-migration' }. Received ${inspect(options)}`);
		const { name } = options;
		if (name !== undefined && (typeof name !== 'string' || !host.nameable(name)))
			throw new TypeError('name must be 1 to 63 of A-Z a-z 0-9 . _ / : @ + -, must not begin with \'-\', ' +
				`and must not be digits alone. Received ${inspect(name)}`);
		return name;
	}

	function checkpoint(options) {
		return new Promise((resolve, reject) => {
			const name = nameOf(options);
			if (!host.checkpoint(waiterCount + 1, name)) {
				reject(new Error('there is no image: run the program with thaw run, or with --image'));
				return;
			}
			waiters.set(++waiterCount, { resolve, reject, name });
		});
	}

	// What those who asked for a name are told has it.
	function withName({ generation, ...rest }, name) {
		return name === undefined ? { generation, ...rest } : { generation, name, ...rest };
	}

	function settle(last, act) {
		for (const [number, waiter] of waiters) {
			if (number > last)
				break;
			waiters.delete(number);
			act(waiter);
		}
	}

	function durable(last, info) {
		const names = new Set();
		settle(last, (waiter) => {
			if (waiter.name !== undefined)
				names.add(waiter.name);
			waiter.resolve(withName(info, waiter.name));
		});
		if (info.pages > 0 || info.bytes > 0)
			emit('checkpoint', { ...info, names: [...names] });
	}

	// The live bindings of the module "thaw": renewed at the start of a turn, never for their own sake.
	let current = { generation: 0, restored: 0 };
	let args = [];
	let renew;

	function sync(generation, restored) {
		current = { generation, restored };
		renew?.();
	}

	function bind(update) {
		[current.generation, current.restored] = host.bound();
		args.splice(0, args.length, ...host.args());
		renew = update;
		update();
	}

	// The first turn of a restored program; before it, at most the rest of the turn that it was stopped in. `own` has the numbers
	// of the first checkpoint and the first file operation that this rest has asked for in this process, or 0.
	function restored(info, origin, own) {
		if (renew !== undefined)
			args.splice(0, args.length, ...host.args());
		sync(info.generation, info.restores);
		// Whoever waited for a checkpoint when this heap was captured waited for this generation: it is durable, we are it. Unless
		// it came in the turn that went on after the one they waited for: then that one has their names.
		const { names, ...made } = origin;
		settle(own.waiter > 0 ? own.waiter - 1 : Infinity, (waiter) =>
			waiter.resolve({ ...withName(made, names.includes(waiter.name) ? waiter.name : undefined), restored: true }));
		for (const [number, operation] of operations) {
			if (own.operation === 0 || number < own.operation)
				resume(number, operation);
		}
		emit('restore', info);
	}

	// ---- Files ----

	let operationCount = 0;
	const operations = new Map(); // number -> what was asked, until the host answers

	function bytesOf(data) {
		if (typeof data === 'string')
			return data;
		if (ArrayBuffer.isView(data))
			return new Uint8Array(data.buffer, data.byteOffset, data.byteLength).slice();
		if (data instanceof ArrayBuffer || data instanceof SharedArrayBuffer)
			return new Uint8Array(data).slice();
		throw new TypeError(`data must be a string, a typed array, a DataView or an ArrayBuffer. Received ${inspect(data)}`);
	}

	function pathOf(path) {
		if (typeof path !== 'string' || path === '' || path.includes('\0'))
			throw new TypeError(`path must be a string without null bytes. Received ${inspect(path)}`);
		return path;
	}

	function encodingOf(options) {
		const encoding = typeof options === 'object' && options !== null ? options.encoding : options;
		if (encoding === undefined || encoding === null)
			return false;
		if (encoding !== 'utf8' && encoding !== 'utf-8')
			throw new TypeError(`encoding must be 'utf8'. Received ${inspect(encoding)}`);
		return true;
	}

	function operate(op, path, text, data) {
		return new Promise((resolve, reject) => {
			const operation = { op, path, text, data, resolve, reject };
			const number = ++operationCount;
			operations.set(number, operation);
			host.file(number, op, path, text, data);
		});
	}

	function fileError(code, errno, message, syscall, path) {
		const error = new Error(`${code}: ${message}, ${syscall} '${path}'`);
		return Object.assign(error, { errno, code, syscall, path });
	}

	function fileDone(number, failure, data) {
		const operation = operations.get(number);
		if (operation === undefined)
			return;
		operations.delete(number);
		if (failure !== undefined)
			operation.reject(fileError(failure.code, failure.errno, failure.message, failure.syscall, operation.path));
		else
			operation.resolve(data);
	}

	// In another process: reading and replacing can be done again, appending twice would be wrong.
	function resume(number, operation) {
		if (operation.op !== 'append') {
			host.file(number, operation.op, operation.path, operation.text, operation.data);
			return;
		}
		operations.delete(number);
		operation.reject(fileError('EINTERRUPTED', 0,
			'the process ended while the data was being appended: it may or may not be in the file', 'write',
			operation.path));
	}

	const readFile = async (path, options) => operate('read', pathOf(path), encodingOf(options), undefined);
	const writeFile = async (path, data) => operate('write', pathOf(path), false, bytesOf(data));
	const appendFile = async (path, data) => operate('append', pathOf(path), false, bytesOf(data));

	// ---- The environment: asked for each time, so that it is this process's, and its secrets are not in the image ----

	const env = new Proxy({}, {
		get: (target, name) => typeof name === 'string' ? host.environment(name) ?? target[name] : target[name],
		has: (target, name) => typeof name === 'string' && host.environment(name) !== undefined,
		ownKeys: () => host.environment_names(),
		getOwnPropertyDescriptor(target, name) {
			const value = typeof name === 'string' ? host.environment(name) : undefined;
			return value === undefined ? undefined : { value, writable: true, enumerable: true, configurable: true };
		},
		defineProperty() { return false; }, // so that assigning throws
		deleteProperty() { return false; },
		preventExtensions() { return false; },
	});

	function exit(code = 0) {
		code = Number(code);
		host.exit(Number.isInteger(code) ? code & 255 : 1);
		for (;;); // the host ends the script at the next poll, with an error that nobody can catch
	}

	// ---- Globals that the engine lacks ----

	define('console', console);

	// The program's clock never goes back, not even from one process to the next; the time between them counts.
	const timeOrigin = host.clock();
	define('performance', Object.defineProperty({
		now() { return host.clock() - timeOrigin; },
		timeOrigin,
		toJSON() { return { timeOrigin }; },
	}, Symbol.toStringTag, { value: 'Performance', configurable: true }));

	define('TextEncoder', class TextEncoder {
		get encoding() {
			return 'utf-8';
		}
		encode(text = '') {
			return host.encode(`${text}`);
		}
		encodeInto(text, target) {
			let read = 0;
			let written = 0;
			for (const character of `${text}`) {
				const code = character.codePointAt(0);
				const size = code < 0x80 ? 1 : code < 0x800 ? 2 : code < 0x10000 ? 3 : 4;
				if (written + size > target.length)
					break;
				target.set(host.encode(character), written);
				read += character.length;
				written += size;
			}
			return { read, written };
		}
	});

	define('TextDecoder', class TextDecoder {
		#fatal;
		#keepMark;
		#rest = new Uint8Array(0);
		#started = false;
		constructor(label = 'utf-8', options = {}) {
			const name = `${label}`.trim().toLowerCase();
			if (name !== 'utf-8' && name !== 'utf8' && name !== 'unicode-1-1-utf-8')
				throw new RangeError(`The encoding '${label}' is not supported: there is utf-8`);
			this.#fatal = Boolean(options?.fatal);
			this.#keepMark = Boolean(options?.ignoreBOM);
		}
		get encoding() {
			return 'utf-8';
		}
		get fatal() {
			return this.#fatal;
		}
		get ignoreBOM() {
			return this.#keepMark;
		}
		decode(data, options = {}) {
			let bytes = data === undefined ? new Uint8Array(0) : bytesOf(data);
			if (typeof bytes === 'string')
				throw new TypeError('decode() takes an ArrayBuffer or a view of one');
			if (this.#rest.length > 0) {
				const joined = new Uint8Array(this.#rest.length + bytes.length);
				joined.set(this.#rest);
				joined.set(bytes, this.#rest.length);
				bytes = joined;
				this.#rest = new Uint8Array(0);
			}
			if (options?.stream) {
				const whole = wholeCharacters(bytes);
				this.#rest = bytes.slice(whole);
				bytes = bytes.subarray(0, whole);
			}
			const text = host.decode(bytes, this.#fatal);
			const marked = !this.#started && !this.#keepMark && text.charCodeAt(0) === 0xfeff;
			this.#started = Boolean(options?.stream) && (this.#started || text.length > 0);
			return marked ? text.slice(1) : text;
		}
	});

	// How many of these bytes are not the beginning of a character whose end may yet come.
	function wholeCharacters(bytes) {
		for (let back = 1; back <= 3 && back <= bytes.length; back++) {
			const byte = bytes[bytes.length - back];
			if (byte < 0x80)
				break;
			if (byte >= 0xc0) {
				const size = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
				return size > back ? bytes.length - back : bytes.length;
			}
		}
		return bytes.length;
	}

	const integerArrays = [Int8Array, Uint8Array, Uint8ClampedArray, Int16Array, Uint16Array, Int32Array, Uint32Array,
		BigInt64Array, BigUint64Array];
	define('crypto', Object.defineProperty({
		getRandomValues(array) {
			if (!integerArrays.some((type) => array instanceof type))
				throw new TypeError('getRandomValues() takes a typed array of integers');
			if (array.byteLength > 65536)
				throw new DOMException('getRandomValues() gives at most 65536 bytes at a time', 'QuotaExceededError');
			new Uint8Array(array.buffer, array.byteOffset, array.byteLength).set(host.random(array.byteLength));
			return array;
		},
		randomUUID() {
			const bytes = host.random(16);
			bytes[6] = (bytes[6] & 0x0f) | 0x40;
			bytes[8] = (bytes[8] & 0x3f) | 0x80;
			return bytes.toHex().replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-');
		},
	}, Symbol.toStringTag, { value: 'Crypto', configurable: true }));

	// ---- structuredClone ----

	const typedArrayName = Object.getOwnPropertyDescriptor(Object.getPrototypeOf(Uint8Array.prototype), Symbol.toStringTag).get;
	const errorTypes = { Error, EvalError, RangeError, ReferenceError, SyntaxError, TypeError, URIError };

	function cannotClone(value) {
		throw new DOMException(`${inspect(value, { depth: 0 })} could not be cloned.`, 'DataCloneError');
	}

	function cloneError(value, seen) {
		const Type = Object.hasOwn(errorTypes, value.name) ? errorTypes[value.name] : Error;
		const made = new Type(value.message);
		seen.set(value, made);
		for (const key of ['stack', 'cause']) {
			if (Object.hasOwn(value, key))
				Object.defineProperty(made, key, { value: cloneValue(value[key], seen), writable: true, configurable: true });
		}
		return made;
	}

	function cloneSpecial(value, seen) {
		if (value instanceof Date)
			return new Date(value.getTime());
		if (value instanceof RegExp)
			return new RegExp(value.source, value.flags);
		if (value instanceof SharedArrayBuffer)
			return cannotClone(value);
		if (value instanceof ArrayBuffer)
			return value.slice(0);
		if (ArrayBuffer.isView(value)) {
			const buffer = cloneValue(value.buffer, seen);
			const Type = globalThis[typedArrayName.call(value) ?? 'DataView'];
			return new Type(buffer, value.byteOffset, value.length ?? value.byteLength);
		}
		if (value instanceof Number || value instanceof String || value instanceof Boolean || value instanceof BigInt)
			return Object(value.valueOf());
		return undefined;
	}

	function cloneValue(value, seen) {
		if (typeof value === 'function' || typeof value === 'symbol')
			return cannotClone(value);
		if (typeof value !== 'object' || value === null)
			return value;
		if (seen.has(value))
			return seen.get(value);
		const special = cloneSpecial(value, seen);
		if (special !== undefined) {
			seen.set(value, special);
			return special;
		}
		if (value instanceof Error)
			return cloneError(value, seen);
		for (const Type of [Promise, WeakMap, WeakSet, WeakRef, Symbol])
			if (value instanceof Type)
				return cannotClone(value);
		let copy;
		if (value instanceof Map) {
			seen.set(value, copy = new Map());
			for (const [key, item] of [...value])
				copy.set(cloneValue(key, seen), cloneValue(item, seen));
			return copy;
		}
		if (value instanceof Set) {
			seen.set(value, copy = new Set());
			for (const item of [...value])
				copy.add(cloneValue(item, seen));
			return copy;
		}
		copy = Array.isArray(value) ? new Array(value.length) : {};
		seen.set(value, copy);
		for (const key of Object.keys(value))
			Object.defineProperty(copy, key, { value: cloneValue(value[key], seen), writable: true, enumerable: true,
							   configurable: true });
		return copy;
	}

	define('structuredClone', function structuredClone(value, options) {
		const seen = new Map();
		const transfer = [...options?.transfer ?? []];
		for (const buffer of transfer)
			if (!(buffer instanceof ArrayBuffer))
				cannotClone(buffer);
		const copy = cloneValue(value, seen);
		for (const buffer of transfer)
			buffer.transfer(); // the copy has its bytes; the original is detached, as asked
		return copy;
	});

	// ---- The main module, rejections, and the door for the host ----

	let main = 'none'; // 'pending' while a top-level await of the main module waits

	function watchMain(promise) {
		main = 'pending';
		promise.then(() => { main = 'done'; }, (error) => {
			main = 'failed';
			host.uncaught(error);
		});
	}

	// Reasons of the promises that were rejected in this turn and that nobody handled until its end.
	function unhandled(rejected, handled) {
		const reasons = [];
		for (const [promise, reason] of rejected)
			if (!handled.includes(promise))
				reasons.push(reason);
		return reasons;
	}

	function enter(operation, a, b, c) {
		switch (operation) {
		case 0: return nextDue();
		case 1: return runOne(a);
		case 2: return durable(a, b);
		case 3: return settle(a, (waiter) => waiter.reject(Object.assign(new Error(b), { code: c })));
		case 4: return restored(a, b, c);
		case 5: return fileDone(a, b, c);
		case 6: return watchMain(a);
		case 7: return void a.then(() => {}, () => {}); // the host looks at this one itself
		case 8: return inspect(a);
		case 9: return describe(a);
		case 10: return unhandled(a, b);
		case 11: return sync(a, b);
		case 12: return main;
		default: throw new RangeError(`the host asked for operation ${operation}`);
		}
	}

	const internals = {
		enter, inspect, checkpoint, on, off, readFile, writeFile, appendFile, env, args, exit, bind,
		current: () => current,
		stats: () => host.stats(),
		gc: () => host.collect(),
	};
	Object.defineProperty(globalThis, Symbol.for('thaw.internals'), { value: Object.freeze(internals) });
	return enter;
})
