// SPDX-License-Identifier: MIT
//
// errors.js - err.stack as npm code knows it from V8, and DOMException.
//
// Called once in a fresh VM (primordials.js says how, and what must not be used here). The engine notes the frames of an error
// when it is made, and nothing else: "    at f (a.js:1:2)\n" for each. V8's begin with the error as a string, end without a
// newline, and are put together when they are first asked for: so are these, and making an error costs what it did. Then, too,
// its message gets the name of what is not a function: the engine says that something is none, and the source has the name.
(function (host, parts) {
	'use strict';

	const { apply, construct, defineProperty, deleteProperty, descriptorOf, put, hasOwn, toObject, stringStartsWith, stringEndsWith,
		stringIndexOf, stringSlice, weakMapGet, weakMapSet, weakMapHas, WeakMap, Error, TypeError, String, isError, toStringTag,
		getter, uncurry, regExpExec, Map, mapGet, mapSet, mapDelete } = parts.primordials;

	const engineStack = getter(Error.prototype, 'stack'); // throws for what is no object
	const engineCapture = Error.captureStackTrace;
	const captured = new WeakMap(); // error -> frames of Error.captureStackTrace(), which replace those of its making

	let domState; // of a DOMException: { name, message }; undefined: it is none
	const isObject = (value) => (typeof value === 'object' && value !== null) || typeof value === 'function';
	const areFrames = (text) => typeof text === 'string' &&
		(text === '' || (stringStartsWith(text, '    at ') && stringEndsWith(text, '\n')));

	// What the engine noted: a string of frames, what Error.prepareStackTrace made of them, or undefined.
	function notedStack(error) {
		return weakMapHas(captured, error) ? weakMapGet(captured, error) : engineStack(error);
	}

	// ---- What the engine's messages are about (excerpt.c) ----

	// The newest statements of a shell, by the name that frames have: "REPL12". They are no files.
	const STATEMENTS = 64;
	const STATEMENT_LENGTH = 10000;
	const statements = new Map();
	let statementCount = 0;

	function statement(code) {
		const name = 'REPL' + ++statementCount;
		mapDelete(statements, 'REPL' + (statementCount - STATEMENTS));
		if (code !== '' && code.length <= STATEMENT_LENGTH)
			mapSet(statements, name, code);
		return name;
	}

	// The statement that the first of these frames is in; undefined: it is of a file.
	const PLACE = /^    at (?:.* \()?([^ ()]*):\d+:\d+\)?\n/;
	function statementOf(frames) {
		const found = regExpExec(PLACE, frames);
		return found === null ? undefined : mapGet(statements, found[1]);
	}

	// The message that an error made by the engine is shown with; undefined: its own. It stays what it is.
	function explained(error, frames) {
		const found = descriptorOf(error, 'message');
		const said = found !== undefined && hasOwn(found, 'value') ? found.value : undefined;
		if (typeof said === 'string' && stringStartsWith(said, 'Could not find export \'') && stringEndsWith(said, 'ts\'') && isError(error))
			return said + ' (if it is a type: import type)';
		if (typeof said !== 'string' || !areFrames(frames) || frames === '' || !isError(error))
			return undefined;
		if (said !== 'not a function' && said !== 'not a constructor' && !stringStartsWith(said, 'cannot read property \'') &&
		    !stringStartsWith(said, 'cannot set property \''))
			return undefined;
		return host.explain(said, frames, statementOf(frames));
	}

	// For the host: [frames, message, statement] of an exception; undefined: it is no error, or has no frames.
	function report(error) {
		if (!isObject(error) || host.kind(error) === 'Proxy' || !isError(error))
			return undefined;
		const own = descriptorOf(error, 'stack');
		let frames = own !== undefined && hasOwn(own, 'value') ? own.value : notedStack(error);
		if (typeof frames !== 'string')
			return undefined;
		if (!areFrames(frames)) { // put together before
			const begin = stringIndexOf(frames, '\n    at ');
			frames = begin === -1 ? '' : stringSlice(frames, begin + 1) + '\n';
		}
		const message = descriptorOf(error, 'message');
		return [frames, message !== undefined && typeof message.value === 'string' ? message.value : '', statementOf(frames)];
	}

	// Error.prototype.toString() for any object, but never an exception.
	function headOf(error, better) {
		try {
			const { name: called, message: own } = domState(error) ?? error;
			const said = better ?? own;
			const name = called === undefined ? 'Error' : String(called);
			const message = said === undefined ? '' : String(said);
			return name === '' || message === '' ? name + message : name + ': ' + message;
		} catch {
			return 'Error';
		}
	}

	// With the places of the sources, where modules have source maps.
	const mapped = (frames) => frames === '' ? '' : host.mapped(frames) ?? frames;

	function withHead(error, frames) {
		const head = headOf(error, explained(error, frames));
		return frames === '' ? head : head + '\n' + stringSlice(mapped(frames), 0, -1);
	}

	const defineStack = (object, value) =>
		defineProperty(object, 'stack', { __proto__: null, value, writable: true, enumerable: false, configurable: true });

	const accessors = {
		get stack() {
			const noted = notedStack(this);
			if (!areFrames(noted))
				return noted;
			const text = withHead(this, noted);
			defineStack(this, text); // from now on it stays as it is, as V8's does
			return text;
		},
		set stack(value) {
			if (!isObject(this) || this === Error.prototype)
				throw new TypeError('Error.prototype.stack can be set on an object only');
			if (!defineStack(this, value))
				throw new TypeError('Cannot assign to property \'stack\' of this object');
		},
	};
	const { get, set } = descriptorOf(accessors, 'stack');
	defineProperty(Error.prototype, 'stack', { __proto__: null, get, set, enumerable: false, configurable: true });

	const engineText = uncurry(Error.prototype.toString);
	put(Error.prototype, 'toString', function toString() {
		const better = isObject(this) && isError(this) ? explained(this, notedStack(this)) : undefined;
		return better === undefined ? engineText(this) : headOf(this, better);
	}, false);

	// Our own frame stands above the others where `above` is not among the callers.
	function captureStackTrace(target, above) {
		if (!isObject(target))
			throw new TypeError('Error.captureStackTrace takes an object');
		engineCapture(target, typeof above === 'function' ? above : captureStackTrace);
		const found = descriptorOf(target, 'stack');
		if (found === undefined || !hasOwn(found, 'value') || !areFrames(found.value))
			return;
		let frames = found.value;
		const end = stringIndexOf(frames, '\n') + 1;
		if (stringIndexOf(stringSlice(frames, 0, end), '(thaw:') !== -1)
			frames = stringSlice(frames, end);
		if (isError(target) && deleteProperty(target, 'stack')) // put together when they are asked for
			weakMapSet(captured, target, frames);
		else
			defineStack(target, withHead(target, frames));
	}
	put(Error, 'captureStackTrace', captureStackTrace, false);

	// ---- DOMException: an Error as every other, so that Error.isError(), its stack and console know it ----

	const CODES = ['INDEX_SIZE_ERR', 'DOMSTRING_SIZE_ERR', 'HIERARCHY_REQUEST_ERR', 'WRONG_DOCUMENT_ERR', 'INVALID_CHARACTER_ERR',
		'NO_DATA_ALLOWED_ERR', 'NO_MODIFICATION_ALLOWED_ERR', 'NOT_FOUND_ERR', 'NOT_SUPPORTED_ERR', 'INUSE_ATTRIBUTE_ERR',
		'INVALID_STATE_ERR', 'SYNTAX_ERR', 'INVALID_MODIFICATION_ERR', 'NAMESPACE_ERR', 'INVALID_ACCESS_ERR', 'VALIDATION_ERR',
		'TYPE_MISMATCH_ERR', 'SECURITY_ERR', 'NETWORK_ERR', 'ABORT_ERR', 'URL_MISMATCH_ERR', 'QUOTA_EXCEEDED_ERR', 'TIMEOUT_ERR',
		'INVALID_NODE_TYPE_ERR', 'DATA_CLONE_ERR'];
	const codeOfName = { __proto__: null, IndexSizeError: 1, HierarchyRequestError: 3, WrongDocumentError: 4,
			     InvalidCharacterError: 5, NoModificationAllowedError: 7, NotFoundError: 8, NotSupportedError: 9,
			     InUseAttributeError: 10, InvalidStateError: 11, SyntaxError: 12, InvalidModificationError: 13,
			     NamespaceError: 14, InvalidAccessError: 15, TypeMismatchError: 17, SecurityError: 18, NetworkError: 19,
			     AbortError: 20, URLMismatchError: 21, QuotaExceededError: 22, TimeoutError: 23, InvalidNodeTypeError: 24,
			     DataCloneError: 25 };

	// What it is called and says lies in the object itself: whoever looks at an image sees it.
	class ReturnsIt {
		constructor(object) {
			return object;
		}
	}
	class Named extends ReturnsIt {
		#name;
		#message;
		constructor(object, name, message) {
			super(object);
			this.#name = name;
			this.#message = message;
		}
		static {
			domState = (error) => isObject(error) && #name in error ?
				{ __proto__: null, name: error.#name, message: error.#message } : undefined;
		}
	}

	function stateOf(exception) {
		const state = domState(exception);
		if (state === undefined)
			throw new TypeError('this is not a DOMException');
		return state;
	}

	class DOMException {
		constructor(message = '', options = 'Error') {
			const text = String(message);
			let name = 'Error';
			const self = construct(Error, [], new.target);
			const noted = engineStack(self);
			if (areFrames(noted)) // without this function's frame, and the one above it
				weakMapSet(captured, self, stringSlice(noted, stringIndexOf(noted, '\n', stringIndexOf(noted, '(thaw:')) + 1));
			if (isObject(options)) {
				if (options.name !== undefined)
					name = String(options.name);
				if ('cause' in options)
					put(self, 'cause', options.cause, false);
			} else {
				name = String(options);
			}
			return new Named(self, name, text);
		}
		get name() {
			return stateOf(this).name;
		}
		get message() {
			return stateOf(this).message;
		}
		get code() {
			return codeOfName[stateOf(this).name] ?? 0;
		}
	}
	toObject.setPrototypeOf(DOMException.prototype, Error.prototype);
	put(DOMException.prototype, toStringTag, 'DOMException', false);
	defineProperty(DOMException.prototype, toStringTag, { __proto__: null, writable: false });
	for (const key of ['name', 'message', 'code'])
		defineProperty(DOMException.prototype, key, { __proto__: null, enumerable: true });
	CODES.forEach((name, index) => {
		for (const holder of [DOMException, DOMException.prototype])
			defineProperty(holder, name, { __proto__: null, value: index + 1, enumerable: true });
	});

	// atob and btoa throw the engine's own kind of DOMException.
	const engineName = getter(globalThis.DOMException.prototype, 'name');
	const engineMessage = getter(globalThis.DOMException.prototype, 'message');
	const define = (name, value) => defineProperty(globalThis, name, { __proto__: null, value, writable: true, configurable: true });

	function translated(act, values) {
		try {
			return apply(act, undefined, values);
		} catch (error) {
			if (isObject(error) && host.kind(error) === 'DOMException')
				throw new DOMException(engineMessage(error), engineName(error));
			throw error;
		}
	}

	const { atob, btoa } = globalThis;
	define('DOMException', DOMException);
	define('atob', function atob_(data) { return translated(atob, data === undefined ? [] : [data]); });
	define('btoa', function btoa_(data) { return translated(btoa, data === undefined ? [] : [data]); });
	defineProperty(globalThis.atob, 'name', { __proto__: null, value: 'atob' });
	defineProperty(globalThis.btoa, 'name', { __proto__: null, value: 'btoa' });

	parts.DOMException = DOMException;
	parts.domState = domState;
	parts.notedStack = notedStack;
	parts.explained = explained;
	parts.mapped = mapped;
	parts.report = report;
	parts.statement = statement;
	parts.stackOf = (error) => {
		const found = descriptorOf(error, 'stack');
		return found === undefined ? apply(get, error, []) : hasOwn(found, 'value') ? found.value : undefined;
	};
	parts.areFrames = areFrames;
	parts.isObject = isObject;
})
