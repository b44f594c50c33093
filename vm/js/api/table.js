// SPDX-License-Identifier: MIT
//
// table.js - console.table(): rows of an array, an object, a Map or a Set, in columns.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). Getters of the data are asked, as node
// does: what they throw is the caller's to catch.
(function (host, parts) {
	'use strict';

	const { list, hasOwn, objectKeys, arrayIsArray, arrayJoin, Map, mapGet, mapSet, mapHas, mapForEach, setForEach, max, String,
		stringRepeat } = parts.primordials;
	const { inspect, late } = parts;
	const { width } = late;

	const INDEX = '(index)';
	const VALUE = 'Values';
	const DEPTH_0 = { __proto__: null, depth: 0 };

	// {key, value} of each row.
	function entriesOf(data) {
		const entries = list();
		const add = (key, value) => { entries[entries.length] = { __proto__: null, key, value }; };
		const kind = host.kind(data);
		if (kind === 'Map') {
			mapForEach(data, (value, key) => add(inspect(key), value));
		} else if (kind === 'Set') {
			setForEach(data, (value) => add('' + entries.length, value));
		} else {
			const keys = objectKeys(data);
			for (let i = 0; i < keys.length; i++)
				add(keys[i], data[keys[i]]);
		}
		return entries;
	}

	// One row: name of a column -> text. Columns appear in the order in which they are met.
	function rowOf(entry, only, columns) {
		const row = new Map();
		const { value } = entry;
		mapSet(row, INDEX, entry.key);
		if (typeof value !== 'object' || value === null) {
			mapSet(row, VALUE, inspect(value));
			return row;
		}
		const names = only ?? objectKeys(value);
		for (let i = 0; i < names.length; i++) {
			const name = names[i];
			if (!mapHas(columns.known, name)) {
				mapSet(columns.known, name, true);
				columns.names[columns.names.length] = name;
			}
			if (hasOwn(value, name))
				mapSet(row, name, inspect(value[name], DEPTH_0));
		}
		return row;
	}

	function table(data, only) {
		const entries = entriesOf(data);
		const columns = { __proto__: null, names: list(), known: new Map() };
		const rows = list();
		let values = false;
		columns.names[0] = INDEX;
		mapSet(columns.known, INDEX, true);
		for (let i = 0; i < entries.length; i++) {
			rows[i] = rowOf(entries[i], arrayIsArray(only) ? only : undefined, columns);
			values ||= mapHas(rows[i], VALUE);
		}
		if (values && !mapHas(columns.known, VALUE))
			columns.names[columns.names.length] = VALUE;
		return draw(columns.names, rows);
	}

	const joined = (cells, left, middle, right) => left + arrayJoin(cells, middle) + right;

	function draw(names, rows) {
		const widths = list();
		const rules = list();
		for (let i = 0; i < names.length; i++) {
			let most = width(String(names[i]));
			for (let j = 0; j < rows.length; j++)
				most = max(most, width(mapGet(rows[j], names[i]) ?? ''));
			widths[i] = most + 2;
			rules[i] = stringRepeat('─', most + 2);
		}
		const line = (textOf) => {
			const cells = list();
			for (let i = 0; i < names.length; i++) {
				const text = textOf(names[i]);
				cells[i] = ' ' + text + stringRepeat(' ', widths[i] - 1 - width(text));
			}
			return joined(cells, '│', '│', '│');
		};
		const lines = list();
		lines[0] = joined(rules, '┌', '┬', '┐');
		lines[1] = line((name) => String(name));
		lines[2] = joined(rules, '├', '┼', '┤');
		for (let j = 0; j < rows.length; j++)
			lines[lines.length] = line((name) => mapGet(rows[j], name) ?? '');
		lines[lines.length] = joined(rules, '└', '┴', '┘');
		return arrayJoin(lines, '\n');
	}

	late.table = table;
})
