// SPDX-License-Identifier: MIT
//
// console.js - inspect(), which renders any value for people, and the console that prints it.
//
// One function expression, called once in a fresh VM by prelude.js's caller with the host functions; what it returns lives in the
// heap for ever. It follows node's util.inspect with its defaults (depth 2, 100 items, 80 columns), so that output looks as
// people expect. It must never throw and never run a getter, whatever object it is given: a program's log line is no reason to die.
(function (host) {
	'use strict';

	const LINE = 80;
	const NESTED_ON_ONE_LINE = 3;
	const MAX_ITEMS = 100;
	const MAX_STRING = 10000;
	const MAX_PROTOTYPES = 1000; // a proxy can be its own prototype
	const MAX_DEPTH = 500; // what is asked for with { depth: null }: indentation makes deeper ones cubic in time

	const { getPrototypeOf, getOwnPropertyDescriptor, prototype: objectPrototype } = Object;
	const { ownKeys, apply } = Reflect;
	const { isArray } = Array;
	const hasOwn = Object.hasOwn;
	const isError = Error.isError ?? ((value) => value instanceof Error);
	const getter = (prototype, key) => getOwnPropertyDescriptor(prototype, key).get;
	const TypedArray = getPrototypeOf(Uint8Array);
	const typedArrayName = getter(TypedArray.prototype, Symbol.toStringTag);
	const mapSize = getter(Map.prototype, 'size');
	const setSize = getter(Set.prototype, 'size');
	const mapForEach = Map.prototype.forEach;
	const setForEach = Set.prototype.forEach;
	const arrayBufferLength = getter(ArrayBuffer.prototype, 'byteLength');
	const arrayBufferDetached = getter(ArrayBuffer.prototype, 'detached');
	const sharedArrayBufferLength = getter(SharedArrayBuffer.prototype, 'byteLength');
	const dataViewLength = getter(DataView.prototype, 'byteLength');
	const dateTime = Date.prototype.getTime;
	const dateText = Date.prototype.toISOString;
	const regExpSource = getter(RegExp.prototype, 'source');
	const regExpFlags = Object.entries({ hasIndices: 'd', global: 'g', ignoreCase: 'i', multiline: 'm', dotAll: 's', unicode: 'u',
					     unicodeSets: 'v', sticky: 'y' }).map(([key, flag]) => [getter(RegExp.prototype, key), flag]);
	const functionText = Function.prototype.toString;
	const objectTag = objectPrototype.toString;
	const typedLength = getter(TypedArray.prototype, 'length');
	const errorStack = getOwnPropertyDescriptor(Error.prototype, 'stack')?.get;
	const weakMapHas = WeakMap.prototype.has;
	const weakSetHas = WeakSet.prototype.has;
	const weakRefDeref = WeakRef.prototype.deref;

	// Does `probe`, a method that checks what its receiver is, accept this one?
	function accepts(probe, value, argument) {
		try {
			apply(probe, value, argument === undefined ? [] : [argument]);
			return true;
		} catch {
			return false;
		}
	}

	// ---- Names, strings, keys ----

	const IDENTIFIER = /^[a-zA-Z_][a-zA-Z_0-9]*$/;
	const NEEDS_ESCAPE = /[\x00-\x1f\x27\x5c\x7f-\x9f]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/;
	const ESCAPES = { '\b': '\\b', '\t': '\\t', '\n': '\\n', '\f': '\\f', '\r': '\\r', '\\': '\\\\', '\v': '\\x0B' };

	function quote(text) {
		if (!NEEDS_ESCAPE.test(text))
			return `'${text}'`;
		let mark = "'";
		if (text.includes("'")) {
			if (!text.includes('"'))
				mark = '"';
			else if (!text.includes('`') && !text.includes('${'))
				mark = '`';
		}
		let quoted = mark;
		for (const character of text) {
			const code = character.codePointAt(0);
			if (character === mark)
				quoted += '\\' + mark;
			else if (ESCAPES[character] !== undefined)
				quoted += ESCAPES[character];
			else if (code < 32 || (code >= 127 && code <= 159))
				quoted += '\\x' + code.toString(16).toUpperCase().padStart(2, '0');
			else if (code >= 0xd800 && code <= 0xdfff)
				quoted += '\\u' + code.toString(16);
			else
				quoted += character;
		}
		return quoted + mark;
	}

	function keyText(key) {
		if (typeof key === 'symbol')
			return `[${symbolText(key)}]`;
		if (key === '__proto__')
			return "['__proto__']";
		return IDENTIFIER.test(key) ? key : quote(key);
	}

	function symbolText(symbol) {
		return Symbol.prototype.toString.call(symbol);
	}

	function dataOf(object, key) {
		const found = getOwnPropertyDescriptor(object, key);
		return found !== undefined && hasOwn(found, 'value') ? found.value : undefined;
	}

	function lineage(object) {
		const all = [];
		for (let at = object; at !== null && all.length < MAX_PROTOTYPES; at = getPrototypeOf(at))
			all.push(at);
		return all;
	}

	// The name of the class that made `object`; null without a prototype.
	function className(object) {
		for (const at of lineage(object)) {
			const maker = dataOf(at, 'constructor');
			if (typeof maker === 'function') {
				const name = dataOf(maker, 'name');
				if (typeof name === 'string' && name !== '' && at !== object)
					return name;
			}
		}
		return null;
	}

	// 'Map(2) ', 'Foo ', 'Object <Complex prototype> ': what stands before the brace.
	function prefix(name, fallback, tag, size = '') {
		let text = name === null ? `[${fallback}${size}: null prototype] ` : `${name}${size} `;
		if (tag !== '' && tag !== name)
			text += `[${tag}] `;
		return text;
	}

	function tagOf(object) {
		for (const at of lineage(object)) {
			const found = getOwnPropertyDescriptor(at, Symbol.toStringTag);
			if (found !== undefined) // one's own that is enumerable is shown with the properties
				return typeof found.value === 'string' && !(at === object && found.enumerable) ? found.value : '';
		}
		return '';
	}

	// ---- Values ----

	function primitive(context, value, nested) {
		switch (typeof value) {
		case 'string': {
			let text = value;
			let trailer = '';
			if (text.length > MAX_STRING) {
				const rest = text.length - MAX_STRING;
				text = text.slice(0, MAX_STRING);
				trailer = `... ${rest} more character${rest > 1 ? 's' : ''}`;
			}
			if (nested && text.length > 16 && text.length > LINE - context.indentation - 4 && text.includes('\n'))
				return text.split(/(?<=\n)/).map(quote).join(' +\n' + ' '.repeat(context.indentation + 2)) + trailer;
			return quote(text) + trailer;
		}
		case 'number':
			return Object.is(value, -0) ? '-0' : `${value}`;
		case 'bigint':
			return `${value}n`;
		case 'symbol':
			return symbolText(value);
		default:
			return `${value}`;
		}
	}

	function render(context, value, depth, nested) {
		if ((typeof value !== 'object' && typeof value !== 'function') || value === null)
			return primitive(context, value, nested);
		try {
			if (context.seen.includes(value)) {
				let index = context.circular.get(value);
				if (index === undefined)
					context.circular.set(value, index = context.circular.size + 1);
				return `[Circular *${index}]`;
			}
			return renderObject(context, value, depth);
		} catch (error) {
			// A proxy whose traps throw, a revoked one, or no stack left.
			return '<object that cannot be inspected>';
		}
	}

	function properties(value, skipIndexes) {
		const keys = [];
		for (const key of ownKeys(value)) {
			if (skipIndexes && typeof key === 'string' && isIndex(key))
				continue;
			const found = getOwnPropertyDescriptor(value, key);
			if (found !== undefined && found.enumerable)
				keys.push(key);
		}
		return keys;
	}

	function isIndex(key) {
		const number = key >>> 0;
		return `${number}` === key && number !== 0xffffffff;
	}

	function functionBase(value, name, tag) {
		const text = functionText.call(value);
		const own = dataOf(value, 'name');
		const called = typeof own === 'string' && own !== '' ? own : '';
		if (text.startsWith('class') && text.endsWith('}')) {
			const parent = getPrototypeOf(value);
			let base = `[class ${called === '' ? '(anonymous)' : called}`;
			if (name !== 'Function' && name !== null)
				base += ` [${name}]`;
			if (parent === null)
				base += ' extends null';
			else if (typeof dataOf(parent, 'name') === 'string' && dataOf(parent, 'name') !== '')
				base += ` extends ${dataOf(parent, 'name')}`;
			return base + ']';
		}
		let kind = tag === '' ? 'Function' : tag;
		let base = `[${kind}${name === null ? ' (null prototype)' : ''}`;
		base += called === '' ? ' (anonymous)]' : `: ${called}]`;
		if (name !== kind && name !== null && name !== 'Function')
			base += ` ${name}`;
		return base;
	}

	// Frames of our own prelude, and the native call that they make, say nothing to a program's author.
	function framesOf(stack) {
		const lines = stack.split('\n');
		const ours = (line) => line !== undefined && line.includes('(thaw:');
		return lines.filter((line, index) => line !== '' && !ours(line) &&
			!(line.endsWith(' apply (native)') && ours(lines[index + 1])));
	}

	function errorText(error) {
		const part = (key) => {
			for (const at of lineage(error)) {
				const found = getOwnPropertyDescriptor(at, key);
				if (found !== undefined)
					return hasOwn(found, 'value') ? found.value :
						key === 'stack' && found.get === errorStack ? apply(errorStack, error, []) : undefined;
			}
			return undefined;
		};
		let name = part('name');
		const message = part('message');
		const stack = part('stack');
		const made = className(error);
		if (typeof name !== 'string')
			name = 'Error';
		if (name === 'Error' && made !== null && made !== 'Error')
			name = made;
		let head = name;
		if (typeof message === 'string' && message !== '')
			head = name === '' ? message : `${name}: ${message}`;
		if (typeof stack !== 'string')
			return `[${head}]`;
		const frames = framesOf(stack);
		if (frames.length > 0 && !/^\s*at /.test(frames[0]))
			return frames.join('\n'); // somebody wrote the stack by hand: it has its own head
		return frames.length === 0 ? `[${head}]` : `${head}\n${frames.join('\n')}`;
	}

	function boxed(value) {
		for (const Type of [Number, String, Boolean, BigInt, Symbol]) {
			if (accepts(Type.prototype.valueOf, value))
				return [Type.name, Type.prototype.valueOf.call(value)];
		}
		return undefined;
	}

	// What is special about an object: {base, open, close, entries, keys, list}.
	function shape(context, value) {
		const prototype = getPrototypeOf(value);
		const name = className(value);
		let tag = tagOf(value);
		if (isArray(value)) {
			const open = (name === 'Array' && tag === '') ? '[' : `${prefix(name, 'Array', tag, `(${value.length})`)}[`;
			return { open, close: ']', list: true, skipIndexes: true, entries: arrayEntries };
		}
		if (prototype === objectPrototype && tag === '' && typeof value !== 'function' && !isError(value)) {
			if (!hasOwn(value, Symbol.toStringTag) && !hasOwn(objectPrototype, Symbol.toStringTag) &&
			    apply(objectTag, value, []) === '[object Arguments]')
				return { open: '[Arguments] {', close: '}' };
			return { open: '{', close: '}' };
		}
		if (typeof value === 'function')
			return { base: functionBase(value, name, tag), open: '{', close: '}' };
		if (isError(value)) {
			let base = errorText(value);
			if (context.indentation > 0)
				base = base.replaceAll('\n', '\n' + ' '.repeat(context.indentation));
			return { base, open: '{', close: '}', hide: ['stack', 'message', 'name'], entries: causeEntries };
		}
		const typed = typedArrayName.call(value);
		if (typed !== undefined) {
			const open = `${prefix(name, typed, tag === typed ? '' : tag, `(${typedLength.call(value)})`)}[`;
			return { open, close: ']', list: true, skipIndexes: true, entries: typedEntries };
		}
		if (accepts(mapSize, value))
			return { open: `${prefix(name, 'Map', name === 'Map' && tag === 'Map' ? '' : tag, `(${mapSize.call(value)})`)}{`, close: '}',
				 entries: mapEntries };
		if (accepts(setSize, value))
			return { open: `${prefix(name, 'Set', name === 'Set' && tag === 'Set' ? '' : tag, `(${setSize.call(value)})`)}{`, close: '}',
				 entries: setEntries };
		if (accepts(regExpSource, value) && value !== RegExp.prototype) {
			// Not its toString(): that asks the object itself, which may have getters for an answer.
			const flags = regExpFlags.map(([has, flag]) => apply(has, value, []) ? flag : '').join('');
			const text = `/${apply(regExpSource, value, [])}/${flags}`;
			return { base: name === 'RegExp' ? text : prefix(name, 'RegExp', tag) + text, open: '{', close: '}' };
		}
		if (accepts(dateTime, value)) {
			const text = Number.isNaN(dateTime.call(value)) ? 'Invalid Date' : dateText.call(value);
			return { base: name === 'Date' ? text : prefix(name, 'Date', tag) + text, open: '{', close: '}' };
		}
		const promise = host.promise(value);
		if (promise !== undefined)
			return { open: `${prefix(name, 'Promise', tag)}{`, close: '}',
				 entries: (...parts) => promiseEntries(promise, ...parts) };
		if (accepts(arrayBufferLength, value) || accepts(sharedArrayBufferLength, value))
			return { open: `${prefix(name, 'ArrayBuffer', tag === name ? '' : tag)}{`, close: '}', entries: bufferEntries };
		if (accepts(dataViewLength, value))
			return { open: `${prefix(name, 'DataView', tag)}{`, close: '}', entries: viewEntries };
		if (accepts(weakMapHas, value, {}) || accepts(weakSetHas, value, {}))
			return { open: `${prefix(name, 'WeakSet', tag === name ? '' : tag)}{`, close: '}',
				 entries: () => ['<items unknown>'] };
		if (accepts(weakRefDeref, value))
			return { open: `${prefix(name, 'WeakRef', tag)}{`, close: '}', entries: weakRefEntries };
		const wrapped = tag === '' || tag === 'Symbol' || tag === 'BigInt' ? boxed(value) : undefined;
		if (wrapped !== undefined) {
			const text = primitive(context, wrapped[1], false);
			return { base: `[${wrapped[0]}${name === wrapped[0] ? '' : ` (${name})`}: ${text}]`, open: '{', close: '}',
				 skipIndexes: wrapped[0] === 'String' };
		}
		if (tag === 'Map Iterator' || tag === 'Set Iterator')
			return { open: `[${tag}] {`, close: '}', entries: () => ['<items unknown>'] };
		if (tag === 'Module' && prototype === null)
			return { open: '[Module: null prototype] {', close: '}' };
		return { open: name === 'Object' && tag === '' ? '{' : `${prefix(name, 'Object', tag)}{`, close: '}' };
	}

	function arrayEntries(context, value, depth) {
		const output = [];
		const length = value.length;
		let index = 0;
		let indexes;
		let at = 0;
		for (; index < length && output.length < MAX_ITEMS; index++) {
			const found = getOwnPropertyDescriptor(value, index);
			if (found !== undefined) {
				output.push(propertyValue(context, found, depth, 2));
				continue;
			}
			// An array may have 2^32 holes: look for the next item among those that are there.
			indexes ??= ownKeys(value).filter((key) => typeof key === 'string' && isIndex(key)).map(Number);
			while (at < indexes.length && indexes[at] <= index)
				at++;
			const next = at < indexes.length ? Math.min(indexes[at], length) : length;
			output.push(`<${next - index} empty item${next - index > 1 ? 's' : ''}>`);
			index = next - 1;
		}
		return more(output, length - index);
	}

	function typedEntries(context, value) {
		const all = typedLength.call(value);
		const length = Math.min(all, MAX_ITEMS);
		const output = [];
		for (let index = 0; index < length; index++)
			output.push(primitive(context, value[index], true));
		return more(output, all - length);
	}

	function more(output, rest) {
		if (rest > 0)
			output.push(`... ${rest} more item${rest > 1 ? 's' : ''}`);
		return output;
	}

	function mapEntries(context, value, depth) {
		const output = [];
		context.indentation += 2;
		apply(mapForEach, value, [(item, key) => {
			if (output.length < MAX_ITEMS)
				output.push(`${render(context, key, depth + 1, true)} => ${render(context, item, depth + 1, true)}`);
		}]);
		context.indentation -= 2;
		return more(output, mapSize.call(value) - output.length);
	}

	function setEntries(context, value, depth) {
		const output = [];
		context.indentation += 2;
		apply(setForEach, value, [(item) => {
			if (output.length < MAX_ITEMS)
				output.push(render(context, item, depth + 1, true));
		}]);
		context.indentation -= 2;
		return more(output, setSize.call(value) - output.length);
	}

	function promiseEntries([state, result], context, value, depth) {
		if (state === 'pending')
			return ['<pending>'];
		context.indentation += 2;
		const text = render(context, result, depth + 1, true);
		context.indentation -= 2;
		return [state === 'rejected' ? `<rejected> ${text}` : text];
	}

	function bufferEntries(context, value) {
		if (accepts(arrayBufferLength, value) && apply(arrayBufferDetached, value, []))
			return ['(detached)', 'byteLength: 0'];
		const bytes = new Uint8Array(value);
		const shown = Math.min(bytes.length, 50);
		let text = '';
		for (let index = 0; index < shown; index++)
			text += `${index === 0 ? '' : ' '}${bytes[index].toString(16).padStart(2, '0')}`;
		if (bytes.length > shown)
			text += ` ... ${bytes.length - shown} more byte${bytes.length - shown > 1 ? 's' : ''}`;
		return [`[Uint8Contents]: <${text}>`, `byteLength: ${bytes.length}`];
	}

	function viewEntries(context, value, depth) {
		context.indentation += 2;
		const buffer = render(context, getter(DataView.prototype, 'buffer').call(value), depth + 1, true);
		context.indentation -= 2;
		return [`byteLength: ${dataViewLength.call(value)}`,
			`byteOffset: ${getter(DataView.prototype, 'byteOffset').call(value)}`, `buffer: ${buffer}`];
	}

	function weakRefEntries(context, value, depth) {
		const target = weakRefDeref.call(value);
		return [target === undefined ? '<cleared>' : render(context, target, depth + 1, true)];
	}

	// `cause` and `errors` are not enumerable, and worth more than all the rest.
	function causeEntries(context, value, depth) {
		const output = [];
		for (const key of ['cause', 'errors']) {
			const found = getOwnPropertyDescriptor(value, key);
			if (found !== undefined && !found.enumerable)
				output.push(`[${key}]: ${propertyValue(context, found, depth, 2)}`);
		}
		return output;
	}

	function propertyValue(context, found, depth, indentation) {
		if (!hasOwn(found, 'value')) {
			if (found.get !== undefined)
				return found.set !== undefined ? '[Getter/Setter]' : '[Getter]';
			return found.set !== undefined ? '[Setter]' : 'undefined';
		}
		context.indentation += indentation;
		const text = render(context, found.value, depth + 1, true);
		context.indentation -= indentation;
		return text;
	}

	function lengthOf(list) {
		return isArray(list) ? list.length : typedLength.call(list);
	}

	function isEmpty(value, form, keys) {
		if (keys.length > 0)
			return false;
		return form.entries === undefined || (form.list === true && lengthOf(value) === 0) ||
			(form.entries === mapEntries && mapSize.call(value) === 0) ||
			(form.entries === setEntries && setSize.call(value) === 0);
	}

	function renderObject(context, value, depth) {
		const form = shape(context, value);
		let keys = properties(value, form.skipIndexes === true);
		if (form.hide !== undefined)
			keys = keys.filter((key) => !form.hide.includes(key));
		if (depth > context.depth && !isEmpty(value, form, keys) && (form.base === undefined || isError(value))) {
			if (form.base !== undefined)
				return form.base;
			const name = className(value);
			return `[${isArray(value) ? 'Array' : prefix(name, 'Object', tagOf(value)).trimEnd()}]`
				.replace('[[Object: null prototype]]', '[Object: null prototype]');
		}
		context.seen.push(value);
		if (!isEmpty(value, form, keys))
			context.current = depth;
		let output = [];
		try {
			if (form.entries !== undefined)
				output = form.entries(context, value, depth);
			const special = isError(value) ? output.splice(0) : [];
			for (const key of keys.slice(0, 1000)) {
				const found = getOwnPropertyDescriptor(value, key);
				if (found !== undefined)
					output.push(`${keyText(key)}: ${propertyValue(context, found, depth, 2)}`);
			}
			more(output, keys.length - 1000);
			output.push(...special);
		} finally {
			context.seen.pop();
		}
		let base = form.base ?? '';
		let open = form.open;
		const index = context.circular.get(value);
		if (index !== undefined) {
			if (base === '')
				open = `<ref *${index}> ${open}`;
			else
				base = `<ref *${index}> ${base}`;
		}
		if (output.length === 0)
			return base !== '' ? base : `${open}${form.close}`;
		return layout(context, output, base, open, form.close, depth, form.list === true ? value : undefined);
	}

	// ---- Lines ----

	// Several short items of a long list on each line, in columns.
	function columns(context, output, list) {
		let total = 0;
		let longest = 0;
		const count = lengthOf(list) > MAX_ITEMS && output.length > MAX_ITEMS ? output.length - 1 : output.length;
		for (let index = 0; index < count; index++) {
			total += output[index].length + 2;
			longest = Math.max(longest, output[index].length);
		}
		const width = longest + 2;
		if (width * 3 + context.indentation >= LINE || (total / width <= 5 && longest > 6))
			return output;
		const bias = Math.sqrt(width - total / output.length);
		const biased = Math.max(width - 3 - bias, 1);
		const across = Math.min(Math.round(Math.sqrt(2.5 * biased * count) / biased),
			Math.floor((LINE - context.indentation) / width), NESTED_ON_ONE_LINE * 4, 15);
		if (across <= 1)
			return output;
		const widths = [];
		for (let column = 0; column < across; column++) {
			let widest = 0;
			for (let index = column; index < count; index += across)
				widest = Math.max(widest, output[index].length);
			widths.push(widest + 2);
		}
		let right = true; // numbers are aligned on the right
		for (let index = 0; right && index < output.length; index++)
			right = ['number', 'bigint'].includes(typeof dataOf(list, index));
		const lines = [];
		for (let start = 0; start < count; start += across) {
			const end = Math.min(start + across, count);
			let line = '';
			let index = start;
			for (; index < end - 1; index++) {
				const cell = `${output[index]}, `;
				line += right ? cell.padStart(widths[index - start]) : cell.padEnd(widths[index - start]);
			}
			line += right ? output[index].padStart(widths[index - start] - 2) : output[index];
			lines.push(line);
		}
		if (count < output.length)
			lines.push(output[count]);
		return lines;
	}

	function layout(context, output, base, open, close, depth, list) {
		const entries = output.length;
		if (list !== undefined && entries > 6)
			output = columns(context, output, list);
		const lead = base === '' ? '' : `${base} `;
		if (context.current - depth < NESTED_ON_ONE_LINE && entries === output.length) {
			const start = output.length + context.indentation + open.length + base.length + 10;
			let total = output.length + start;
			for (const item of output)
				total += item.length;
			if (total <= LINE && !base.includes('\n') && !output.some((item) => item.includes('\n')))
				return `${lead}${open} ${output.join(', ')} ${close}`;
		}
		const newline = `\n${' '.repeat(context.indentation)}`;
		return `${lead}${open}${newline}  ${output.join(`,${newline}  `)}${newline}${close}`;
	}

	function inspect(value, options) {
		const context = { depth: Math.min(options?.depth === null ? MAX_DEPTH : options?.depth ?? 2, MAX_DEPTH),
				  indentation: 0, current: 0, seen: [], circular: new Map() };
		return render(context, value, 0, false);
	}

	// What an uncaught exception looks like; never throws.
	function describe(value) {
		const text = typeof value === 'object' && value !== null ? inspect(value) : primitive({ indentation: 0 }, value, false);
		return isError(value) && text.startsWith('[') && text.endsWith(']') ? text.slice(1, -1) : text;
	}

	// ---- printf ----

	function hasBuiltInToString(value) {
		for (const at of lineage(value)) {
			if (hasOwn(at, 'toString')) {
				const maker = dataOf(at, 'constructor');
				return at !== value && typeof maker === 'function' &&
					functionText.call(maker).includes('[native code]');
			}
		}
		return true;
	}

	function formatString(value) {
		if (typeof value === 'bigint' || Object.is(value, -0))
			return primitive(null, value, false);
		if (typeof value === 'symbol')
			return symbolText(value);
		try {
			if (typeof value === 'function' && !hasOwn(value, 'toString'))
				return functionText.call(value);
			if (typeof value !== 'object' || value === null || !hasBuiltInToString(value))
				return String(value);
		} catch {
			// fall through: a toString that throws is not a reason to print nothing
		}
		return inspect(value, { depth: 0 });
	}

	function formatNumber(value, convert) {
		if (typeof value === 'bigint' && convert !== parseFloat)
			return `${value}n`;
		// Objects are not asked: they may run code, or be arrays of 2^32 holes.
		if (typeof value === 'symbol' || typeof value === 'function' || (typeof value === 'object' && value !== null))
			return 'NaN';
		return primitive(null, convert(value), false);
	}

	function formatJson(value) {
		try {
			return `${JSON.stringify(value)}`;
		} catch (error) {
			return '[Circular]';
		}
	}

	function format(values) {
		const first = values[0];
		let text = '';
		let next = 0;
		if (typeof first === 'string') {
			if (values.length === 1)
				return first;
			next = 1;
			let last = 0;
			for (let at = first.indexOf('%'); at !== -1 && at < first.length - 1; at = first.indexOf('%', at)) {
				const directive = first[at + 1];
				let piece;
				if (directive === '%')
					piece = '%';
				else if (next >= values.length || !'sdifjoOc'.includes(directive)) {
					at++;
					continue;
				} else
					piece = expand(directive, values[next++]);
				text += first.slice(last, at) + piece;
				last = at = at + 2;
			}
			text += first.slice(last);
		}
		for (; next < values.length; next++) {
			const value = values[next];
			text += `${next === 0 ? '' : ' '}${typeof value === 'string' ? value : inspect(value)}`;
		}
		return text;
	}

	function expand(directive, value) {
		switch (directive) {
		case 's': return formatString(value);
		case 'd': return formatNumber(value, Number);
		case 'i': return formatNumber(value, parseInt);
		case 'f': return formatNumber(value, parseFloat);
		case 'j': return formatJson(value);
		case 'o': return inspect(value, { depth: 4 });
		case 'O': return inspect(value);
		default: return ''; // %c: a style
		}
	}

	// ---- console ----

	const counts = new Map();
	const timers = new Map();
	let indent = '';

	function print(stream, text) {
		if (indent !== '')
			text = indent + text.replaceAll('\n', `\n${indent}`);
		host.write(stream, `${text}\n`);
	}

	function elapsed(label) {
		const started = timers.get(label);
		if (started === undefined) {
			print(2, `Warning: No such label '${label}' for console.time()`);
			return undefined;
		}
		const spent = host.clock() - started;
		if (spent < 1000)
			return `${label}: ${spent < 1 ? spent.toFixed(3) : spent.toPrecision(6).slice(0, 7)}ms`;
		return spent < 60000 ? `${label}: ${(spent / 1000).toFixed(3)}s` : `${label}: ${(spent / 60000).toFixed(2)}m`;
	}

	const TABLE_INDEX = '(index)';
	const TABLE_VALUE = 'Values';

	function tableRows(data, only) {
		const rows = [];
		const names = [TABLE_INDEX];
		let values = false;
		const pairs = data instanceof Map ? [...data].map(([key, value]) => [inspect(key), value]) :
			data instanceof Set ? [...data].map((value, index) => [`${index}`, value]) :
			Object.keys(data).map((key) => [key, data[key]]);
		for (const [key, value] of pairs) {
			const row = new Map([[TABLE_INDEX, key]]);
			if (typeof value === 'object' && value !== null) {
				for (const name of only ?? Object.keys(value)) {
					if (!names.includes(name))
						names.push(name);
					if (hasOwn(value, name))
						row.set(name, inspect(value[name], { depth: 0 }));
				}
			} else {
				values = true;
				row.set(TABLE_VALUE, inspect(value));
			}
			rows.push(row);
		}
		if (values)
			names.push(TABLE_VALUE);
		return [names, rows];
	}

	function table(data, only) {
		const [names, rows] = tableRows(data, only);
		const widths = names.map((name) => rows.reduce((width, row) => Math.max(width, (row.get(name) ?? '').length),
							       name.length) + 2);
		const rule = (left, middle, right) => left + widths.map((width) => '─'.repeat(width)).join(middle) + right;
		const line = (cells) => `│${cells.map((cell, column) => ` ${cell}`.padEnd(widths[column])).join('│')}│`;
		return [rule('┌', '┬', '┐'), line(names), rule('├', '┼', '┤'),
			...rows.map((row) => line(names.map((name) => row.get(name) ?? ''))), rule('└', '┴', '┘')].join('\n');
	}

	const console = {
		log(...values) { print(1, format(values)); },
		info(...values) { print(1, format(values)); },
		debug(...values) { print(1, format(values)); },
		warn(...values) { print(2, format(values)); },
		error(...values) { print(2, format(values)); },
		trace(...values) {
			const frames = framesOf(new Error().stack ?? '').join('\n');
			print(2, `Trace${values.length > 0 ? `: ${format(values)}` : ''}${frames === '' ? '' : `\n${frames}`}`);
		},
		assert(condition, ...values) {
			if (condition)
				return;
			if (typeof values[0] === 'string')
				values[0] = `Assertion failed: ${values[0]}`;
			else
				values.unshift('Assertion failed');
			print(2, format(values));
		},
		dir(value, options) { print(1, inspect(value, options)); },
		dirxml(...values) { print(1, format(values)); },
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
		group(...values) {
			if (values.length > 0)
				print(1, format(values));
			indent += '  ';
		},
		groupCollapsed(...values) { console.group(...values); },
		groupEnd() { indent = indent.slice(2); },
		count(label = 'default') {
			label = `${label}`;
			const count = (counts.get(label) ?? 0) + 1;
			counts.set(label, count);
			print(1, `${label}: ${count}`);
		},
		countReset(label = 'default') {
			if (!counts.delete(`${label}`))
				print(2, `Warning: Count for '${label}' does not exist`);
		},
		time(label = 'default') {
			label = `${label}`;
			if (timers.has(label))
				print(2, `Warning: Label '${label}' already exists for console.time()`);
			else
				timers.set(label, host.clock());
		},
		timeLog(label = 'default', ...values) {
			const text = elapsed(`${label}`);
			if (text !== undefined)
				print(1, format([text, ...values]));
		},
		timeEnd(label = 'default') {
			const text = elapsed(`${label}`);
			if (text !== undefined) {
				timers.delete(`${label}`);
				print(1, text);
			}
		},
	};
	Object.defineProperty(console, Symbol.toStringTag, { value: 'console', configurable: true });

	return { console, inspect, describe, format };
})
