// SPDX-License-Identifier: MIT
// For programs that Node.js runs under `thaw exec`.

/** What a checkpoint came to. */
export interface Checkpoint {
	/** The generation that is durable now, with all that the program had done when it asked. */
	generation: number
	/** True in a process that was restored from that very generation, or from one taken while it waited. */
	restored: boolean
}

/** Take a generation, perhaps with a name, and wait until it is durable. Rejects with the reason, also outside of `thaw exec`. */
export function checkpoint(options?: { name?: string }): Promise<Checkpoint>
/**
 * A string for the next effect that this program has on the outside, to be used as its idempotency key. The same when a process
 * that was restored after a crash asks for the same effects in the same order again; never the same for two different
 * effects, also not in a clone of the image or after going back to an older generation. Outside of `thaw exec`, and in
 * children of the program, it is random.
 */
export function effectId(): string
/** Called once after each restore, within 20 ms, before or after what was under way goes on. */
export function on(event: 'restore', listener: (event: { generation: number, restored: number }) => void): typeof import('.')
export function off(event: 'restore', listener: (event: { generation: number, restored: number }) => void): typeof import('.')
/** The newest generation that this process knows to be durable; 0: none. */
export const generation: number
/** How often this program was restored. */
export const restored: number
/** Does it run under `thaw exec`? */
export const active: boolean
