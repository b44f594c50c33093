// SPDX-License-Identifier: MIT
// thaw-vm - sandboxed JavaScript VMs that can be forked, rolled back, turned into bytes, and kept in image files. README.md has
// the tour, index.d.ts the interface. Here are the classes, the promises and the clock; the addon has the rest (addon.c).
'use strict'
const { types } = require('util')
const path = require('path')
const os = require('os')

function load() {
	const platform = `${process.platform}-${process.arch}`
	try {
		return require(path.join(__dirname, platform, 'thaw_vm.node'))
	} catch (cause) {
		const why = cause.code === 'MODULE_NOT_FOUND' ? 'this package has none' : cause.message
		const error = new Error(`thaw-vm: cannot load the addon for ${platform}: ${why}`)
		throw Object.assign(error, { code: 'ERR_THAW_PLATFORM', cause })
	}
}
const native = load()

// ---- Errors

// Codes of thaw.h and thaw_vm.h.
const codes = new Map([
	[-20101, 'ERR_THAW_EXCEPTION'], [-20102, 'ERR_THAW_INTERRUPTED'], [-20103, 'ERR_THAW_TRAPPED'],
	[-20104, 'ERR_THAW_ENDED'], [-20105, 'ERR_THAW_MISSING'], [-20106, 'ERR_THAW_PENDING'],
	[-20001, 'ERR_THAW_DAMAGED'], [-20002, 'ERR_THAW_FOREIGN'], [-20003, 'ERR_THAW_FORMAT'], [-20004, 'ERR_THAW_ENGINE'],
	[-20005, 'ERR_THAW_IN_USE'], [-20006, 'ERR_THAW_KERNEL'], [-20007, 'ERR_THAW_NO_GENERATION'], [-20008, 'ERR_THAW_GONE'],
	[-20009, 'ERR_THAW_REPLACED'], [-20010, 'ERR_THAW_OVERWRITTEN'], [-20013, 'ERR_THAW_KEY'], [-20012, 'ERR_THAW_OWNER'],
	[-os.constants.errno.EBUSY, 'ERR_THAW_BUSY'], [-os.constants.errno.EINVAL, 'ERR_THAW_INVALID'],
	[-os.constants.errno.EBADF, 'ERR_THAW_CLOSED'],
])
const names = new Map(Object.entries(os.constants.errno).map(([name, number]) => [-number, name]))

class ThawError extends Error {
	constructor(message, code, more) {
		super(message)
		this.code = code
		Object.assign(this, more)
	}
}
Object.defineProperty(ThawError.prototype, 'name', { value: 'ThawError', configurable: true, writable: true })

function codeOf(number) {
	return codes.get(number) ?? names.get(number) ?? 'ERR_THAW'
}

// What the library says, or what was thrown: an Error of the VM's is told by one of Node's with its name, message, frames and properties.
function failure(number, text, thrown, wasThrown) {
	const code = codeOf(number)
	if (code === 'ERR_THAW_EXCEPTION' && wasThrown) {
		if (!(thrown instanceof GuestError)) return new ThawError(`the program has thrown ${show(thrown)}`, code, { thrown })
		return finish(thrown, code, framesHere())
	}
	const more = {}
	if (code === 'ERR_THAW_MISSING') more.missing = thrown ?? text.slice(text.lastIndexOf(': ') + 2).split(', ')
	if (code === 'ERR_THAW_ENDED') more.exitCode = Number(/exit\((\d+)\)/.exec(text)?.[1] ?? 0)
	return new ThawError(text, code, more)
}

// "    at ..." of who has called, unless the process formats its stacks in a way of its own.
function framesHere() {
	const here = {}
	Error.captureStackTrace(here, failure)
	const { stack } = here, end = typeof stack === 'string' ? stack.indexOf('\n    at ') : -1
	return end < 0 ? '' : stack.slice(end + 1)
}

