// SPDX-License-Identifier: MIT
//
// later.js - the sources that a program may never need: they are compiled when something of them is first called.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). Their text is in the heap from the
// beginning, so that a restored program compiles that of the build that created it.
//
// Libraries (vm/js/libraries) are larger, and know nothing of the runtime: they are in the binary until something of one is first
// used, and then it is the one of the build that runs.
(function (host, parts) {
	'use strict';

	const { apply, defineProperty, setPrototypeOf, put, objectIs, TypeError } = parts.primordials;
	const { sources } = parts; // name -> text, made by the host
	const late = parts.late = { __proto__: null }; // what they export

	setPrototypeOf(sources, null);

	function load(name) {
		const source = sources[name];
		if (source === undefined)
			return;
		host.compile(source, 'thaw:' + name)(host, parts);
		sources[name] = undefined;
	}

	const libraries = { __proto__: null };

	function library(name) {
		libraries[name] ??= host.library(name)({ __proto__: null, exports: {} }, library);
		return libraries[name];
	}

	// Globals that are there once they are asked for.
	function lazy(source, names, enumerable = false) {
		for (let i = 0; i < names.length; i++) {
			const name = names[i];
			const become = (value) => put(globalThis, name, value, enumerable);
			defineProperty(globalThis, name, {
				__proto__: null,
				get() {
					load(source);
					become(late[name]);
					return late[name];
				},
				set: become,
				enumerable,
				configurable: true,
			});
		}
	}

	function loadInspect() {
		load('inspect');
		load('format');
	}

	// In a program that has neither memory nor stack left, it may not be possible.
	const text = (name) => (...values) => {
		if (late[name] === undefined) {
			try {
				loadInspect();
			} catch {
				return '<value that cannot be inspected>';
			}
		}
		return apply(late[name], undefined, values);
	};

	// What needs none of it: numbers and the like; undefined for all else.
	function simpleText(value) {
		const type = typeof value;
		if (type === 'number')
			return objectIs(value, -0) ? '-0' : '' + value;
		return type === 'boolean' || type === 'undefined' || value === null ? '' + value : undefined;
	}

	const inspect = text('inspect');
	parts.simpleText = simpleText;
	parts.inspect = (value, options) => simpleText(value) ?? inspect(value, options);
	parts.describe = text('describe');
	parts.format = text('format');
	parts.framesOf = text('framesOf');

	const shell = (name) => (value) => {
		load('shell');
		return late[name](value);
	};
	parts.complete = shell('complete');
	parts.timers = shell('timers');

	parts.table = (data, only) => {
		loadInspect();
		load('table');
		return late.table(data, only);
	};

	function structuredClone(value, options) {
		load('structured_clone');
		return apply(late.structuredClone, undefined, arguments);
	}
	defineProperty(structuredClone, 'length', { __proto__: null, value: 1 });
	put(globalThis, 'structuredClone', structuredClone, false);

	parts.need = load;
	parts.library = library;
	lazy('events', ['Event', 'CustomEvent', 'ErrorEvent', 'PromiseRejectionEvent', 'EventTarget', 'AbortSignal', 'AbortController']);
	lazy('messages', ['MessageEvent', 'MessageChannel', 'MessagePort']);
	lazy('blob', ['Blob', 'File']);
	lazy('url', ['URL', 'URLSearchParams']);
	lazy('streams', ['ReadableStream', 'ReadableStreamDefaultReader', 'ReadableStreamBYOBReader', 'ReadableStreamDefaultController',
			 'ReadableByteStreamController', 'ReadableStreamBYOBRequest', 'WritableStream', 'WritableStreamDefaultWriter',
			 'WritableStreamDefaultController', 'TransformStream', 'TransformStreamDefaultController',
			 'ByteLengthQueuingStrategy', 'CountQueuingStrategy', 'TextDecoderStream', 'TextEncoderStream']);
	lazy('compression', ['CompressionStream', 'DecompressionStream']);
	lazy('performance', ['PerformanceEntry', 'PerformanceMark', 'PerformanceMeasure', 'PerformanceObserver',
			     'PerformanceObserverEntryList']);
	lazy('crypto', ['CryptoKey', 'SubtleCrypto']);
	lazy('navigator', ['Navigator']);
	lazy('navigator', ['navigator'], true);

	// The global scope as a target of events.
	for (const [name, count] of [['addEventListener', 2], ['removeEventListener', 2], ['dispatchEvent', 1]]) {
		const method = { [name](...values) {
			load('events');
			return apply(late.world[name], undefined, values);
		} }[name];
		defineProperty(method, 'length', { __proto__: null, value: count });
		put(globalThis, name, method);
	}
	put(globalThis, 'reportError', function reportError(error) {
		if (arguments.length === 0)
			throw new TypeError('reportError: the exception is missing');
		load('events');
		late.reportError(error);
	});
	put(globalThis, 'self', globalThis, false);
})
