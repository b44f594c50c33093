// SPDX-License-Identifier: MIT
// Types of thaw-vm. README.md has the tour.

/**
 * What goes into a VM and comes out, copied: undefined, null, booleans, numbers, BigInts, strings, arrays, objects (own enumerable
 * properties with names; no class), Errors, Dates, Uint8Array and the other typed arrays (but Float16Array); ArrayBuffer and Buffer arrive
 * as Uint8Array. Out of a VM, functions and symbols are undefined; into it they are refused, as are Map, Set, RegExp, Proxy, and what
 * is circular or nested deeper than 1,000.
 */
export type Value = any

/** A function of the program's host. `this` is undefined. What it throws is thrown in the VM; for a Promise the program has a promise. */
export type HostFunction = (...args: any[]) => Value | Promise<Value>

export interface VMOptions {
	/**
	 * An image file to go on from, and for checkpoint(); made if it is not there. Without one nothing persists. If the newest generation is
	 * damaged, the one before is opened, and the process emits a warning, 'ThawWarning'.
	 */
	image?: string
	/** A generation of the image, its number or a name of it; the newest by default. */
	at?: number | string
	/** Begin anew; the generations of the image stay until others take their place. */
	fresh?: boolean
	/** Read pages of the image ahead, and not only those that are touched. */
	prefetch?: boolean
	/** For a checkpoint after each small call: where many follow each other, each is durable with one write and one sync. */
	smallCheckpoints?: boolean
	/** Generations that the image keeps, beside those with names; 8 by default. */
	retain?: number
	/** Begin as this; not together with an image. */
	snapshot?: Snapshot
	/** The most of heap: a multiple of 64 KiB, at least 16 MiB; 4 GiB by default. What is more is an error to be caught. */
	maxBytes?: number
	/** How long one call, or one step of run(), may last: then ERR_THAW_INTERRUPTED, and the VM lives on. No limit by default. */
	turnMs?: number
	/** Global variables of the program. Images and snapshots refer to them by name, and open only where those are given. */
	functions?: Record<string, HostFunction>
	/** What the program prints (fd 1, 2), and exceptions that nobody caught (2). Dropped by default. */
	log?: (text: string, fd: 1 | 2) => void
	/** The most that one call may print: then ERR_THAW_INTERRUPTED. No limit by default. */
	maxLogBytes?: number
	/** The source of a module that is imported; undefined: there is none. Nothing can be imported by default. */
	loadModule?: (name: string) => string | undefined
	/** What a name means where `importer` imports it. By default './a.js' and '../a.js' are beside the importer. */
	resolveModule?: (name: string, importer: string) => string | undefined
}

export interface EvalOptions {
	/** What stacks call the code. */
	name?: string
	/** A module, whose result is a Promise. */
	module?: boolean
}

export interface RunOptions {
	/** Do not keep the process alive. */
	unref?: boolean
	/** At most for so long. */
	ms?: number
}

/** Code that runs together: the globals of a VM, or of one of its contexts. */
export interface Context {
	/** Run code: its completion value. A promise of the VM's is a Promise, for which time passes in the VM. */
	eval(code: string, options?: EvalOptions): Value
	/** Call the function of that dotted name, as 'tools.add'. */
	call(name: string, args?: readonly Value[]): Value
}

/** A host function that was called and has not answered. */
export interface PendingCall {
	ticket: number
	name: string
	arguments: Value[]
	/** Its Promise is one of this process: it settles by itself. */
	running: boolean
}

/** What an image has. */
export interface Generation {
	number: number
	/** That it was made from; 0: none. */
	parent: number
	time: Date
	heapBytes: number
	bytesWritten: number
	names: string[]
}

