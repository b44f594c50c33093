// SPDX-License-Identifier: MIT
//
// hot.js - import.meta.hot: what a module hands over when an upgrade replaces it, and what has to end with it.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). The names and their meaning are those
// of Vite's API. A module's context is found by the module's name: in an upgrade the old one is put aside, and the new
// module's has the same `data`. vm/js/upgrade drives this by `parts.upgrade`, operation 16 of the prelude.
(function (host, parts) {
	'use strict';

	const { list, arrayOf, arrayIsArray, Map, mapGet, mapSet, mapDelete, String, TypeError } = parts.primordials;
	const { checkCallback, inspect } = parts;

	const contexts = new Map(); // name -> the context of the module that has it
	const replaced = new Map(); // name -> that of the module that had it; only while an upgrade is under way
	let invalidated; // why an upgrade cannot be; undefined: it can

	const newContext = (name, data) => ({ __proto__: null, name, data, accepts: false, declined: false, disposes: list(),
					      prunes: list(), accepted: list(), dependencies: list() });

	function specifiersOf(value) {
		const specifiers = list();
		const given = arrayIsArray(value) ? value : [value];
		for (let i = 0; i < given.length; i++) {
			if (typeof given[i] !== 'string')
				throw new TypeError('accept() takes the name of a module, or a list of them. Received ' + inspect(value));
			specifiers[i] = given[i];
		}
		return specifiers;
	}

	function keep(callbacks, callback) {
		checkCallback(callback);
		callbacks[callbacks.length] = callback;
	}

	class Hot {
		#context;
		constructor(context) {
			this.#context = context;
		}
		get data() {
			return this.#context.data;
		}
		accept(what, callback) {
			if (what === undefined || typeof what === 'function') {
				if (what !== undefined)
					keep(this.#context.accepted, what);
				this.#context.accepts = true;
				return;
			}
			const specifiers = specifiersOf(what);
			if (callback !== undefined)
				checkCallback(callback);
			const dependencies = this.#context.dependencies;
			dependencies[dependencies.length] = { __proto__: null, single: !arrayIsArray(what), specifiers, callback };
		}
		dispose(callback) {
			keep(this.#context.disposes, callback);
		}
		prune(callback) {
			keep(this.#context.prunes, callback);
		}
		decline() {
			this.#context.declined = true;
		}
		invalidate(message) {
			invalidated = this.#context.name + (message === undefined ? '' : ': ' + String(message));
		}
		// Vite's events have nothing to tell here.
		on() {}
		off() {}
		send() {}
	}

	// The one of the module that is being loaded.
	function hot(name) {
		const before = mapGet(replaced, name);
		const context = newContext(name, before === undefined ? {} : before.data);
		mapSet(contexts, name, context);
		return new Hot(context);
	}

	// [data, disposes, prunes, accepted, [[callback, single?, specifier, ...], ...], accepts, declined, timers, listeners]
	function hooks(name) {
		const context = mapGet(replaced, name) ?? mapGet(contexts, name) ?? newContext(name, {});
		const dependencies = list();
		for (let i = 0; i < context.dependencies.length; i++) {
			const entry = list();
			entry[0] = context.dependencies[i].callback;
			entry[1] = context.dependencies[i].single;
			for (let j = 0; j < context.dependencies[i].specifiers.length; j++)
				entry[2 + j] = context.dependencies[i].specifiers[j];
			dependencies[i] = arrayOf(entry);
		}
		return arrayOf([context.data, arrayOf(context.disposes), arrayOf(context.prunes), arrayOf(context.accepted),
				arrayOf(dependencies), context.accepts, context.declined, parts.countTimers(name),
				parts.countListeners(name)]);
	}

	function move(from, to, name, as) {
		const context = mapGet(from, name);
		mapDelete(from, name);
		if (context === undefined)
			return;
		context.name = as;
		mapSet(to, as, context);
	}

	parts.hot = hot;
	parts.upgrade = function upgrade(operation, name, other) {
		switch (operation) {
		case 'hooks': return hooks(name);
		case 'end': return parts.endTimers(name) + parts.endListeners(name); // what that module has registered
		case 'replace': return move(contexts, replaced, name, name);
		case 'rename': return move(contexts, contexts, name, other);
		case 'forget': // the module is gone
			mapDelete(replaced, name);
			return other === true ? mapDelete(contexts, name) : undefined;
		case 'invalidated': return invalidated;
		default: throw new TypeError('the host asked for ' + operation);
		}
	};
})