function show(value) {
	try {
		return typeof value === 'string' ? JSON.stringify(value) : String(value)
	} catch {
		return typeof value
	}
}

// An Error of the VM's as data. `name` is an own property: there is no class here for each of theirs.
class GuestError extends ThawError {}

function error(name, message, stack, properties) {
	const made = new GuestError(message)
	delete made.code
	for (const key of Object.keys(properties))
		if (!(key in made)) define(made, key, properties[key], true)
	define(made, 'name', name)
	const head = `${name}${message && ': '}${message}`
	define(made, 'stack', stack.startsWith(head) ? stack : `${head}\n${stack}`)
	return made
}

function finish(made, code, frames) {
	if (!Object.hasOwn(made, 'code')) define(made, 'code', code, true)
	else if (made.code !== code) define(made, 'vmCode', made.code, true), define(made, 'code', code, true)
	define(made, 'stack', `${made.stack.replace(/\n*$/, '\n')}${frames}`)
	return made
}

function define(object, key, value, enumerable = false) {
	Object.defineProperty(object, key, { value, enumerable, configurable: true, writable: true })
}

// ---- What the addon asks

function passable(object) {
	const prototype = Object.getPrototypeOf(object)
	return prototype === Object.prototype || prototype === null ||
		!(types.isMap(object) || types.isSet(object) || types.isWeakMap(object) || types.isWeakSet(object) ||
			types.isRegExp(object) || types.isPromise(object) || types.isBoxedPrimitive(object) || types.isProxy(object) ||
			types.isGeneratorObject(object) || types.isMapIterator(object) || types.isSetIterator(object) ||
			types.isSharedArrayBuffer(object) || types.isDataView(object) || types.isExternal(object))
}

const vms = new WeakMap() // the addon's object of a VM: its State

native.setup([
	failure, error, BigInt, passable,
	(handle, promise) => vms.get(handle).adopt(promise),
	(handle, ticket, promise) => vms.get(handle).wait(ticket, promise),
])

// ---- A VM: what lasts longer than a call

// For a promise of the program. Where nobody looks, a rejection is the program's, which prints it: it does not end the process, as one of
// Node's does. (`await` calls then() of a promise that is not quite Promise.)
class ProgramPromise extends Promise {
	#looked = false

	static get [Symbol.species]() { return Promise }

	static of(state, promise) {
		const made = new ProgramPromise((resolve, reject) => state.promises.set(promise, {
			resolve,
			reject(reason) {
				reject(reason)
				setImmediate(() => made.#looked || state.print(`Uncaught (in promise) ${textOf(reason)}\n`)).unref()
			},
		}))
		Promise.prototype.then.call(made, undefined, () => {})
		return made
	}

	then(fulfilled, rejected) {
		this.#looked = true
		return super.then(fulfilled, rejected)
	}
}

const textOf = reason => String(reason?.stack ?? reason)

const LONGEST_MS = 0x7fffffff
const fatal = new Set(['ERR_THAW_TRAPPED', 'ERR_THAW_ENDED', 'ERR_THAW_DAMAGED'])

class State {
	constructor(handle) {
		this.handle = handle
		this.depth = 0
		this.context = 0 // that calls work in
		this.promises = new Map() // handle of a promise in the VM: how to settle the one that was given for it
		this.tickets = new Map() // that a promise of a host function is to settle: it
		this.runs = new Set()
		this.timer = this.immediate = undefined
		this.closed = false
	}

	// Every call that runs code, and what may follow from it.
	enter(call, a, b, c) {
		if (this.closed) throw new ThawError('the VM is closed', 'ERR_THAW_CLOSED')
		this.depth++
		try {
			return call(this.handle, a, b, c)
		} catch (thrown) {
			if (fatal.has(thrown?.code)) this.fail(thrown)
			throw thrown
		} finally {
			if (!--this.depth) this.settle()
		}
	}

	adopt(promise) { return ProgramPromise.of(this, promise) }