/** One sandboxed VM. It is used by the thread that made it, and closed when it is collected, unless close() does it. */
export class ThawVM implements Context {
	constructor(options?: VMOptions)
	/** The generations of an image, also of one in use; oldest first. */
	static generations(image: string): Generation[]
	/** A number that interrupt() takes in any thread of the process. */
	readonly id: number
	readonly closed: boolean
	eval(code: string, options?: EvalOptions): Value
	call(name: string, args?: readonly Value[]): Value
	/** The context of that name, which is made if there is none; '' is the first one. At most 32. */
	context(name: string): Context
	/**
	 * Let time pass in the VM, by the event loop of Node, until nothing of it is due and no host function is at work: true. False: `ms` were
	 * over. Rejects with what cut a timer's callback short.
	 */
	run(options?: RunOptions): Promise<boolean>
	/** Bytes of heap; those that are allocated in it, garbage included; and how many calls and timers have ended. */
	usage(): { heapBytes: number; liveBytes: number; turns: number }
	/** Collect garbage now, which else is done when the heap has grown enough. */
	collect(): void
	/** Cut short the call under way, or the next one; in a host function, mostly. For other threads there is interrupt(id). */
	interrupt(): void
	/** Calls of host functions whose promises wait, oldest first; of an image or a snapshot, those that waited when it was taken. */
	pending(): PendingCall[]
	/** Settle the promise of one. False: it is settled. */
	settle(ticket: number, value?: Value): boolean
	reject(ticket: number, reason?: Value): boolean
	/** Call those that wait, and do not run here, again: how many. */
	resume(functions: Record<string, HostFunction>): number
	/** Make what is in the VM durable in its image, perhaps under a name: the number of the generation. */
	checkpoint(name?: string): number
	/** The same while the program goes on: what is in the VM now becomes durable. One at a time; close() waits for it. */
	checkpointAsync(name?: string): Promise<number>
	snapshot(): Snapshot
	/** Be what the VM, or another one, was. Promises that were given are rejected with ERR_THAW_ROLLED_BACK. Not of a VM with an image. */
	rollback(snapshot: Snapshot): void
	close(): void
	[Symbol.dispose](): void
}

/** What a VM was between two calls. It never changes, and any number of VMs begin from it and share what they do not write. */
export class Snapshot {
	private constructor()
	/** From bytes; those of a delta need the snapshot that they were made since. */
	static from(bytes: Uint8Array, base?: Snapshot, options?: { maxBytes?: number }): Snapshot
	/** The same on another thread, while the event loop goes on. */
	static fromAsync(bytes: Uint8Array, base?: Snapshot, options?: { maxBytes?: number }): Promise<Snapshot>
	/** One that another thread has sent: once for each send(). */
	static receive(number: number): Snapshot
	/** 32 hexadecimal digits: equal contents have equal ids. */
	readonly id: string
	/** All of it, or what changed since another one, as a Buffer. Equal contents give equal bytes. */
	bytes(options?: { since?: Snapshot }): Uint8Array
	/** The same on another thread, while the event loop goes on: of a large heap, all of it takes long. */
	bytesAsync(options?: { since?: Snapshot }): Promise<Uint8Array>
	fork(options?: Omit<VMOptions, 'snapshot' | 'image' | 'at' | 'fresh' | 'prefetch' | 'smallCheckpoints' | 'retain'>): ThawVM
	/** A number for Snapshot.receive() in another thread, which shares the memory. What is never received stays. */
	send(): number
	/** Let go of the memory before the collector does. */
	dispose(): void
	[Symbol.dispose](): void
}

export type ThawErrorCode =
	| 'ERR_THAW_EXCEPTION' // the program threw
	| 'ERR_THAW_INTERRUPTED' // its time was over, or interrupt(); the VM lives on
	| 'ERR_THAW_TRAPPED' // the sandbox stopped it: nothing but close() and rollback() is left
	| 'ERR_THAW_ENDED' // it called exit(): likewise
	| 'ERR_THAW_MISSING' // the image or snapshot needs functions that were not given
	| 'ERR_THAW_BUSY' // not inside of a call
	| 'ERR_THAW_CLOSED' // the VM is closed, or the snapshot is disposed
	| 'ERR_THAW_ROLLED_BACK' // a promise of what is no more
	| 'ERR_THAW_VALUE' // it cannot be passed
	| 'ERR_THAW_INVALID' | 'ERR_THAW_DAMAGED' | 'ERR_THAW_FOREIGN' | 'ERR_THAW_FORMAT' | 'ERR_THAW_ENGINE' | 'ERR_THAW_IN_USE'
	| 'ERR_THAW_KERNEL' | 'ERR_THAW_NO_GENERATION' | 'ERR_THAW_GONE' | 'ERR_THAW_REPLACED' | 'ERR_THAW_OVERWRITTEN' | 'ERR_THAW_KEY'
	| 'ERR_THAW_OWNER' | 'ERR_THAW_PLATFORM' | (string & {})

/** What went wrong. An Error of the program's is one with its name, message, frames (above those of Node) and properties. */
export class ThawError extends Error {
	code: ThawErrorCode
	/** ERR_THAW_EXCEPTION: what was thrown, if it was no Error. */
	thrown?: Value
	/** The program's own `code`, if its Error had one. */
	vmCode?: Value
	/** ERR_THAW_MISSING */
	missing?: string[]
	/** ERR_THAW_ENDED */
	exitCode?: number
}

/** Cut short what a VM of any thread of the process does. False: there is none of that number. */
export function interrupt(id: number): boolean

declare global {
	interface SymbolConstructor {
		readonly dispose: unique symbol
	}
}

export default ThawVM
