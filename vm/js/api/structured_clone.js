// SPDX-License-Identifier: MIT
//
// structured_clone.js - structuredClone(), as HTML has it (StructuredSerializeWithTransfer and its counterpart, in one pass).
//
// Called when it is first needed (later.js; primordials.js says what must not be used). A buffer that is transferred is stood for
// by a new one from the moment it is met; it gets the bytes, and the old one is detached, when all of the value has been read.
(function (host, parts) {
	'use strict';

	const { descriptorOf, hasOwn, put, list, objectKeys, toObject, errorTypes, viewTypes, valueOf, Map, Set, Date,
		RegExp, String, TypeError, Uint8Array, ArrayBuffer, SharedArrayBuffer, WeakMap, mapGet, mapSet, mapHas, mapForEach,
		setAdd, setForEach, dateTime, regExpSource, regExpFlags, bufferLength, bufferDetached, bufferResizable, bufferMax,
		bufferImmutable, bufferResize, bufferTransfer, sharedLength, sharedGrowable, sharedMax, sharedGrow, typedLength,
		typedBuffer, typedSet, viewBuffer, weakMapGet, weakMapSet } = parts.primordials;
	const { inspect, isObject, isHandle, DOMException, domState, stackOf } = parts;

	// Objects of the web: some can be cloned or transferred, the others neither. Their sources may not have been loaded.
	const isPort = (value) => parts.isPort !== undefined && parts.isPort(value);
	const isPlatform = (value) => isHandle(value) || (parts.isEvent !== undefined && (parts.isEvent(value) || parts.isTarget(value))) ||
		(parts.isKey !== undefined && parts.isKey(value));

	function cannotClone(value, why = ' could not be cloned.') {
		const text = typeof value === 'object' ? '[object ' + host.kind(value) + ']' : inspect(value);
		throw new DOMException(text + why, 'DataCloneError');
	}

	// ---- Errors ----

	// Own data properties only: a getter of these names is not asked.
	function ownData(object, key) {
		const found = descriptorOf(object, key);
		return found !== undefined && hasOwn(found, 'value') ? found : undefined;
	}

	function cloneError(value, clone) {
		const state = domState(value);
		let made;
		if (state !== undefined) {
			made = new DOMException(state.message, state.name);
		} else {
			const name = value.name === undefined ? 'Error' : String(value.name);
			const Type = name in errorTypes ? errorTypes[name] : errorTypes.Error;
			const message = ownData(value, 'message');
			made = message === undefined ? new Type() : new Type(String(message.value));
		}
		mapSet(clone.seen, value, made);
		const stack = stackOf(value);
		if (typeof stack === 'string')
			put(made, 'stack', stack, false);
		const cause = ownData(value, 'cause');
		if (cause !== undefined)
			put(made, 'cause', cloneValue(cause.value, clone), false);
		return made;
	}

	// ---- Buffers and views ----

	// SharedArrayBuffers over one memory that grows: each of the engine's has a length of its own.
	const sharers = new WeakMap();

	function cloneShared(value) {
		if (!sharedGrowable(value))
			return host.share(value, 0);
		const copy = host.share(value, sharedMax(value));
		let group = weakMapGet(sharers, value);
		if (group === undefined) {
			group = list();
			group[0] = value;
			weakMapSet(sharers, value, group);
		}
		group[group.length] = copy;
		weakMapSet(sharers, copy, group);
		return copy;
	}

	put(SharedArrayBuffer.prototype, 'grow', function grow(length) {
		const group = isObject(this) ? weakMapGet(sharers, this) : undefined;
		sharedGrow(this, length);
		for (let i = 0; group !== undefined && i < group.length; i++)
			if (group[i] !== this)
				sharedGrow(group[i], sharedLength(this));
	}, false);

	function cloneBuffer(value, clone) {
		if (bufferDetached(value))
			cannotClone(value, ' is detached and could not be cloned.');
		const length = bufferLength(value);
		const copy = bufferResizable(value) ?
			new ArrayBuffer(length, { __proto__: null, maxByteLength: bufferMax(value) }) : new ArrayBuffer(length);
		if (clone.transfer === undefined || !mapHas(clone.transfer, value))
			typedSet(new Uint8Array(copy), new Uint8Array(value));
		return copy;
	}

	function cloneView(value, name, clone) {
		const buffer = name === 'DataView' ? viewBuffer(value) : typedBuffer(value);
		const shared = host.kind(buffer) === 'SharedArrayBuffer';
		const extent = host.view(value); // offset, bytes, 1: the bytes are what the buffer has
		const end = extent[2] ? extent[0] : extent[0] + extent[1];
		if ((!shared && bufferDetached(buffer)) || end > (shared ? sharedLength(buffer) : bufferLength(buffer)))
			cannotClone(value, ' is out of the bounds of its buffer and could not be cloned.');
		const copy = cloneValue(buffer, clone);
		const Type = viewTypes[name];
		if (extent[2])
			return new Type(copy, extent[0]);
		return new Type(copy, extent[0], name === 'DataView' ? extent[1] : typedLength(value));
	}

	// ---- Collections and plain objects ----

	// What was in it at first: a getter may change it meanwhile.
	function cloneMap(value, clone) {
		const copy = new Map();
		const entries = list();
		mapSet(clone.seen, value, copy);
		mapForEach(value, (item, key) => {
			entries[entries.length] = key;
			entries[entries.length] = item;
		});
		for (let i = 0; i < entries.length; i += 2) {
			const key = cloneValue(entries[i], clone);
			mapSet(copy, key, cloneValue(entries[i + 1], clone));
		}
		return copy;
	}

	function cloneSet(value, clone) {
		const copy = new Set();
		const items = list();
		mapSet(clone.seen, value, copy);
		setForEach(value, (item) => { items[items.length] = item; });
		for (let i = 0; i < items.length; i++)
			setAdd(copy, cloneValue(items[i], clone));
		return copy;
	}

	function cloneProperties(value, copy, clone) {
		const keys = objectKeys(value);
		mapSet(clone.seen, value, copy);
		for (let i = 0; i < keys.length; i++)
			if (hasOwn(value, keys[i])) // a getter may have removed it
				put(copy, keys[i], cloneValue(value[keys[i]], clone));
		return copy;
	}

	function cloneArray(value, clone) {
		const copy = [];
		copy.length = value.length;
		return cloneProperties(value, copy, clone);
	}

	function cloneRegExp(value) {
		let flags = '';
		for (let i = 0; i < regExpFlags.length; i++)
			if (regExpFlags[i].has(value))
				flags += regExpFlags[i].flag;
		return new RegExp(regExpSource(value), flags);
	}

	// What has no parts that may lead back to it; undefined: something else.
	function cloneLeaf(value, kind, clone) {
		switch (kind) {
		case 'Number':
		case 'String':
		case 'Boolean':
		case 'BigInt':
			return toObject(valueOf[kind](value));
		case 'Date':
			return new Date(dateTime(value));
		case 'RegExp':
			return cloneRegExp(value);
		case 'SharedArrayBuffer':
			return cloneShared(value);
		case 'ArrayBuffer':
			return cloneBuffer(value, clone);
		default:
			return kind in viewTypes ? cloneView(value, kind, clone) : undefined;
		}
	}

	function cloneObject(value, clone) {
		const moved = isPort(value) && clone.transfer !== undefined ? mapGet(clone.transfer, value) : undefined;
		const copy = moved === undefined ? parts.cloneBlob?.(value) ?? parts.cloneKey?.(value) : portOf(value, clone);
		if (copy === undefined)
			return isPlatform(value) ? cannotClone(value) : cloneProperties(value, {}, clone);
		mapSet(clone.seen, value, copy);
		return copy;
	}

	function cloneValue(value, clone) {
		if (typeof value === 'function' || typeof value === 'symbol')
			return cannotClone(value);
		if (typeof value !== 'object' || value === null)
			return value;
		const known = mapGet(clone.seen, value);
		if (known !== undefined)
			return known;
		const kind = host.kind(value);
		switch (kind) {
		case 'Object':
			return cloneObject(value, clone);
		case 'Array':
			return cloneArray(value, clone);
		case 'Map':
			return cloneMap(value, clone);
		case 'Set':
			return cloneSet(value, clone);
		case 'Error':
			return cloneError(value, clone);
		}
		const copy = cloneLeaf(value, kind, clone);
		if (copy === undefined)
			return cannotClone(value);
		mapSet(clone.seen, value, copy);
		return copy;
	}

	// ---- Transfer ----

	function checkTransfer(buffer, buffers, transfer) {
		if (!isObject(buffer))
			throw new TypeError('structuredClone: what is transferred must be objects');
		if (isPort(buffer) && mapHas(transfer, buffer))
			cannotClone(buffer, ' is twice in the list of what is transferred.');
		if (isPort(buffer)) {
			mapSet(transfer, buffer, true);
			return;
		}
		if (host.kind(buffer) !== 'ArrayBuffer' || (bufferImmutable !== undefined && bufferImmutable(buffer)))
			cannotClone(buffer, ' could not be transferred.');
		if (mapHas(transfer, buffer))
			cannotClone(buffer, ' is twice in the list of what is transferred.');
		mapSet(transfer, buffer, true);
		buffers[buffers.length] = buffer;
	}

	// The port that a transferred one becomes.
	function portOf(port, clone) {
		const known = mapGet(clone.seen, port);
		if (known !== undefined)
			return known;
		if (parts.portDetached(port))
			cannotClone(port, ' is detached and could not be transferred.');
		const made = parts.movePort(port);
		mapSet(clone.seen, port, made);
		return made;
	}

	function transferAll(buffers, seen) {
		for (let i = 0; i < buffers.length; i++)
			if (bufferDetached(buffers[i]))
				cannotClone(buffers[i], ' is detached and could not be transferred.');
		for (let i = 0; i < buffers.length; i++) {
			const buffer = buffers[i];
			const copy = mapGet(seen, buffer);
			if (copy !== undefined) {
				if (bufferLength(copy) !== bufferLength(buffer)) // a getter resized it
					bufferResize(copy, bufferLength(buffer));
				typedSet(new Uint8Array(copy), new Uint8Array(buffer));
			}
			bufferTransfer(buffer, 0);
		}
	}

	// For postMessage: the ports among what is transferred, in their order, besides.
	parts.late.cloneWith = (value, items) => {
		const clone = { __proto__: null, seen: new Map(), transfer: new Map() };
		const ports = list();
		const buffers = list();
		for (let i = 0; i < items.length; i++)
			checkTransfer(items[i], buffers, clone.transfer);
		for (let i = 0; i < items.length; i++)
			if (isPort(items[i]) && parts.portDetached(items[i]))
				cannotClone(items[i], ' is detached and could not be transferred.');
		const copy = cloneValue(value, clone);
		transferAll(buffers, clone.seen);
		for (let i = 0; i < items.length; i++)
			if (isPort(items[i]))
				ports[ports.length] = portOf(items[i], clone);
		return { __proto__: null, value: copy, ports };
	};

	parts.late.structuredClone = function structuredClone(value, options) {
		if (arguments.length === 0)
			throw new TypeError('structuredClone: the value to clone is missing');
		if (options !== undefined && options !== null && !isObject(options))
			throw new TypeError('structuredClone: options must be an object');
		const clone = { __proto__: null, seen: new Map(), transfer: undefined };
		const items = options?.transfer;
		if (items === undefined || items === null)
			return cloneValue(value, clone);
		clone.transfer = new Map();
		const buffers = list();
		parts.eachItem(items, 'structuredClone: transfer must be a sequence', (item) => checkTransfer(item, buffers, clone.transfer));
		if (buffers.length === 1 && value === buffers[0] && !bufferDetached(value))
			return bufferTransfer(value); // nothing else has to be read: its memory itself
		const copy = cloneValue(value, clone);
		transferAll(buffers, clone.seen);
		mapForEach(clone.transfer, (yes, object) => {
			if (isPort(object))
				portOf(object, clone);
		});
		return copy;
	};
})