	print(text) { if (!this.closed) this.handle.log?.(text, 2) }

	wait(ticket, promise) {
		const done = (failed, value) => {
			if (this.tickets.get(ticket) !== promise) return
			this.tickets.delete(ticket)
			if (this.closed) return
			try {
				try {
					this.enter(native.settle, ticket, failed, value)
				} catch (thrown) {
					if (thrown?.code !== 'ERR_THAW_VALUE') throw thrown
					this.enter(native.settle, ticket, true, thrown) // it is no data: the program hears why
				}
			} catch (thrown) {
				this.report(thrown)
			}
		}
		this.tickets.set(ticket, promise)
		promise.then(value => done(false, value), reason => done(true, reason))
		return true
	}

	// What went wrong while nobody called: for those who wait, else as the program's own output.
	report(thrown) {
		const runs = [...this.runs]
		this.runs.clear()
		for (const run of runs) run.reject(thrown)
		if (!runs.length) this.print(`Uncaught ${textOf(thrown)}\n`)
	}

	fail(reason, still = new Set()) {
		const waiting = [...this.promises.values(), ...this.runs]
		this.promises.clear()
		this.runs.clear()
		for (const ticket of this.tickets.keys()) if (!still.has(ticket)) this.tickets.delete(ticket)
		for (const { reject } of waiting) reject(reason)
		this.schedule()
	}

	// Host functions that were at work then settle what they were called for; no other ticket has the same number.
	rolledBack() {
		this.context = 0
		this.fail(new ThawError('the VM was rolled back', 'ERR_THAW_ROLLED_BACK'), new Set(native.tickets(this.handle)))
	}

	// Between calls: promises that have come to something, and when to go on.
	settle() {
		if (this.closed || this.depth || (!this.promises.size && !this.runs.size && !this.timer && !this.immediate)) return
		for (const [promise, { resolve, reject }] of this.promises) {
			const state = native.promise(this.handle, promise)
			if (state === 1) continue
			this.promises.delete(promise)
			try {
				resolve(native.outcome(this.handle, promise))
			} catch (thrown) {
				reject(thrown)
			}
		}
		this.schedule()
	}

	// Time passes in a VM while somebody waits for it.
	schedule() {
		clearTimeout(this.timer)
		clearImmediate(this.immediate)
		this.timer = this.immediate = undefined
		if (this.closed || (!this.promises.size && !this.runs.size)) return
		const due = native.nextDue(this.handle)
		if (due === Infinity) {
			if (!this.tickets.size) for (const run of this.runs) this.runs.delete(run), run.resolve(true)
			return
		}
		const step = () => {
			try {
				this.enter(native.step)
			} catch (thrown) {
				this.report(thrown)
			}
		}
		const unref = [...this.runs].every(run => run.unref) && this.runs.size > 0
		if (due <= 0) this.immediate = setImmediate(step)
		else this.timer = setTimeout(step, Math.min(Math.ceil(due), LONGEST_MS))
		if (unref) (this.timer ?? this.immediate).unref()
	}

	use(index) {
		native.use(this.handle, index)
		if (!this.depth) this.context = index
	}

	run({ unref = false, ms } = {}) {
		if (this.closed) return Promise.reject(new ThawError('the VM is closed', 'ERR_THAW_CLOSED'))
		return new Promise((resolve, reject) => {
			const run = { unref, reject(thrown) { clearTimeout(timer), reject(thrown) }, resolve(done) { clearTimeout(timer), resolve(done) } }
			const timer = ms === undefined ? undefined : setTimeout(() => {
				if (this.runs.delete(run)) this.schedule(), resolve(false)
			}, ms)
			if (unref) timer?.unref()
			this.runs.add(run)
			this.schedule()
		})
	}

