// SPDX-License-Identifier: MIT
//
// inspect.js - inspect(), which renders any value for people.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). It follows node's util.inspect with its
// defaults (depth 2, 100 items, 80 columns), so that output looks as people expect. It must never throw and never run a getter,
// whatever object it is given: a program's log line is no reason to die.
(function (host, parts) {
	'use strict';

	const LINE = 80;
	const NESTED_ON_ONE_LINE = 3;
	const MAX_ITEMS = 100;
	const MAX_STRING = 10000;
	const MAX_PROTOTYPES = 1000; // a proxy can be its own prototype
	const MAX_DEPTH = 500; // what is asked for with { depth: null }: indentation makes deeper ones cubic in time

	const { apply, ownKeys, list, replaceAll, linesOf, getPrototypeOf, descriptorOf, hasOwn, objectIs, objectPrototype, objectTag,
		Map, Number, Uint8Array, arrayIsArray, arrayJoin, isError, functionText, isNaN, numberText, sqrt, round, floor, min,
		max, valueOf, stringIndexOf, stringSlice, stringStartsWith, stringEndsWith, stringCodeAt, stringCodePointAt,
		stringPadStart, stringPadEnd, stringRepeat, stringTrimEnd, stringToUpperCase, symbolText, regExpExec, regExpSource,
		regExpFlags, regExpPrototype, dateTime, dateText, mapGet, mapSet, mapSize, mapForEach, setSize, setForEach,
		weakRefDeref, bufferDetached, typedName, typedLength, viewBytes, viewOffset, viewBuffer, toStringTag } = parts.primordials;
	const { notedStack, areFrames, domState, explained, mapped } = parts;

	const includes = (text, part) => stringIndexOf(text, part) !== -1;
	const indented = (text, width) => width > 0 ? replaceAll(text, '\n', '\n' + stringRepeat(' ', width)) : text;

	// ---- Colours: node's ----

	const YELLOW = '\x1b[33m', GREEN = '\x1b[32m', CYAN = '\x1b[36m', GREY = '\x1b[90m', MAGENTA = '\x1b[35m', RED = '\x1b[31m',
		BOLD = '\x1b[1m';
	const colours = { __proto__: null, number: YELLOW, bigint: YELLOW, boolean: YELLOW, string: GREEN, symbol: GREEN,
			  undefined: GREY, null: BOLD, special: CYAN, date: MAGENTA, regexp: RED };

	const paint = (context, text, style) =>
		context.colors ? colours[style] + text + (style === 'null' ? '\x1b[22m' : '\x1b[39m') : text;

	// Without them: what is seen.
	function bare(context, text) {
		if (!context.colors)
			return text;
		let seen = '';
		let from = 0;
		for (let at; (at = stringIndexOf(text, '\x1b[', from)) !== -1; from = stringIndexOf(text, 'm', at) + 1)
			seen += stringSlice(text, from, at);
		return from === 0 ? text : seen + stringSlice(text, from);
	}

	// ---- Names, strings, keys ----

	const IDENTIFIER = /^[a-zA-Z_][a-zA-Z_0-9]*$/;
	const NEEDS_ESCAPE = /[\x00-\x1f\x27\x5c\x7f-\x9f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
	const ESCAPES = { __proto__: null, '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r', '\\': '\\\\',
			  '\v': '\\x0B' };

	function quote(text) {
		if (regExpExec(NEEDS_ESCAPE, text) === null)
			return "'" + text + "'";
		let mark = "'";
		if (includes(text, "'")) {
			if (!includes(text, '"'))
				mark = '"';
			else if (!includes(text, '`') && !includes(text, '${'))
				mark = '`';
		}
		let quoted = mark;
		for (let at = 0; at < text.length;) {
			const code = stringCodePointAt(text, at);
			const character = stringSlice(text, at, at += code > 0xffff ? 2 : 1);
			if (character === mark)
				quoted += '\\' + mark;
			else if (ESCAPES[character] !== undefined)
				quoted += ESCAPES[character];
			else if (code < 32 || (code >= 127 && code <= 159))
				quoted += '\\x' + stringPadStart(stringToUpperCase(numberText(code, 16)), 2, '0');
			else if (code >= 0xd800 && code <= 0xdfff)
				quoted += '\\u' + numberText(code, 16);
			else
				quoted += character;
		}
		return quoted + mark;
	}

	function keyText(context, key) {
		if (typeof key === 'symbol')
			return '[' + paint(context, symbolText(key), 'symbol') + ']';
		if (key === '__proto__')
			return "['__proto__']";
		return regExpExec(IDENTIFIER, key) !== null ? key : paint(context, quote(key), 'string');
	}

	const isData = (found) => found !== undefined && hasOwn(found, 'value');

	function dataOf(object, key) {
		const found = descriptorOf(object, key);
		return isData(found) ? found.value : undefined;
	}

	function lineage(object) {
		const all = list();
		for (let at = object; at !== null && all.length < MAX_PROTOTYPES; at = getPrototypeOf(at))
			all[all.length] = at;
		return all;
	}

	// The name of the class that made `object`; null without a prototype.
	function className(object) {
		const all = lineage(object);
		for (let i = 1; i < all.length; i++) {
			const maker = dataOf(all[i], 'constructor');
			if (typeof maker === 'function') {
				const name = dataOf(maker, 'name');
				if (typeof name === 'string' && name !== '')
					return name;
			}
		}
		return null;
	}

	// 'Map(2) ', 'Foo ', 'Object <Complex prototype> ': what stands before the brace.
	function prefix(name, fallback, tag, size = '') {
		const text = name === null ? '[' + fallback + size + ': null prototype] ' : name + size + ' ';
		return tag !== '' && tag !== name ? text + '[' + tag + '] ' : text;
	}

	function tagOf(object) {
		const all = lineage(object);
		for (let i = 0; i < all.length; i++) {
			const found = descriptorOf(all[i], toStringTag);
			if (found !== undefined) // one's own that is enumerable is shown with the properties
				return isData(found) && typeof found.value === 'string' && !(i === 0 && found.enumerable) ? found.value : '';
		}
		return '';
	}

	// ---- Values ----

	function primitive(context, value, nested) {
		if (typeof value === 'symbol')
			return paint(context, symbolText(value), 'symbol');
		if (typeof value === 'bigint')
			return paint(context, value + 'n', 'bigint');
		if (typeof value !== 'string')
			return paint(context, objectIs(value, -0) ? '-0' : '' + value, value === null ? 'null' : typeof value);
		let text = value;
		let trailer = '';
		if (text.length > MAX_STRING) {
			const rest = text.length - MAX_STRING;
			text = stringSlice(text, 0, MAX_STRING);
			trailer = '... ' + rest + ' more character' + (rest > 1 ? 's' : '');
		}
		if (!nested || text.length <= 16 || text.length <= LINE - context.indentation - 4 || !includes(text, '\n'))
			return paint(context, quote(text), 'string') + trailer;
		const lines = linesOf(text);
		for (let i = 0; i < lines.length; i++)
			lines[i] = i < lines.length - 1 ? lines[i] + '\n' : lines[i];
		if (lines[lines.length - 1] === '')
			lines.length--;
		for (let i = 0; i < lines.length; i++)
			lines[i] = paint(context, quote(lines[i]), 'string');
		return arrayJoin(lines, ' +\n' + stringRepeat(' ', context.indentation + 2)) + trailer;
	}

	function isSeen(context, value) {
		for (let i = 0; i < context.seen.length; i++)
			if (context.seen[i] === value)
				return true;
		return false;
	}

	function render(context, value, depth, nested) {
		if ((typeof value !== 'object' && typeof value !== 'function') || value === null)
			return primitive(context, value, nested);
		try {
			if (isSeen(context, value)) {
				let index = mapGet(context.circular, value);
				if (index === undefined)
					mapSet(context.circular, value, index = mapSize(context.circular) + 1);
				return paint(context, '[Circular *' + index + ']', 'special');
			}
			return renderObject(context, value, depth);
		} catch (error) {
			// A proxy whose traps throw, a revoked one, or no stack left.
			return '<object that cannot be inspected>';
		}
	}

	function properties(value, form) {
		const keys = list();
		const all = ownKeys(value);
		for (let i = 0; i < all.length; i++) {
			const key = all[i];
			if (form.skipIndexes && typeof key === 'string' && isIndex(key))
				continue;
			if (form.hide && (key === 'stack' || key === 'message' || key === 'name'))
				continue;
			const found = descriptorOf(value, key);
			if (found !== undefined && found.enumerable)
				keys[keys.length] = key;
		}
		return keys;
	}

	function isIndex(key) {
		const number = key >>> 0;
		return '' + number === key && number !== 0xffffffff;
	}

	function functionBase(value, name, tag) {
		const text = functionText(value);
		const own = dataOf(value, 'name');
		const called = typeof own === 'string' && own !== '' ? own : '';
		if (stringStartsWith(text, 'class') && stringEndsWith(text, '}')) {
			const parent = getPrototypeOf(value);
			let base = '[class ' + (called === '' ? '(anonymous)' : called);
			if (name !== 'Function' && name !== null)
				base += ' [' + name + ']';
			if (parent === null)
				base += ' extends null';
			else if (typeof dataOf(parent, 'name') === 'string' && dataOf(parent, 'name') !== '')
				base += ' extends ' + dataOf(parent, 'name');
			return base + ']';
		}
		const kind = tag === '' ? 'Function' : tag;
		let base = '[' + kind + (name === null ? ' (null prototype)' : '');
		base += called === '' ? ' (anonymous)]' : ': ' + called + ']';
		if (name !== kind && name !== null && name !== 'Function')
			base += ' ' + name;
		return base;
	}

	// ---- Errors ----

	const isFrame = (line) => stringStartsWith(stringTrimEnd(line), '    at ');
	const isOurs = (line) => line !== undefined && includes(line, '(thaw:');

	// Frames of our own prelude, and the native calls that they make, say nothing to a program's author.
	function framesOf(text) {
		const lines = linesOf(text);
		let frames = '';
		for (let i = 0; i < lines.length; i++)
			if (lines[i] !== '' && !isOurs(lines[i]) &&
			    !(stringEndsWith(lines[i], ' (native)') && i + 1 < lines.length && isOurs(lines[i + 1])))
				frames += '\n' + lines[i];
		return frames;
	}

	// A value that no getter has to be asked for.
	function plainOf(object, key) {
		const all = lineage(object);
		for (let i = 0; i < all.length; i++) {
			const found = descriptorOf(all[i], key);
			if (found !== undefined)
				return isData(found) ? found.value : undefined;
		}
		return undefined;
	}

	function errorText(error) {
		const { name, message } = domState(error) ?? { __proto__: null, name: plainOf(error, 'name'),
							       message: plainOf(error, 'message') };
		const called = typeof name === 'string' ? name : 'Error';
		const made = className(error);
		let stack = plainOf(error, 'stack') ?? notedStack(error);
		let head = called;
		let frames = '';
		const said = areFrames(stack) ? explained?.(error, stack) ?? message : message;
		if (typeof said === 'string' && said !== '')
			head = called === '' ? said : called + ': ' + said;
		if (areFrames(stack)) {
			frames = framesOf(mapped?.(stack) ?? stack);
		} else if (typeof stack === 'string' && stack !== '') {
			// Put together before: it has its own head.
			const begin = isFrame(stack) ? 0 : stringIndexOf(stack, '\n    at ');
			head = begin === -1 ? stack : stringSlice(stack, 0, begin);
			frames = begin === -1 ? '' : framesOf(stringSlice(stack, begin === 0 ? 0 : begin + 1));
		}
		// The name of its class, where that says more, as node does.
		if (made !== null && made !== called && stringEndsWith(called, 'Error') && stringStartsWith(head, called) &&
		    (head.length === called.length || includes(':\n', stringSlice(head, called.length, called.length + 1))))
			head = (includes(made, called) ? made : made + ' [' + called + ']') + stringSlice(head, called.length);
		if (frames === '')
			return '[' + head + ']';
		return head === '' ? stringSlice(frames, 1) : head + frames;
	}

	// What is special about an object: { base, open, close, entries, list, skipIndexes, hide, leaf }.
	function shape(context, value) {
		const prototype = getPrototypeOf(value);
		const name = className(value);
		const tag = tagOf(value);
		if (arrayIsArray(value)) {
			const open = name === 'Array' && tag === '' ? '[' : prefix(name, 'Array', tag, '(' + value.length + ')') + '[';
			return { __proto__: null, open, close: ']', list: true, skipIndexes: true, entries: arrayEntries };
		}
		if (prototype === objectPrototype && tag === '' && typeof value !== 'function' && !isError(value)) {
			if (!hasOwn(value, toStringTag) && !hasOwn(objectPrototype, toStringTag) && objectTag(value) === '[object Arguments]')
				return { __proto__: null, open: '[Arguments] {', close: '}' };
			return { __proto__: null, open: '{', close: '}' };
		}
		if (typeof value === 'function')
			return { __proto__: null, base: paint(context, functionBase(value, name, tag), 'special'), open: '{', close: '}' };
		if (isError(value))
			return { __proto__: null, base: indented(errorText(value), context.indentation), open: '{', close: '}', hide: true,
				 entries: causeEntries };
		const typed = typedName(value);
		if (typed !== undefined) {
			const open = prefix(name, typed, tag === typed ? '' : tag, '(' + typedLength(value) + ')') + '[';
			return { __proto__: null, open, close: ']', list: true, skipIndexes: true, entries: typedEntries };
		}
		return shapeOfKind(context, value, host.kind(value), prototype, name, tag);
	}

	// What the engine has a class of its own for.
	function shapeOfKind(context, value, kind, prototype, name, tag) {
		const made = (open, entries) => ({ __proto__: null, open: open + '{', close: '}', entries });
		const written = (text, style) => ({ __proto__: null, base: paint(context, name === kind ? text : prefix(name, kind, tag) + text, style),
						    open: '{', close: '}' });
		switch (kind) {
		case 'Map':
			return made(prefix(name, kind, name === kind && tag === kind ? '' : tag, '(' + mapSize(value) + ')'), mapEntries);
		case 'Set':
			return made(prefix(name, kind, name === kind && tag === kind ? '' : tag, '(' + setSize(value) + ')'), setEntries);
		case 'RegExp':
			if (value !== regExpPrototype)
				return written(regExpText(value), 'regexp');
			break;
		case 'Date':
			return written(isNaN(dateTime(value)) ? 'Invalid Date' : dateText(value), 'date');
		case 'Promise':
			return made(prefix(name, kind, tag), promiseEntries);
		case 'ArrayBuffer':
		case 'SharedArrayBuffer':
			return made(prefix(name, 'ArrayBuffer', tag === name ? '' : tag), bufferEntries);
		case 'DataView':
			return made(prefix(name, kind, tag), viewEntries);
		case 'WeakMap':
		case 'WeakSet':
			return made(prefix(name, 'WeakSet', tag === name ? '' : tag), unknownEntries);
		case 'WeakRef':
			return { __proto__: null, open: prefix(name, kind, tag) + '{', close: '}', entries: weakRefEntries,
				 leaf: weakRefDeref(value) === undefined };
		case 'Number':
		case 'String':
		case 'Boolean':
		case 'BigInt':
		case 'Symbol':
			if (tag === '' || tag === 'Symbol' || tag === 'BigInt') {
				const text = primitive(PLAIN, valueOf[kind](value), false);
				return { __proto__: null, base: paint(context, '[' + kind + (name === kind ? '' : ' (' + name + ')') + ': ' + text + ']',
								      typeof valueOf[kind](value)),
					 open: '{', close: '}', skipIndexes: kind === 'String' };
			}
		}
		if (tag === 'Map Iterator' || tag === 'Set Iterator')
			return made('[' + tag + '] ', unknownEntries);
		if (tag === 'Module' && prototype === null)
			return made('[Module: null prototype] ', undefined);
		return made(name === 'Object' && tag === '' ? '' : prefix(name, 'Object', tag), undefined);
	}

	// Not its toString(): that asks the object itself, which may have getters for an answer.
	function regExpText(value) {
		let flags = '';
		for (let i = 0; i < regExpFlags.length; i++)
			if (regExpFlags[i].has(value))
				flags += regExpFlags[i].flag;
		return '/' + regExpSource(value) + '/' + flags;
	}

	function arrayEntries(context, value, depth) {
		const output = list();
		const length = value.length;
		let index = 0;
		let indexes;
		let at = 0;
		for (; index < length && output.length < MAX_ITEMS; index++) {
			const found = descriptorOf(value, index);
			if (found !== undefined) {
				output[output.length] = propertyValue(context, found, depth, 2);
				continue;
			}
			// An array may have 2^32 holes: look for the next item among those that are there.
			indexes ??= indexesOf(value);
			while (at < indexes.length && indexes[at] <= index)
				at++;
			const next = at < indexes.length ? min(indexes[at], length) : length;
			output[output.length] = paint(context, '<' + (next - index) + ' empty item' + (next - index > 1 ? 's>' : '>'), 'undefined');
			index = next - 1;
		}
		return more(output, length - index);
	}

	function indexesOf(array) {
		const indexes = list();
		const keys = ownKeys(array);
		for (let i = 0; i < keys.length; i++)
			if (typeof keys[i] === 'string' && isIndex(keys[i]))
				indexes[indexes.length] = Number(keys[i]);
		return indexes;
	}

	function typedEntries(context, value) {
		const all = typedLength(value);
		const length = min(all, MAX_ITEMS);
		const output = list();
		for (let index = 0; index < length; index++)
			output[index] = primitive(context, value[index], true);
		return more(output, all - length);
	}

	function more(output, rest) {
		if (rest > 0)
			output[output.length] = '... ' + rest + ' more item' + (rest > 1 ? 's' : '');
		return output;
	}

	function mapEntries(context, value, depth) {
		const output = list();
		context.indentation += 2;
		mapForEach(value, (item, key) => {
			if (output.length < MAX_ITEMS)
				output[output.length] = render(context, key, depth + 1, true) + ' => ' + render(context, item, depth + 1, true);
		});
		context.indentation -= 2;
		return more(output, mapSize(value) - output.length);
	}

	function setEntries(context, value, depth) {
		const output = list();
		context.indentation += 2;
		setForEach(value, (item) => {
			if (output.length < MAX_ITEMS)
				output[output.length] = render(context, item, depth + 1, true);
		});
		context.indentation -= 2;
		return more(output, setSize(value) - output.length);
	}

	function listOf(first, second, third) {
		const output = list();
		output[0] = first;
		if (second !== undefined)
			output[1] = second;
		if (third !== undefined)
			output[2] = third;
		return output;
	}

	function unknownEntries(context) {
		return listOf(paint(context, '<items unknown>', 'special'));
	}

	function promiseEntries(context, value, depth) {
		const state = host.promise(value);
		if (state[0] === 'pending')
			return listOf(paint(context, '<pending>', 'special'));
		context.indentation += 2;
		const text = render(context, state[1], depth + 1, true);
		context.indentation -= 2;
		return listOf(state[0] === 'rejected' ? paint(context, '<rejected>', 'special') + ' ' + text : text);
	}

	function bufferEntries(context, value) {
		if (host.kind(value) === 'ArrayBuffer' && bufferDetached(value))
			return listOf(paint(context, '(detached)', 'special'), 'byteLength: ' + primitive(context, 0, true));
		const bytes = new Uint8Array(value);
		const length = typedLength(bytes);
		const shown = min(length, 50);
		let text = '';
		for (let index = 0; index < shown; index++)
			text += (index === 0 ? '' : ' ') + stringPadStart(numberText(bytes[index], 16), 2, '0');
		if (length > shown)
			text += ' ... ' + (length - shown) + ' more byte' + (length - shown > 1 ? 's' : '');
		return listOf(paint(context, '[Uint8Contents]', 'special') + ': <' + text + '>', 'byteLength: ' + primitive(context, length, true));
	}

	function viewEntries(context, value, depth) {
		context.indentation += 2;
		const buffer = render(context, viewBuffer(value), depth + 1, true);
		context.indentation -= 2;
		return listOf('byteLength: ' + primitive(context, viewBytes(value), true), 'byteOffset: ' + primitive(context, viewOffset(value), true),
			'buffer: ' + buffer);
	}

	function weakRefEntries(context, value, depth) {
		const target = weakRefDeref(value);
		return listOf(target === undefined ? paint(context, '<cleared>', 'special') : render(context, target, depth + 1, true));
	}

	// `cause` and `errors` are not enumerable, and worth more than all the rest.
	function causeEntries(context, value, depth) {
		const output = list();
		for (let i = 0; i < 2; i++) {
			const key = i === 0 ? 'cause' : 'errors';
			const found = descriptorOf(value, key);
			if (found !== undefined && !found.enumerable)
				output[output.length] = '[' + key + ']: ' + propertyValue(context, found, depth, 2);
		}
		return output;
	}

	function propertyValue(context, found, depth, indentation) {
		if (!hasOwn(found, 'value')) {
			if (found.get !== undefined)
				return paint(context, found.set !== undefined ? '[Getter/Setter]' : '[Getter]', 'special');
			return found.set !== undefined ? paint(context, '[Setter]', 'special') : paint(context, 'undefined', 'undefined');
		}
		context.indentation += indentation;
		const text = render(context, found.value, depth + 1, true);
		context.indentation -= indentation;
		return text;
	}

	function lengthOf(values) {
		return arrayIsArray(values) ? values.length : typedLength(values);
	}

	function isEmpty(value, form, keys) {
		if (keys.length > 0)
			return false;
		return form.entries === undefined || (form.list === true && lengthOf(value) === 0) ||
			(form.entries === mapEntries && mapSize(value) === 0) ||
			(form.entries === setEntries && setSize(value) === 0);
	}

	// Where the depth is used up.
	function abbreviation(value) {
		const name = arrayIsArray(value) ? 'Array' : stringTrimEnd(prefix(className(value), 'Object', tagOf(value)));
		return name === '[Object: null prototype]' ? name : '[' + name + ']';
	}

	function renderObject(context, value, depth) {
		const form = shape(context, value);
		const keys = properties(value, form);
		const hidden = depth > context.depth && !form.leaf && !isEmpty(value, form, keys);
		if (hidden && form.base === undefined)
			return paint(context, abbreviation(value), 'special');
		if (hidden && form.hide)
			return form.base;
		context.seen[context.seen.length] = value;
		if (!isEmpty(value, form, keys))
			context.current = depth;
		let output = list();
		try {
			if (form.entries !== undefined)
				output = form.entries(context, value, depth);
			const special = form.hide ? output : undefined;
			if (special !== undefined)
				output = list();
			for (let i = 0; i < keys.length && i < 1000; i++) {
				const found = descriptorOf(value, keys[i]);
				if (found !== undefined)
					output[output.length] = keyText(context, keys[i]) + ': ' + propertyValue(context, found, depth, 2);
			}
			more(output, keys.length - 1000);
			for (let i = 0; special !== undefined && i < special.length; i++)
				output[output.length] = special[i];
		} finally {
			context.seen.length--;
		}
		let base = form.base ?? '';
		let open = form.open;
		const index = mapGet(context.circular, value);
		if (index !== undefined) {
			const reference = paint(context, '<ref *' + index + '>', 'special') + ' ';
			if (base === '')
				open = reference + open;
			else
				base = reference + base;
		}
		if (output.length === 0)
			return base !== '' ? base : open + form.close;
		return layout(context, output, base, open, form.close, depth, form.list === true ? value : undefined);
	}

	// ---- Lines ----

	// Columns on a terminal: wide characters take two, combining ones none. The host has the table.
	const columnsOf = host.width;
	const width = (text) => {
		for (let at = 0; at < text.length; at++) {
			if (text[at] < ' ' || text[at] > '~')
				return columnsOf(text);
		}
		return text.length;
	};

	// Several short items of a long list on each line, in columns.
	function columns(context, output, values) {
		let total = 0;
		let longest = 0;
		const lengths = list();
		const count = lengthOf(values) > MAX_ITEMS && output.length > MAX_ITEMS ? output.length - 1 : output.length;
		for (let index = 0; index < count; index++) {
			lengths[index] = width(bare(context, output[index]));
			total += lengths[index] + 2;
			longest = max(longest, lengths[index]);
		}
		const widest = longest + 2;
		if (widest * 3 + context.indentation >= LINE || (total / widest <= 5 && longest > 6))
			return output;
		const bias = sqrt(widest - total / output.length);
		const biased = max(widest - 3 - bias, 1);
		const across = min(min(round(sqrt(2.5 * biased * count) / biased), floor((LINE - context.indentation) / widest)),
				   NESTED_ON_ONE_LINE * 4); // which is less than node's bound of 15
		if (across <= 1)
			return output;
		const widths = list();
		for (let column = 0; column < across; column++) {
			let most = 0;
			for (let index = column; index < count; index += across)
				most = max(most, lengths[index]);
			widths[column] = most + 2;
		}
		let right = true; // numbers are aligned on the right
		for (let index = 0; right && index < output.length; index++) {
			const type = typeof dataOf(values, index);
			right = type === 'number' || type === 'bigint';
		}
		const lines = list();
		for (let start = 0; start < count; start += across) {
			const end = min(start + across, count);
			let line = '';
			let index = start;
			for (; index < end - 1; index++) {
				const cell = output[index] + ', ';
				const padded = widths[index - start] + output[index].length - lengths[index];
				line += right ? stringPadStart(cell, padded) : stringPadEnd(cell, padded);
			}
			line += right ? stringPadStart(output[index], widths[index - start] - 2 + output[index].length - lengths[index]) :
				output[index];
			lines[lines.length] = line;
		}
		if (count < output.length)
			lines[lines.length] = output[count];
		return lines;
	}

	function fitsOnOneLine(context, output, base, open) {
		let total = 2 * output.length + context.indentation + bare(context, open).length + bare(context, base).length + 10;
		for (let i = 0; i < output.length; i++) {
			total += bare(context, output[i]).length;
			if (total > LINE || includes(output[i], '\n'))
				return false;
		}
		return total <= LINE && !includes(base, '\n');
	}

	function layout(context, output, base, open, close, depth, values) {
		const entries = output.length;
		if (values !== undefined && entries > 6)
			output = columns(context, output, values);
		const lead = base === '' ? '' : base + ' ';
		if (context.current - depth < NESTED_ON_ONE_LINE && entries === output.length && fitsOnOneLine(context, output, base, open))
			return lead + open + ' ' + arrayJoin(output, ', ') + ' ' + close;
		const newline = '\n' + stringRepeat(' ', context.indentation);
		return lead + open + newline + '  ' + arrayJoin(output, ',' + newline + '  ') + newline + close;
	}

	const PLAIN = { __proto__: null, indentation: 0, colors: false };
	const NO_OPTIONS = { __proto__: null, depth: undefined };

	function inspect(value, options = NO_OPTIONS) {
		const depth = options?.depth;
		const context = { depth: depth === null ? MAX_DEPTH : min(depth ?? 2, MAX_DEPTH), indentation: 0, current: 0, seen: list(),
				  circular: new Map(), colors: options?.colors === true };
		return render(context, value, 0, false);
	}

	parts.late.inspect = inspect;
	parts.late.framesOf = framesOf;
	parts.late.width = width;
	parts.late.primitiveText = (value) => primitive(PLAIN, value, false);
	parts.late.dataOf = dataOf;
	parts.late.lineage = lineage;
})
