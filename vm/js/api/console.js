// SPDX-License-Identifier: MIT
//
// console.js - the console.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). What is printed is on its way when a
// method returns; none of them throws because of what it is given.
(function (host, parts) {
	'use strict';

	const { Map, Error, mapGet, mapSet, mapHas, mapDelete, replaceAll, stringIndexOf, stringSlice, String, toFixed, toPrecision,
		toStringTag, defineProperty } = parts.primordials;
	const { inspect, simpleText, format, framesOf, table, notedStack, areFrames, mapped } = parts;

	const counts = new Map();
	const timers = new Map();
	let indent = '';

	function print(stream, text) {
		if (indent !== '')
			text = indent + replaceAll(text, '\n', '\n' + indent);
		host.write(stream, text + '\n');
	}

	function elapsed(label) {
		const started = mapGet(timers, label);
		if (started === undefined) {
			print(2, 'Warning: No such label \'' + label + '\' for console.time()');
			return undefined;
		}
		const spent = host.clock() - started;
		if (spent < 1000)
			return label + ': ' + (spent < 1 ? toFixed(spent, 3) : stringSlice(toPrecision(spent, 6), 0, 7)) + 'ms';
		return label + ': ' + (spent < 60000 ? toFixed(spent / 1000, 3) + 's' : toFixed(spent / 60000, 2) + 'm');
	}

	// Lines of text and numbers need no format(), and so no compilation of it.
	function textOf(values) {
		let text = '';
		for (let i = 0; i < values.length; i++) {
			const value = values[i];
			const simple = typeof value === 'string' ? value : simpleText(value);
			if (simple === undefined || (i === 0 && values.length > 1 && stringIndexOf(simple, '%') !== -1))
				return format(values);
			text += i === 0 ? simple : ' ' + simple;
		}
		return text;
	}

	// `text` is no format, and comes before the values.
	function withText(text, values) {
		for (let i = 0; i < values.length; i++)
			text += ' ' + (typeof values[i] === 'string' ? values[i] : inspect(values[i]));
		return text;
	}

	function group(values) {
		if (values.length > 0)
			print(1, textOf(values));
		indent += '  ';
	}

	const console = {
		log(...values) { print(1, textOf(values)); },
		info(...values) { print(1, textOf(values)); },
		debug(...values) { print(1, textOf(values)); },
		warn(...values) { print(2, textOf(values)); },
		error(...values) { print(2, textOf(values)); },
		trace(...values) {
			const stack = notedStack(new Error());
			print(2, 'Trace' + (values.length > 0 ? ': ' + textOf(values) : '') + (areFrames(stack) ? framesOf(mapped(stack)) : ''));
		},
		assert(condition, ...values) {
			if (condition)
				return;
			if (values.length > 0 && typeof values[0] === 'string')
				values[0] = 'Assertion failed: ' + values[0];
			print(2, values.length === 0 ? 'Assertion failed' :
				(typeof values[0] === 'string' ? '' : 'Assertion failed ') + textOf(values));
		},
		dir(value, options) { print(1, inspect(value, options)); },
		dirxml(...values) { print(1, textOf(values)); },
		table(data, only) {
			if (typeof data !== 'object' || data === null)
				return print(1, format([data]));
			let text;
			try {
				text = table(data, only);
			} catch {
				text = inspect(data);
			}
			return print(1, text);
		},
		group(...values) { group(values); },
		groupCollapsed(...values) { group(values); },
		groupEnd() { indent = stringSlice(indent, 2); },
		count(label = 'default') {
			label = String(label);
			const count = (mapGet(counts, label) ?? 0) + 1;
			mapSet(counts, label, count);
			print(1, label + ': ' + count);
		},
		countReset(label = 'default') {
			label = String(label);
			if (!mapDelete(counts, label))
				print(2, 'Warning: Count for \'' + label + '\' does not exist');
		},
		time(label = 'default') {
			label = String(label);
			if (mapHas(timers, label))
				print(2, 'Warning: Label \'' + label + '\' already exists for console.time()');
			else
				mapSet(timers, label, host.clock());
		},
		timeLog(label = 'default', ...values) {
			const text = elapsed(String(label));
			if (text !== undefined)
				print(1, withText(text, values));
		},
		timeEnd(label = 'default') {
			label = String(label);
			const text = elapsed(label);
			if (text !== undefined) {
				mapDelete(timers, label);
				print(1, text);
			}
		},
	};
	defineProperty(console, toStringTag, { __proto__: null, value: 'console', configurable: true });

	parts.console = console;
})
