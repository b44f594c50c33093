// SPDX-License-Identifier: MIT
//
// timers.js - setTimeout, setInterval, setImmediate and their handles.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). Everything a timer needs lives in the
// heap; the host asks for the next due time, and runs one callback a turn (prelude.js, enter). The clock follows the wall
// clock from process to process, and the monotonic one within a process (loop.c).
(function (host, parts) {
	'use strict';

	const { apply, defineProperty, list, TypeError, Number, Map, mapGet, mapSet, mapDelete, toPrimitive,
		dispose } = parts.primordials;
	const { inspect } = parts;

	// A binary heap by due time (milliseconds of the program's clock), then by age. timer.index is its place, -1: not in it.
	const timers = list();
	let timerCount = 0; // the places behind are unused: cutting them off would cost more than a timer
	let timerSequence = 0;
	let timerReferences = 0; // how many active timers and immediates keep the program alive
	let limit = 0; // timers due until then run in this round
	const timersById = new Map(); // only those whose number was asked for

	// Immediates: a list in order. Those that are queued in a round wait for the next.
	let firstImmediate;
	let lastImmediate;
	let immediateSequence = 0;
	let roundEnd = 0; // sequence number of the last one that runs in this round

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
			if (down >= timerCount)
				break;
			if (down + 1 < timerCount && earlier(timers[down + 1], timers[down]))
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
		siftUp(timer, timerCount++);
	}

	function removeTimer(timer) {
		const index = timer.index;
		if (index < 0)
			return;
		timer.index = -1;
		if (timer.referenced)
			timerReferences--;
		const last = timers[--timerCount];
		timers[timerCount] = undefined;
		if (timerCount === 0 && timers.length > 1024)
			timers.length = 0;
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
		[toPrimitive]() {
			return numberOf(this.#timer);
		}
		[dispose]() {
			clear(this);
		}
	}

	// It is found by it, too: clearTimeout(+handle).
	function numberOf(timer) {
		if (timer.id === 0) {
			timer.id = ++timerSequence;
			mapSet(timersById, timer.id, timer.handle);
		}
		return timer.id;
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
			if (timer.index >= 0)
				timerReferences += referenced ? 1 : -1;
		}
		return handle;
	}

	function checkCallback(callback) {
		if (typeof callback !== 'function')
			throw new TypeError('The "callback" argument must be of type function. Received ' + inspect(callback));
	}

	function start(callback, delay, values, repeat) {
		checkCallback(callback);
		delay = Number(delay);
		// Longer than node's 2^31 ms is allowed: here a timer can be waited for through any number of restarts.
		if (!(delay >= 1))
			delay = 1;
		const timer = { __proto__: null, index: -1, due: 0, sequence: 0, referenced: true, id: 0, running: false, delay, repeat,
				callback, values, handle: undefined, owner: host.owner() };
		timer.handle = new Timeout(timer);
		insertTimer(timer, host.clock() + delay);
		return timer.handle;
	}

	function clear(handle) {
		if (typeof handle === 'number' || typeof handle === 'string')
			handle = mapGet(timersById, Number(handle));
		if (typeof handle !== 'object' || handle === null)
			return;
		const immediate = immediateOf(handle);
		if (immediate !== undefined)
			removeImmediate(immediate);
		const timer = timerOf(handle);
		if (timer !== undefined) {
			removeTimer(timer);
			forget(timer);
		}
	}

	function forget(timer) {
		timer.running = false;
		if (timer.id !== 0)
			mapDelete(timersById, timer.id);
	}

	function runTimer(timer, now) {
		removeTimer(timer);
		if (timer.repeat) {
			// Keeps its cadence; after a stop, however long, it fires once and goes on from there.
			const next = timer.due + timer.delay;
			insertTimer(timer, next > now ? next : now + timer.delay);
			apply(timer.callback, timer.handle, timer.values);
			return;
		}
		timer.running = true; // refresh() inside the callback is allowed
		try {
			apply(timer.callback, timer.handle, timer.values);
		} finally {
			timer.running = false;
			if (timer.index < 0)
				forget(timer);
		}
	}

	function insertImmediate(timer) {
		timer.index = ++immediateSequence; // 1 and more: queued
		timer.previous = lastImmediate;
		if (lastImmediate === undefined)
			firstImmediate = timer;
		else
			lastImmediate.next = timer;
		lastImmediate = timer;
		timerReferences++;
	}

	function removeImmediate(timer) {
		if (timer.index < 0)
			return;
		timer.index = -1;
		if (timer.referenced)
			timerReferences--;
		if (timer.previous === undefined)
			firstImmediate = timer.next;
		else
			timer.previous.next = timer.next;
		if (timer.next === undefined)
			lastImmediate = timer.previous;
		else
			timer.next.previous = timer.previous;
		timer.next = timer.previous = undefined;
	}

	function runImmediate() {
		const timer = firstImmediate;
		if (timer === undefined || timer.index > roundEnd)
			return false;
		removeImmediate(timer);
		apply(timer.callback, timer.handle, timer.values);
		return true;
	}

	function runDue(until, now) {
		const timer = timerCount > 0 ? timers[0] : undefined;
		if (timer === undefined || timer.due > until)
			return false;
		runTimer(timer, now);
		return true;
	}

	// One turn's worth: one timer that is due, or one immediate. False: there was nothing to run.
	parts.runOne = function runOne(now) {
		if (runImmediate() || runDue(limit, now))
			return true;
		limit = now;
		roundEnd = immediateSequence;
		return runImmediate() || runDue(now, now);
	};

	// When the host has to call again: 0 never, else the due time, negative if it keeps nothing alive.
	parts.nextDue = function nextDue() {
		if (firstImmediate !== undefined)
			return timerReferences > 0 ? 1 : -1;
		if (timerCount === 0)
			return 0;
		const due = timers[0].due > 1 ? timers[0].due : 1;
		return timerReferences > 0 ? due : -due;
	};

	// Of all that wait, in no order; those of setImmediate() have no number, and no time.
	parts.pendingTimers = function pendingTimers() {
		const pending = list();
		for (let i = 0; i < timerCount; i++) {
			const { due, delay, repeat, referenced, callback } = timers[i];
			pending[i] = { __proto__: null, id: numberOf(timers[i]), due, delay, repeat, referenced, callback };
		}
		for (let timer = firstImmediate; timer !== undefined; timer = timer.next) {
			const { referenced, callback } = timer;
			pending[pending.length] = { __proto__: null, id: '-', due: undefined, delay: 0, repeat: false, referenced, callback };
		}
		return pending;
	};

	const define = (name, value) => defineProperty(globalThis, name, { __proto__: null, value, writable: true, configurable: true });
	define('setTimeout', function setTimeout(callback, delay, ...values) {
		return start(callback, delay, values, false);
	});
	define('setInterval', function setInterval(callback, delay, ...values) {
		return start(callback, delay, values, true);
	});
	define('setImmediate', function setImmediate(callback, ...values) {
		checkCallback(callback);
		const timer = { __proto__: null, index: -1, referenced: true, callback, values, handle: undefined, next: undefined,
				previous: undefined, owner: host.owner() };
		timer.handle = new Immediate(timer);
		insertImmediate(timer);
		return timer.handle;
	});
	define('clearTimeout', function clearTimeout(handle) { clear(handle); });
	define('clearInterval', function clearInterval(handle) { clear(handle); });
	define('clearImmediate', function clearImmediate(handle) { clear(handle); });

	// What is queued by the runtime itself: a turn of its own, which keeps the program alive until then.
	parts.queueTask = (callback) => insertImmediate({ __proto__: null, index: -1, referenced: true, callback, values: [],
							  handle: undefined, next: undefined, previous: undefined });
	parts.startTimer = (callback, delay) => start(callback, delay, [], false);

	// What a module that goes has registered (hot.js): the module whose code called setTimeout and the like.
	function timersOf(owner) {
		const found = list();
		for (let i = 0; i < timerCount; i++)
			if (timers[i].owner === owner)
				found[found.length] = timers[i];
		for (let timer = firstImmediate; timer !== undefined; timer = timer.next)
			if (timer.owner === owner)
				found[found.length] = timer;
		return found;
	}

	parts.countTimers = (owner) => timersOf(owner).length;
	parts.endTimers = (owner) => {
		const found = timersOf(owner);
		for (let i = 0; i < found.length; i++)
			clear(found[i].handle);
		return found.length;
	};

	parts.define = define;
	parts.checkCallback = checkCallback;
	parts.isHandle = (object) => timerOf(object) !== undefined || immediateOf(object) !== undefined;
})
