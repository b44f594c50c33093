// SPDX-License-Identifier: MIT
//
// messages.js - MessageEvent, MessageChannel and MessagePort.
//
// Called when it is first needed (later.js; primordials.js says what must not be used). Both ends of a channel are in this heap: a
// message that is on its way keeps the program alive, a port that waits for one does not, since nobody outside can send one.
(function (host, parts) {
	'use strict';

	const { arrayOf, freeze, iterator, list, TypeError } = parts.primordials;
	const { DOMException, isObject, expose, textOf, optionsOf, eachItem, late } = parts;

	parts.need('events');
	parts.need('structured_clone');
	const { Event, EventTarget, fire, handler } = late;

	class MessageEvent extends Event {
		#fields;
		constructor(type, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('MessageEvent: the type is missing');
			super(type, options);
			const { data = null, lastEventId = '', origin = '', ports = undefined, source = null } = optionsOf(options, 'MessageEvent');
			this.#fields = { __proto__: null, data, lastEventId: textOf(lastEventId), origin: textOf(origin), source,
					 ports: freeze(ports === undefined ? [] : arrayOf(itemsOf(ports))) };
		}
		get data() { return this.#fields.data; }
		get origin() { return this.#fields.origin; }
		get lastEventId() { return this.#fields.lastEventId; }
		get source() { return this.#fields.source; }
		get ports() { return this.#fields.ports; }
	}
	expose(MessageEvent, 'MessageEvent');

	function itemsOf(items) {
		const found = list();
		eachItem(items, 'this is not a sequence', (item) => { found[found.length] = item; });
		return found;
	}

	// An end of a channel goes from port to port, where it is transferred; a port without one is detached.
	let endOf, moveEnd;
	const OURS = {};
	const newEnd = () => ({ __proto__: null, object: undefined, other: undefined, queue: list(), next: 0, started: false });

	class MessagePort extends EventTarget {
		#end;
		constructor(ours, end) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor: MessageChannel makes ports');
			super();
			this.#end = end;
			end.object = this;
		}
		static {
			endOf = (port) => port.#end;
			moveEnd = (port) => {
				const end = port.#end;
				port.#end = undefined;
				end.started = false;
				return new MessagePort(OURS, end);
			};
			parts.isPort = (value) => isObject(value) && #end in value;
		}
		postMessage(message, options = undefined) {
			if (arguments.length === 0)
				throw new TypeError('postMessage: the message is missing');
			const end = this.#end;
			const transfer = options === undefined || options === null ? undefined :
				isObject(options) && typeof options[iterator] === 'function' ? options : optionsOf(options, 'postMessage').transfer;
			const items = transfer === undefined ? list() : itemsOf(transfer);
			let doomed = false;
			for (let i = 0; i < items.length; i++) {
				if (items[i] === this)
					throw new DOMException('a port cannot be sent by itself', 'DataCloneError');
				doomed ||= end?.other !== undefined && items[i] === end.other.object;
			}
			const sent = late.cloneWith(message, items);
			if (end?.other === undefined || doomed)
				return;
			end.other.queue[end.other.queue.length] = sent;
			if (end.other.started)
				deliverLater(end.other);
		}
		start() {
			start(this.#end);
		}
		close() {
			const end = this.#end;
			const other = end?.other;
			if (other === undefined)
				return;
			end.other = other.other = undefined;
			end.queue = list();
			end.next = 0;
			parts.queueTask(() => fire(other.object, new Event('close')));
		}
	}
	expose(MessagePort, 'MessagePort');
	handler(MessagePort, 'onmessage', (port) => start(endOf(port)));
	handler(MessagePort, 'onmessageerror');
	handler(MessagePort, 'onclose');

	function start(end) {
		if (end === undefined || end.started)
			return;
		end.started = true;
		for (let i = end.next; i < end.queue.length; i++)
			deliverLater(end);
	}

	const deliverLater = (end) => parts.queueTask(() => deliver(end));

	function deliver(end) {
		if (!end.started || end.next >= end.queue.length)
			return; // transferred or closed meanwhile
		const { value, ports } = end.queue[end.next];
		end.queue[end.next++] = undefined;
		if (end.next === end.queue.length) {
			end.queue.length = 0;
			end.next = 0;
		}
		fire(end.object, new MessageEvent('message', { __proto__: null, data: value, ports: arrayOf(ports) }));
	}

	class MessageChannel {
		#port1;
		#port2;
		constructor() {
			const one = newEnd();
			const two = newEnd();
			one.other = two;
			two.other = one;
			this.#port1 = new MessagePort(OURS, one);
			this.#port2 = new MessagePort(OURS, two);
		}
		get port1() { return this.#port1; }
		get port2() { return this.#port2; }
	}
	expose(MessageChannel, 'MessageChannel');

	parts.portDetached = (port) => endOf(port) === undefined;
	parts.movePort = moveEnd;
	late.MessageEvent = MessageEvent;
	late.MessagePort = MessagePort;
	late.MessageChannel = MessageChannel;
})
