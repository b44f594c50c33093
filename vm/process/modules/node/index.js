// SPDX-License-Identifier: MIT
// thaw - for programs that Node.js runs under `thaw exec`. Without it, or elsewhere, everything works, too: then
// checkpoint() rejects, and nothing is ever restored. index.d.ts has the interface.
'use strict'
let stub = {}
try {
	stub = require('./thaw.node')
} catch {} // another architecture, or no addons here
const listeners = new Set()
let seen = stub.restored ? stub.restored() : 0, timer

// A restored program goes on where it was: nothing calls it. So somebody looks, if anybody wants to know.
function look() {
	const now = stub.restored()
	if (now === seen) return
	seen = now
	for (const listener of [...listeners]) listener({ generation: stub.generation(), restored: now })
}

module.exports = {
	checkpoint(options = {}) {
		const { name = '' } = options
		if (typeof name !== 'string') return Promise.reject(new TypeError('name must be a string'))
		return stub.checkpoint ? stub.checkpoint(name)
			: Promise.reject(new Error('this program does not run under thaw exec'))
	},
	on(event, listener) {
		if (event !== 'restore') throw new TypeError(`there is no event '${event}': use 'restore'`)
		if (typeof listener !== 'function') throw new TypeError('a listener is a function')
		listeners.add(listener)
		if (stub.restored && !timer) timer = setInterval(look, 20).unref()
		return module.exports
	},
	off(event, listener) {
		if (event === 'restore') listeners.delete(listener)
		if (!listeners.size) timer = clearInterval(timer)
		return module.exports
	},
	effectId() { return (stub.effectId && stub.effectId()) || require('crypto').randomUUID() },
	get generation() { return stub.generation ? stub.generation() : 0 },
	get restored() { return stub.restored ? stub.restored() : 0 },
	get active() { return !!stub.checkpoint },
}