	close() {
		if (this.closed) return
		native.close(this.handle)
		this.closed = true
		this.fail(new ThawError('the VM is closed', 'ERR_THAW_CLOSED'))
	}
}

function text(value, what) {
	if (typeof value !== 'string') throw new TypeError(`${what} must be a string`)
	return value
}

function number(value, what, most = Number.MAX_SAFE_INTEGER) {
	if (typeof value !== 'number' || !(value >= 0 && value <= most)) throw new RangeError(`${what} must be a number from 0 to ${most}`)
	return value
}

// What evaluates, in one of the contexts of a VM.
class Context {
	#state
	#index

	constructor(state, index) {
		this.#state = state
		this.#index = index
	}

	#enter(call, a, b, c) {
		const state = this.#state
		if ((state.depth || state.context !== this.#index) && !state.closed) state.use(this.#index)
		return state.enter(call, a, b, c)
	}

	eval(code, { name = 'eval', module = false } = {}) {
		return this.#enter(native.eval, text(code, 'code'), text(name, 'name'), !!module)
	}

	call(name, list = []) {
		if (!Array.isArray(list)) throw new TypeError('the arguments must be an array')
		return this.#enter(native.call, text(name, 'name'), list)
	}
}

class ThawVM {
	#state
	#main
	#id
	#contexts = new Map()

