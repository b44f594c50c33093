// SPDX-License-Identifier: MIT
//
// shell.js - what a shell shows of a program: names that could be typed next, and what is pending.
//
// Called when it is first needed (later.js; primordials.js says what must not be used here). Must never throw, and never run a
// program's code to find names: no getter, no trap of a proxy.
(function (host, parts) {
	'use strict';

	const { list, ownKeys, descriptorOf, hasOwn, getPrototypeOf, stringSlice, stringStartsWith, regExpExec, Map, mapHas, mapSet,
		numberText, round, arrayJoin, toObject } = parts.primordials;
	const { pendingTimers } = parts;

	const MAX_PROTOTYPES = 100;
	const IDENTIFIER = /^[A-Za-z_$\x80-\uffff][\w$\x80-\uffff]*$/;
	// What the cursor stands behind: a name, and before it a chain of properties.
	const WORD = /[\w$\x80-\uffff]*$/;
	const NAME = /(\?\.|\.)?([A-Za-z_$\x80-\uffff][\w$\x80-\uffff]*)$/;
	const INDEX = /(?:\?\.)?\[(?:(\d+)|'([^'\\]*)'|"([^"\\]*)")\]$/;
	const STRING = /(?:'[^'\\]*'|"[^"\\]*"|`[^`\\]*`)$/;
	const KEYWORDS = ['async', 'await', 'break', 'case', 'catch', 'class', 'const', 'continue', 'debugger', 'default', 'delete', 'do',
			  'else', 'export', 'extends', 'false', 'finally', 'for', 'function', 'if', 'import', 'in', 'instanceof', 'let', 'new',
			  'null', 'return', 'static', 'super', 'switch', 'this', 'throw', 'true', 'try', 'typeof', 'var', 'void', 'while',
			  'with', 'yield'];

	const isProxy = (object) => host.kind(object) === 'Proxy';

	// A property, if it is there for whoever looks: { value }; undefined: it is not, or would have to be asked.
	function look(object, key) {
		for (let at = object, depth = 0; at !== null && depth < MAX_PROTOTYPES && !isProxy(at); at = getPrototypeOf(at), depth++) {
			const found = descriptorOf(at, key);
			if (found !== undefined)
				return hasOwn(found, 'value') ? found : undefined;
		}
		return undefined;
	}

	function variable(name) {
		if (name === 'this')
			return { __proto__: null, value: globalThis };
		const lexical = host.lexical(name);
		return lexical !== undefined ? { __proto__: null, value: lexical[0] } : look(globalThis, name);
	}

	// What "a.b['c']" is, without running anything. undefined: that cannot be told.
	function resolve(text) {
		const steps = list();
		let found;
		while (found === undefined && steps.length < 50) {
			const index = regExpExec(INDEX, text);
			const name = index === null ? regExpExec(NAME, text) : null;
			if (index !== null) {
				steps[steps.length] = index[1] ?? index[2] ?? index[3];
				text = stringSlice(text, 0, index.index);
			} else if (name !== null && name[1] !== undefined) {
				steps[steps.length] = name[2];
				text = stringSlice(text, 0, name.index);
			} else {
				found = name !== null ? variable(name[2]) : regExpExec(STRING, text) !== null ? { __proto__: null, value: '' } : undefined;
				if (found === undefined)
					return undefined;
			}
		}
		for (let i = steps.length - 1; i >= 0 && found !== undefined; i--)
			found = found.value === null || found.value === undefined ? undefined : look(toObject(found.value), steps[i]);
		return found;
	}

	function members(object, names, seen, prefix) {
		for (let at = object, depth = 0; at !== null && depth < MAX_PROTOTYPES && !isProxy(at); at = getPrototypeOf(at), depth++) {
			const keys = ownKeys(at);
			for (let i = 0; i < keys.length; i++)
				add(names, seen, keys[i], prefix);
		}
	}

	function add(names, seen, key, prefix) {
		if (typeof key !== 'string' || !stringStartsWith(key, prefix) || mapHas(seen, key) || regExpExec(IDENTIFIER, key) === null)
			return;
		mapSet(seen, key, true);
		names[names.length] = key;
	}

	// (what is before the cursor) -> lines: the part that is completed, then what it could become.
	function complete(text) {
		const word = regExpExec(WORD, text)[0];
		const before = stringSlice(text, 0, text.length - word.length);
		const names = list();
		const seen = new Map();
		names[0] = word;
		if (regExpExec(/(?:\?\.|\.)$/, before) !== null && regExpExec(/(?:^|[^.])\.\.\.$/, before) === null) {
			const base = resolve(stringSlice(before, 0, before.length - (regExpExec(/\?\.$/, before) !== null ? 2 : 1)));
			if (base !== undefined && base.value !== null && base.value !== undefined)
				members(toObject(base.value), names, seen, word);
		} else if (regExpExec(/^\d/, word) === null) {
			const lexical = host.lexical_names();
			for (let i = 0; i < lexical.length; i++)
				add(names, seen, lexical[i], word);
			members(globalThis, names, seen, word);
			for (let i = 0; i < KEYWORDS.length; i++)
				add(names, seen, KEYWORDS[i], word);
		}
		return arrayJoin(names, '\n');
	}

	// A line for each timer: its number, when it is due (ms from now), every how many ms, whether it keeps the program alive, and
	// the function with its place.
	function timers() {
		const pending = pendingTimers();
		const now = host.clock();
		const lines = list();
		for (let i = 0; i < pending.length; i++) {
			const timer = pending[i];
			const found = look(timer.callback, 'name');
			const name = found !== undefined && typeof found.value === 'string' && found.value !== '' ? found.value : '(anonymous)';
			lines[i] = timer.id + '\t' + (timer.due === undefined ? 'now' : numberText(round(timer.due - now), 10)) + '\t' +
				(timer.repeat ? numberText(timer.delay, 10) : '-') + '\t' + (timer.referenced ? '' : 'unref') + '\t' + name + '\t' +
				(host.place(timer.callback) ?? '');
		}
		return arrayJoin(lines, '\n');
	}

	parts.late.complete = complete;
	parts.late.timers = timers;
})
