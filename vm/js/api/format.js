// SPDX-License-Identifier: MIT
//
// format.js - what console prints for its arguments (printf), and what an uncaught exception looks like.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). Must never throw.
(function (host, parts) {
	'use strict';

	const { hasOwn, isError, functionText, objectIs, Number, String, stringIndexOf, stringSlice, stringStartsWith, stringEndsWith,
		symbolText, jsonText, globalNames, parseInt, parseFloat } = parts.primordials;
	const { inspect, primitiveText, dataOf, lineage } = parts.late;

	const includes = (text, part) => stringIndexOf(text, part) !== -1;

	const DEPTH_0 = { __proto__: null, depth: 0 };
	const DEPTH_4 = { __proto__: null, depth: 4 };

	// What an uncaught exception looks like; never throws.
	function describe(value) {
		const text = typeof value === 'object' && value !== null ? inspect(value) : primitiveText(value);
		return isError(value) && stringStartsWith(text, '[') && stringEndsWith(text, ']') ? stringSlice(text, 1, -1) : text;
	}

	// ---- printf ----

	const builtIns = { __proto__: null };
	for (let i = 0; i < globalNames.length; i++)
		builtIns[globalNames[i]] = true;

	function hasBuiltInToString(value) {
		const all = lineage(value);
		for (let i = 0; i < all.length; i++) {
			if (hasOwn(all[i], 'toString')) {
				const maker = dataOf(all[i], 'constructor');
				const name = i > 0 && typeof maker === 'function' ? dataOf(maker, 'name') : undefined;
				return typeof name === 'string' && builtIns[name] === true;
			}
		}
		return true;
	}

	function formatString(value) {
		if (typeof value === 'bigint' || objectIs(value, -0))
			return primitiveText(value);
		if (typeof value === 'symbol')
			return symbolText(value);
		try {
			if (typeof value === 'function' && !hasOwn(value, 'toString'))
				return functionText(value);
			if (typeof value !== 'object' || value === null || !hasBuiltInToString(value))
				return String(value);
		} catch {
			// fall through: a toString that throws is not a reason to print nothing
		}
		return inspect(value, DEPTH_0);
	}

	function formatNumber(value, convert) {
		if (typeof value === 'bigint' && convert !== parseFloat)
			return value + 'n';
		// Objects are not asked: they may run code, or be arrays of 2^32 holes.
		if (typeof value === 'symbol' || typeof value === 'function' || (typeof value === 'object' && value !== null))
			return 'NaN';
		return primitiveText(convert(value));
	}

	function formatJson(value) {
		try {
			return '' + jsonText(value);
		} catch (error) {
			return '[Circular]';
		}
	}

	function format(values) {
		const first = values.length > 0 ? values[0] : undefined;
		let text = '';
		let next = 0;
		if (typeof first === 'string') {
			if (values.length === 1)
				return first;
			next = 1;
			let last = 0;
			for (let at = stringIndexOf(first, '%'); at !== -1 && at < first.length - 1; at = stringIndexOf(first, '%', at)) {
				const directive = first[at + 1];
				let piece;
				if (directive === '%')
					piece = '%';
				else if (next >= values.length || !includes('sdifjoOc', directive)) {
					at++;
					continue;
				} else
					piece = expand(directive, values[next++]);
				text += stringSlice(first, last, at) + piece;
				last = at = at + 2;
			}
			text += stringSlice(first, last);
		}
		for (; next < values.length; next++) {
			const value = values[next];
			text += (next === 0 ? '' : ' ') + (typeof value === 'string' ? value : inspect(value));
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
		case 'o': return inspect(value, DEPTH_4);
		case 'O': return inspect(value);
		default: return ''; // %c: a style
		}
	}

	parts.late.describe = describe;
	parts.late.format = format;
})
