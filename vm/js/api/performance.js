// SPDX-License-Identifier: MIT
//
// performance.js - the timeline of performance: marks, measures, and those who observe them.
//
// Called when it is first needed (later.js; primordials.js says what must not be used).
(function (host, parts) {
	'use strict';

	const { arrayOf, apply, list, Number, Set, TypeError, isFinite, freeze, setAdd, setDelete, setForEach, setHas,
		setSize } = parts.primordials;
	const { DOMException, expose, isObject, optionsOf, textOf, now, late } = parts;

	parts.need('structured_clone');

	const OURS = {};
	let entries = list(); // by start, then by age
	const kinds = { __proto__: null, mark: true, measure: true };

	class PerformanceEntry {
		#entry;
		constructor(ours, entry) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor');
			this.#entry = entry;
		}
		get name() { return this.#entry.name; }
		get entryType() { return this.#entry.type; }
		get startTime() { return this.#entry.start; }
		get duration() { return this.#entry.duration; }
		toJSON() {
			const { name, type, start, duration, detail } = this.#entry;
			return detail === undefined ? { name, entryType: type, startTime: start, duration } :
				{ name, entryType: type, startTime: start, duration, detail };
		}
		static {
			parts.detailOf = (entry) => entry.#entry.detail;
		}
	}
	expose(PerformanceEntry, 'PerformanceEntry');

	function finite(value, what) {
		const number = Number(value);
		if (!isFinite(number))
			throw new TypeError(what + ' must be a finite number');
		return number;
	}

	const detailOf = (options) => options.detail === undefined || options.detail === null ? null :
		late.structuredClone(options.detail);

	class PerformanceMark extends PerformanceEntry {
		constructor(name, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('PerformanceMark: the name is missing');
			name = textOf(name);
			options = optionsOf(options, 'PerformanceMark');
			const { startTime } = options;
			const start = startTime === undefined ? now() : finite(startTime, 'startTime');
			if (start < 0)
				throw new TypeError('startTime must not be negative');
			super(OURS, { __proto__: null, name, type: 'mark', start, duration: 0, detail: detailOf(options) });
		}
		get detail() { return parts.detailOf(this); }
	}
	expose(PerformanceMark, 'PerformanceMark');

	class PerformanceMeasure extends PerformanceEntry {
		constructor(ours, entry) {
			super(ours, entry);
		}
		get detail() { return parts.detailOf(this); }
	}
	expose(PerformanceMeasure, 'PerformanceMeasure');

	function add(object, type, name, start) {
		let at = entries.length;
		for (; at > 0 && entries[at - 1].start > start; at--)
			entries[at] = entries[at - 1];
		entries[at] = { __proto__: null, object, type, name, start };
		setForEach(observers, (observer) => observer.see(object, type));
		return object;
	}

	function found(source, name, type) {
		const some = list();
		for (let i = 0; i < source.length; i++)
			if ((name === undefined || source[i].name === name) && (type === undefined || source[i].type === type))
				some[some.length] = source[i].object;
		return arrayOf(some);
	}

	function clear(type, name) {
		const left = list();
		for (let i = 0; i < entries.length; i++)
			if (entries[i].type !== type || (name !== undefined && entries[i].name !== name))
				left[left.length] = entries[i];
		entries = left;
	}

	// A time, or the newest mark of that name.
	function timeOf(mark) {
		if (typeof mark === 'number') {
			const time = finite(mark, 'a time');
			if (time < 0)
				throw new TypeError('a time must not be negative');
			return time;
		}
		mark = textOf(mark);
		for (let i = entries.length - 1; i >= 0; i--)
			if (entries[i].type === 'mark' && entries[i].name === mark)
				return entries[i].start;
		throw new DOMException('there is no mark \'' + mark + '\'', 'SyntaxError');
	}

	function measure(name, options, endMark) {
		const detailed = isObject(options);
		const { start, end, duration } = detailed ? options : { __proto__: null };
		const used = detailed && (start !== undefined || end !== undefined || duration !== undefined || options.detail !== undefined);
		if (used && endMark !== undefined)
			throw new TypeError('measure() takes either options or the name of a mark');
		if (used && start === undefined && end === undefined)
			throw new TypeError('measure() takes a start or an end');
		if (used && start !== undefined && end !== undefined && duration !== undefined)
			throw new TypeError('measure() takes two of start, end and duration');
		const until = endMark !== undefined ? timeOf(endMark) : end !== undefined ? timeOf(end) :
			start !== undefined && duration !== undefined ? timeOf(start) + timeOf(Number(duration)) : now();
		const from = start !== undefined ? timeOf(start) : end !== undefined && duration !== undefined ? until - timeOf(Number(duration)) :
			!detailed && options !== undefined && options !== null ? timeOf(options) : 0;
		const detail = detailed ? detailOf(options) : null;
		return add(new PerformanceMeasure(OURS, { __proto__: null, name, type: 'measure', start: from, duration: until - from, detail }),
			'measure', name, from);
	}

	// ---- Those who observe ----

	const observers = new Set();

	class PerformanceObserverEntryList {
		#entries;
		constructor(ours, some) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor');
			this.#entries = some;
		}
		getEntries() { return found(this.#entries); }
		getEntriesByType(type) { return found(this.#entries, undefined, textOf(type)); }
		getEntriesByName(name, type = undefined) { return found(this.#entries, textOf(name), type === undefined ? type : textOf(type)); }
	}
	expose(PerformanceObserverEntryList, 'PerformanceObserverEntryList');

	class PerformanceObserver {
		#callback;
		#types = new Set();
		#mode = undefined;
		#waiting = list();
		#queued = false;
		#self = { __proto__: null, see: (object, type) => this.#see(object, type) };
		constructor(callback) {
			parts.checkCallback(callback);
			this.#callback = callback;
		}
		static get supportedEntryTypes() {
			return freeze(['mark', 'measure']);
		}
		observe(options = undefined) {
			options = optionsOf(options, 'observe');
			const { entryTypes, type, buffered } = options;
			if (entryTypes === undefined && type === undefined)
				throw new TypeError('observe() takes entryTypes or a type');
			if (entryTypes !== undefined && (type !== undefined || buffered !== undefined))
				throw new TypeError('observe() takes either entryTypes or a type');
			const mode = type === undefined ? 'several' : 'single';
			if (this.#mode !== undefined && this.#mode !== mode)
				throw new DOMException('an observer takes either entryTypes or types', 'InvalidModificationError');
			this.#mode = mode;
			if (mode === 'several') {
				this.#types = new Set();
				for (let i = 0; i < entryTypes.length; i++)
					if (kinds[textOf(entryTypes[i])])
						setAdd(this.#types, textOf(entryTypes[i]));
			} else if (kinds[textOf(type)]) {
				setAdd(this.#types, textOf(type));
				for (let i = 0; buffered && i < entries.length; i++)
					this.#see(entries[i].object, entries[i].type);
			}
			if (setSize(this.#types) > 0)
				setAdd(observers, this.#self);
		}
		disconnect() {
			setDelete(observers, this.#self);
			this.#types = new Set();
			this.#waiting = list();
			this.#mode = undefined;
		}
		takeRecords() {
			const some = this.#waiting;
			this.#waiting = list();
			return found(some);
		}
		#see(object, type) {
			if (!setHas(this.#types, type))
				return;
			this.#waiting[this.#waiting.length] = { __proto__: null, object, type, name: object.name };
			if (this.#queued)
				return;
			this.#queued = true;
			parts.queueTask(() => {
				const some = this.#waiting;
				this.#queued = false;
				this.#waiting = list();
				if (some.length > 0)
					apply(this.#callback, this, [new PerformanceObserverEntryList(OURS, some), this]);
			});
		}
	}
	expose(PerformanceObserver, 'PerformanceObserver');

	late.PerformanceEntry = PerformanceEntry;
	late.PerformanceMark = PerformanceMark;
	late.PerformanceMeasure = PerformanceMeasure;
	late.PerformanceObserver = PerformanceObserver;
	late.PerformanceObserverEntryList = PerformanceObserverEntryList;
	late.timeline = {
		__proto__: null,
		mark(name, options) {
			const made = new PerformanceMark(name, options);
			return add(made, 'mark', textOf(name), made.startTime);
		},
		measure: (name, options, endMark) => measure(textOf(name), options, endMark),
		clear,
		entries: (name, type) => found(entries, name, type),
	};
})
