// SPDX-License-Identifier: MIT
//
// later.js - the sources that a program may never need: they are compiled when something of them is first called.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). Their text is in the heap from the
// beginning, so that a restored program compiles that of the build that created it. It is a third of what starting costs.
(function (host, parts) {
	'use strict';

	const { apply, defineProperty, setPrototypeOf, put, objectIs } = parts.primordials;
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
})