	constructor(options = {}) {
		const { image, at, fresh, prefetch, smallCheckpoints, retain, maxBytes, turnMs, maxLogBytes, functions = {}, log, loadModule, resolveModule, snapshot } = options
		const handle = {}
		const given = { functions: Object.keys(functions) }
		given.functions.forEach((name, index) => {
			if (typeof functions[name] !== 'function') throw new TypeError(`functions.${name} must be a function`)
			handle[index] = functions[name]
		})
		for (const [name, value] of Object.entries({ log, loadModule, resolveModule })) {
			if (value !== undefined && typeof value !== 'function') throw new TypeError(`${name} must be a function`)
		}
		if (image !== undefined) given.image = text(image, 'image')
		if (at !== undefined) given.at = typeof at === 'string' ? at : String(number(at, 'at'))
		if (retain !== undefined) given.retain = number(retain, 'retain', 0xffffffff)
		given.flags = (fresh ? 1 : 0) | (prefetch ? 2 : 0) | (smallCheckpoints ? 4 : 0) // THAW_VM_FRESH, THAW_VM_PREFETCH, THAW_VM_LOG
		if (maxBytes !== undefined) given.maxBytes = number(maxBytes, 'maxBytes')
		if (turnMs !== undefined) given.turnMs = number(turnMs, 'turnMs', 1e12)
		if (maxLogBytes !== undefined) given.maxLogBytes = number(maxLogBytes, 'maxLogBytes')
		if (resolveModule !== undefined) given.resolve = true, handle.resolve = resolveModule
		if (log !== undefined) given.log = true, handle.log = log
		if (loadModule !== undefined) given.load = true, handle.load = loadModule
		if (snapshot !== undefined) given.snapshot = inside(snapshot)
		this.#state = new State(handle)
		vms.set(handle, this.#state)
		this.#id = native.open(handle, given)
		this.#main = new Context(this.#state, 0)
		if (handle.warning !== undefined) process.emitWarning(handle.warning, 'ThawWarning')
	}

	// Of an image, also of one in use: oldest first.
	static generations(image) {
		return native.generations(text(image, 'image')).map(one => ({ ...one, time: new Date(one.time), names: one.names ? one.names.split(' ') : [] }))
	}

	get id() { return this.#id }
	get closed() { return this.#state.closed }

	eval(code, options) { return this.#main.eval(code, options) }
	call(name, list) { return this.#main.call(name, list) }

	context(name) {
		text(name, 'name')
		if (!name) return this.#main
		const index = this.#state.enter(native.context, name)
		if (!this.#contexts.has(index)) this.#contexts.set(index, new Context(this.#state, index))
		return this.#contexts.get(index)
	}

	usage() { return this.#state.enter(native.usage) }
	collect() { this.#state.enter(native.collect) }
	run(options) { return this.#state.run(options) }
	interrupt() { interrupt(this.#id) }

	pending() {
		return this.#state.enter(native.tickets).map(ticket => {
			const [name, list] = this.#state.enter(native.ticketCall, ticket)
			return { ticket, name, arguments: list, running: this.#state.tickets.has(ticket) }
		})
	}

	settle(ticket, value) { return this.#finish(ticket, false, value) }
	reject(ticket, reason) { return this.#finish(ticket, true, reason) }

	#finish(ticket, failed, value) {
		const done = this.#state.enter(native.settle, number(ticket, 'ticket'), failed, value)
		this.#state.tickets.delete(ticket)
		this.#state.schedule()
		return done
	}

	// Call again what waits, and nobody here works on.
	resume(functions) {
		const waiting = this.pending().filter(({ running, name }) => !running && typeof functions[name] === 'function')
		for (const { ticket, name, arguments: list } of waiting)
			this.#state.wait(ticket, new Promise(resolve => resolve(functions[name](...list))))
		return waiting.length
	}

	checkpoint(name) {
		return this.#state.enter(native.checkpoint, name === undefined ? undefined : text(name, 'name'))
	}

	// The same while the program goes on.
	async checkpointAsync(name) {
		const state = this.#state
		state.enter(native.beginCheckpoint, name === undefined ? undefined : text(name, 'name'))
		for (let ms = 1;; ms = Math.min(2 * ms, 50)) {
			await new Promise(done => setTimeout(done, ms))
			const generation = state.enter(native.pollCheckpoint)
			if (generation) return generation
		}
	}

	snapshot() { return new Snapshot(secret, this.#state.enter(native.snapshot)) }

	rollback(snapshot) {
		this.#state.enter((handle, to) => {
			native.rollback(handle, to)
			this.#contexts.clear()
			this.#state.rolledBack()
		}, inside(snapshot))
	}

	close() { this.#state.close() }
}

// ---- Snapshots

const secret = Symbol('thaw-vm')
const insides = new WeakMap()

function array(bytes) {
	if (!types.isUint8Array(bytes)) throw new TypeError('bytes must be a Uint8Array')
	return bytes
}

function inside(snapshot) {
	const found = insides.get(snapshot)
	if (!found) throw new TypeError('a Snapshot is needed')
	return found
}

class Snapshot {
	constructor(key, handle) {
		if (key !== secret) throw new TypeError('snapshots are made by vm.snapshot(), Snapshot.from() and Snapshot.receive()')
		insides.set(this, handle)
	}

	static from(bytes, base, { maxBytes = 0 } = {}) {
		return new Snapshot(secret, native.openSnapshot(array(bytes), base && inside(base), number(maxBytes, 'maxBytes')))
	}

	static async fromAsync(bytes, base, { maxBytes = 0 } = {}) {
		return new Snapshot(secret, await native.openSnapshotLater(array(bytes), base && inside(base), number(maxBytes, 'maxBytes')))
	}

	static receive(number) { return new Snapshot(secret, native.receive(number)) }

	get id() { return native.id(inside(this)) }

	bytes({ since } = {}) { return native.bytes(inside(this), since && inside(since)) }
	async bytesAsync({ since } = {}) { return native.bytesLater(inside(this), since && inside(since)) }
	fork(options) { return new ThawVM({ ...options, snapshot: this }) }
	send() { return native.send(inside(this)) }
	dispose() { native.drop(inside(this)) }
}

// From any thread of the process: is there a VM of that number?
function interrupt(id) { return native.interrupt(id) }

// `using` of TypeScript and newer engines.
if (Symbol.dispose) {
	define(ThawVM.prototype, Symbol.dispose, ThawVM.prototype.close)
	define(Snapshot.prototype, Symbol.dispose, Snapshot.prototype.dispose)
}

module.exports = { ThawVM, Snapshot, ThawError, interrupt }
