// SPDX-License-Identifier: MIT
//
// events.js - Event and its kinds, EventTarget, AbortController, AbortSignal, and the global scope as a target of events.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). There are no trees of targets: the path of
// an event is its target. A listener that throws is reported as an exception that nobody caught (report()).
(function (host, parts) {
	'use strict';

	const { apply, defineProperty, descriptorOf, list, Map, Number, Set, String, TypeError, WeakRef, WeakSet, mapGet, mapSet, mapDelete,
		setAdd, setDelete, setForEach, weakRefDeref, weakSetAdd, weakSetDelete, isNaN, trunc } = parts.primordials;
	const { DOMException, isObject, expose, textOf, optionsOf, eachItem, late } = parts;

	// ---- Events ----

	let stateOf; // event -> what it is and where it stands; a TypeError for all else

	// One getter for all, which no event can lose.
	const { get: isTrusted } = descriptorOf({ get isTrusted() { return stateOf(this).trusted; } }, 'isTrusted');

	class Event {
		#state;
		constructor(type, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('Event: the type is missing');
			type = textOf(type);
			options = optionsOf(options, 'Event');
			const bubbles = !!options.bubbles;
			const cancelable = !!options.cancelable;
			const composed = !!options.composed;
			this.#state = { __proto__: null, type, bubbles, cancelable, composed, canceled: false, trusted: false, phase: 0,
					target: null, current: null, stopped: false, stoppedNow: false, passive: false,
					dispatched: false, time: host.clock() - parts.timeOrigin() };
			defineProperty(this, 'isTrusted', { __proto__: null, get: isTrusted, set: undefined, enumerable: true,
							    configurable: false });
		}
		static {
			stateOf = (event) => event.#state;
			parts.isEvent = (value) => isObject(value) && #state in value;
		}
		get type() { return this.#state.type; }
		get target() { return this.#state.target; }
		get srcElement() { return this.#state.target; }
		get currentTarget() { return this.#state.current; }
		composedPath() { return this.#state.current === null ? [] : [this.#state.current]; }
		get eventPhase() { return this.#state.phase; }
		stopPropagation() { this.#state.stopped = true; }
		get cancelBubble() { return this.#state.stopped; }
		set cancelBubble(value) {
			if (value)
				this.#state.stopped = true;
		}
		stopImmediatePropagation() { this.#state.stopped = this.#state.stoppedNow = true; }
		get bubbles() { return this.#state.bubbles; }
		get cancelable() { return this.#state.cancelable; }
		get returnValue() { return !this.#state.canceled; }
		set returnValue(value) {
			if (!value)
				cancel(this.#state);
		}
		preventDefault() { cancel(this.#state); }
		get defaultPrevented() { return this.#state.canceled; }
		get composed() { return this.#state.composed; }
		get timeStamp() { return this.#state.time; }
		initEvent(type, bubbles = false, cancelable = false) {
			if (arguments.length === 0)
				throw new TypeError('initEvent: the type is missing');
			initialize(this.#state, textOf(type), !!bubbles, !!cancelable);
		}
	}
	expose(Event, 'Event', { NONE: 0, CAPTURING_PHASE: 1, AT_TARGET: 2, BUBBLING_PHASE: 3 });

	function cancel(state) {
		if (state.cancelable && !state.passive)
			state.canceled = true;
	}

	function initialize(state, type, bubbles, cancelable) {
		if (state.dispatched)
			return false;
		state.stopped = state.stoppedNow = state.canceled = state.trusted = false;
		state.target = null;
		state.type = type;
		state.bubbles = bubbles;
		state.cancelable = cancelable;
		return true;
	}

	class CustomEvent extends Event {
		#detail;
		constructor(type, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('CustomEvent: the type is missing');
			super(type, options);
			this.#detail = optionsOf(options, 'CustomEvent').detail ?? null;
		}
		get detail() { return this.#detail; }
		initCustomEvent(type, bubbles = false, cancelable = false, detail = null) {
			if (arguments.length === 0)
				throw new TypeError('initCustomEvent: the type is missing');
			if (initialize(stateOf(this), textOf(type), !!bubbles, !!cancelable))
				this.#detail = detail;
		}
	}
	expose(CustomEvent, 'CustomEvent');

	class ErrorEvent extends Event {
		#fields;
		constructor(type, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('ErrorEvent: the type is missing');
			super(type, options);
			const { colno = 0, error, filename = '', lineno = 0, message = '' } = optionsOf(options, 'ErrorEvent');
			this.#fields = { __proto__: null, colno: Number(colno) >>> 0, error, filename: textOf(filename),
					 lineno: Number(lineno) >>> 0, message: textOf(message) };
		}
		get message() { return this.#fields.message; }
		get filename() { return this.#fields.filename; }
		get lineno() { return this.#fields.lineno; }
		get colno() { return this.#fields.colno; }
		get error() { return this.#fields.error; }
	}
	expose(ErrorEvent, 'ErrorEvent');

	class PromiseRejectionEvent extends Event {
		#promise;
		#reason;
		constructor(type, options) {
			if (arguments.length < 2 || !isObject(options) || !('promise' in options))
				throw new TypeError('PromiseRejectionEvent: takes a type and { promise, reason }');
			super(type, options);
			this.#promise = options.promise;
			this.#reason = options.reason;
		}
		get promise() { return this.#promise; }
		get reason() { return this.#reason; }
	}
	expose(PromiseRejectionEvent, 'PromiseRejectionEvent');

	// ---- Targets ----

	let targetOf; // what an EventTarget knows of itself; undefined: it is none

	const newTarget = (object) => ({ __proto__: null, object, types: new Map(), handlers: new Map(), heard: undefined });
	const world = newTarget(globalThis);

	class EventTarget {
		#target = newTarget(this);
		static {
			targetOf = (value) => isObject(value) && #target in value ? value.#target : undefined;
		}
		addEventListener(type, callback, options = undefined) {
			if (arguments.length < 2)
				throw new TypeError('addEventListener takes a type and a listener');
			addListener(receiver(this), textOf(type), callback, options);
		}
		removeEventListener(type, callback, options = undefined) {
			if (arguments.length < 2)
				throw new TypeError('removeEventListener takes a type and a listener');
			removeListener(receiver(this), textOf(type), callback, options);
		}
		dispatchEvent(event) {
			const target = receiver(this);
			if (!parts.isEvent(event))
				throw new TypeError('dispatchEvent takes an Event');
			const state = stateOf(event);
			if (state.dispatched)
				throw new DOMException('the event is being dispatched already', 'InvalidStateError');
			state.trusted = false;
			return dispatch(target, event);
		}
	}
	expose(EventTarget, 'EventTarget');
	parts.isTarget = (value) => targetOf(value) !== undefined;

	function receiver(self) {
		const target = self === undefined || self === null || self === globalThis ? world : targetOf(self);
		if (target === undefined)
			throw new TypeError('this is not an EventTarget');
		return target;
	}

	function checkListener(callback) {
		if (callback !== null && callback !== undefined && !isObject(callback))
			throw new TypeError('a listener is a function, or an object with handleEvent');
		return callback ?? null;
	}

	const captureOf = (options) => isObject(options) ? !!options.capture : !!options;

	function find(listeners, callback, capture) {
		for (let i = 0; listeners !== undefined && i < listeners.length; i++)
			if (listeners[i].callback === callback && listeners[i].capture === capture)
				return i;
		return -1;
	}

	function addListener(target, type, callback, options) {
		const capture = captureOf(options);
		let once = false;
		let passive = false;
		let signal;
		callback = checkListener(callback);
		if (isObject(options)) {
			once = !!options.once;
			passive = !!options.passive;
			signal = options.signal;
			if (signal !== undefined && signalOf(signal) === undefined)
				throw new TypeError('signal must be an AbortSignal');
		}
		if (callback === null || (signal !== undefined && signalOf(signal).aborted))
			return undefined;
		const listeners = mapGet(target.types, type) ?? list();
		if (find(listeners, callback, capture) >= 0)
			return undefined;
		const listener = { __proto__: null, callback, capture, once, passive, removed: false };
		replace(target, type, listeners, -1, listener);
		if (signal !== undefined)
			addAlgorithm(signal, () => remove(target, type, listener));
		return listener;
	}

	// Lists are replaced, not changed: one that is being told goes on to its end.
	function replace(target, type, listeners, without, more) {
		const after = list();
		for (let i = 0; i < listeners.length; i++)
			if (i !== without)
				after[after.length] = listeners[i];
		if (more !== undefined)
			after[after.length] = more;
		if (after.length === 0)
			mapDelete(target.types, type);
		else
			mapSet(target.types, type, after);
		target.heard?.(type, after.length);
	}

	function remove(target, type, listener) {
		const listeners = mapGet(target.types, type);
		listener.removed = true;
		for (let i = 0; listeners !== undefined && i < listeners.length; i++)
			if (listeners[i] === listener)
				return replace(target, type, listeners, i);
		return undefined;
	}

	function removeListener(target, type, callback, options) {
		const capture = captureOf(options);
		callback = checkListener(callback);
		const listeners = mapGet(target.types, type);
		const index = find(listeners, callback, capture);
		if (index >= 0)
			remove(target, type, listeners[index]);
	}

	function call(target, listener, event) {
		const { callback } = listener;
		if (typeof callback === 'function')
			return apply(callback, target.object, [event]);
		const method = callback.handleEvent;
		if (typeof method !== 'function')
			throw new TypeError('handleEvent of the listener is not a function');
		return apply(method, callback, [event]);
	}

	function pass(target, event, state, capture) {
		const listeners = mapGet(target.types, state.type);
		for (let i = 0; listeners !== undefined && i < listeners.length && !state.stoppedNow; i++) {
			const listener = listeners[i];
			if (listener.removed || listener.capture !== capture)
				continue;
			if (listener.once)
				remove(target, state.type, listener);
			state.passive = listener.passive;
			try {
				call(target, listener, event);
			} catch (error) {
				report(error);
			}
			state.passive = false;
		}
	}

	// False: it was canceled.
	function dispatch(target, event) {
		const state = stateOf(event);
		state.dispatched = true;
		state.target = state.current = target.object;
		state.phase = 2;
		if (!state.stopped)
			pass(target, event, state, true);
		if (!state.stopped)
			pass(target, event, state, false);
		state.phase = 0;
		state.current = null;
		state.dispatched = state.stopped = state.stoppedNow = false;
		return !state.canceled;
	}

	function fire(object, event) {
		stateOf(event).trusted = true;
		return dispatch(receiver(object), event);
	}

	// object.onNAME, which is a listener at the place where it was first set.
	function handler(Class, name, changed = undefined) {
		const type = parts.primordials.stringSlice(name, 2);
		const accessor = {
			get [name]() {
				return mapGet(receiver(this).handlers, type)?.value ?? null;
			},
			set [name](value) {
				const target = receiver(this);
				const known = mapGet(target.handlers, type);
				value = isObject(value) ? value : null;
				if (known !== undefined) {
					known.value = value;
					if (value === null) {
						mapDelete(target.handlers, type);
						remove(target, type, known.listener);
					}
				} else if (value !== null) {
					const made = { __proto__: null, value, listener: undefined };
					const callback = function (event) {
						if (typeof made.value === 'function' && apply(made.value, target.object, [event]) === false)
							event.preventDefault();
					};
					mapSet(target.handlers, type, made);
					made.listener = addListener(target, type, callback, undefined);
				}
				changed?.(this);
			},
		};
		const { get, set } = descriptorOf(accessor, name);
		defineProperty(Class.prototype, name, { __proto__: null, get, set, enumerable: true, configurable: true });
	}

	// ---- Exceptions that nobody caught, and rejections ----

	let reporting = false;

	// True: a listener has it.
	function told(error) {
		if (reporting || mapGet(world.types, 'error') === undefined)
			return false;
		reporting = true;
		try {
			let message = '';
			try {
				message = isObject(error) && typeof error.message === 'string' ? error.message : String(error);
			} catch { /* its toString threw */ }
			const event = new ErrorEvent('error', { __proto__: null, cancelable: true, error, message });
			return !fire(undefined, event);
		} finally {
			reporting = false;
		}
	}

	function report(error) {
		if (!told(error))
			host.uncaught(error);
	}

	const outstanding = new WeakSet(); // promises whose rejection a listener has taken

	function rejected(promise, reason) {
		if (mapGet(world.types, 'unhandledrejection') === undefined)
			return false;
		const event = new PromiseRejectionEvent('unhandledrejection', { __proto__: null, cancelable: true, promise, reason });
		if (fire(undefined, event))
			return false;
		weakSetAdd(outstanding, promise);
		return true;
	}

	function handled(promise) {
		if (weakSetDelete(outstanding, promise) && mapGet(world.types, 'rejectionhandled') !== undefined)
			fire(undefined, new PromiseRejectionEvent('rejectionhandled', { __proto__: null, promise, reason: host.promise(promise)[1] }));
	}

	// ---- AbortSignal ----

	let signalOf;
	const OURS = {}; // nobody else can make one

	class AbortSignal extends EventTarget {
		#signal;
		constructor(ours) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor: AbortController makes signals');
			super();
			const signal = this.#signal = { __proto__: null, object: this, aborted: false, reason: undefined,
							algorithms: list(), dependent: false, sources: list(),
							dependents: new Set(), held: new Set() };
			// What depends on others is kept by them while somebody listens to it.
			targetOf(this).heard = (type, count) => {
				if (type !== 'abort' || !signal.dependent)
					return;
				for (let i = 0; i < signal.sources.length; i++)
					(count > 0 ? setAdd : setDelete)(signal.sources[i].held, signal);
			};
		}
		static {
			signalOf = (value) => isObject(value) && #signal in value ? value.#signal : undefined;
		}
		static abort(reason = undefined) {
			const made = new AbortSignal(OURS);
			made.#signal.aborted = true;
			made.#signal.reason = reasonOf(reason);
			return made;
		}
		static timeout(milliseconds) {
			if (arguments.length === 0)
				throw new TypeError('AbortSignal.timeout takes milliseconds');
			const delay = trunc(Number(milliseconds));
			if (isNaN(delay) || delay < 0 || delay > 9007199254740991)
				throw new TypeError('AbortSignal.timeout takes milliseconds');
			const made = new AbortSignal(OURS);
			const signal = made.#signal;
			parts.startTimer(() => {
				abort(signal, new DOMException('The operation was aborted due to timeout', 'TimeoutError'));
			}, delay).unref();
			return made;
		}
		static any(signals) {
			const sources = signalsOf(signals);
			const made = new AbortSignal(OURS);
			depend(made.#signal, sources);
			return made;
		}
		get aborted() { return this.#signal.aborted; }
		get reason() { return this.#signal.reason; }
		throwIfAborted() {
			if (this.#signal.aborted)
				throw this.#signal.reason;
		}
	}
	expose(AbortSignal, 'AbortSignal');
	handler(AbortSignal, 'onabort');

	const reasonOf = (reason) => reason === undefined ?
		new DOMException('This operation was aborted', 'AbortError') : reason;

	function signalsOf(items) {
		const found = list();
		eachItem(items, 'AbortSignal.any takes a sequence of AbortSignals', (item) => {
			const signal = signalOf(item);
			if (signal === undefined)
				throw new TypeError('AbortSignal.any takes AbortSignals');
			found[found.length] = signal;
		});
		return found;
	}

	function depend(signal, sources) {
		for (let i = 0; i < sources.length; i++)
			if (sources[i].aborted) {
				signal.aborted = true;
				signal.reason = sources[i].reason;
				return;
			}
		signal.dependent = true;
		const reference = new WeakRef(signal);
		const from = (source) => {
			for (let i = 0; i < signal.sources.length; i++)
				if (signal.sources[i] === source)
					return;
			signal.sources[signal.sources.length] = source;
			setForEach(source.dependents, (other) => { // those that are gone
				if (weakRefDeref(other) === undefined)
					setDelete(source.dependents, other);
			});
			setAdd(source.dependents, reference);
		};
		for (let i = 0; i < sources.length; i++) {
			if (!sources[i].dependent)
				from(sources[i]);
			for (let k = 0; k < sources[i].sources.length; k++)
				from(sources[i].sources[k]);
		}
	}

	function addAlgorithm(object, act) {
		const signal = signalOf(object);
		if (!signal.aborted)
			signal.algorithms[signal.algorithms.length] = act;
	}

	function abort(signal, reason) {
		if (signal.aborted)
			return;
		const all = list();
		const mark = (one) => {
			one.aborted = true;
			one.reason = signal.reason;
			all[all.length] = one;
		};
		signal.reason = reason;
		mark(signal);
		setForEach(signal.dependents, (reference) => {
			const one = weakRefDeref(reference);
			if (one !== undefined && !one.aborted)
				mark(one);
		});
		for (let i = 0; i < all.length; i++) {
			const { algorithms } = all[i];
			all[i].algorithms = list();
			for (let k = 0; k < algorithms.length; k++)
				algorithms[k]();
			fire(all[i].object, new Event('abort'));
			all[i].held = new Set();
		}
	}

	class AbortController {
		#object = new AbortSignal(OURS);
		get signal() { return this.#object; }
		abort(reason = undefined) {
			abort(signalOf(this.#object), reasonOf(reason));
		}
	}
	expose(AbortController, 'AbortController');

	// ---- What programs and the other sources see ----

	late.Event = Event;
	late.CustomEvent = CustomEvent;
	late.ErrorEvent = ErrorEvent;
	late.PromiseRejectionEvent = PromiseRejectionEvent;
	late.EventTarget = EventTarget;
	late.AbortSignal = AbortSignal;
	late.AbortController = AbortController;
	const { addEventListener, removeEventListener, dispatchEvent } = EventTarget.prototype;
	late.world = { __proto__: null, addEventListener, removeEventListener, dispatchEvent };
	late.reportError = report;
	late.addAlgorithm = addAlgorithm;
	late.fire = fire;
	late.handler = handler;
	parts.heard = { __proto__: null, told, rejected, handled };
})
