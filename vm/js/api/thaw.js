// SPDX-License-Identifier: MIT
//
// thaw.js - the module "thaw": what a program can know of, and ask from, its own persistence.
//
// Evaluated at most once in the life of a program, when it is first imported; it stays in the heap with the rest.
const { internals } = import.meta; // not by way of anything that a program may have changed by now

// The newest durable generation, as of the start of this turn: renewed when a turn begins, never for its own sake, so that an
// idle program stays unchanged. And how often this program has been restored; 0: never.
export let generation = 0;
export let restored = 0;
internals.bind(() => {
	({ generation, restored } = internals.current());
});

// This process's arguments and environment, also after a restore. Nothing of `env` is stored in the image.
export const args = internals.args;
export const env = internals.env;

// checkpoint() -> Promise of {generation, pages, bytes, pauseNs, durableNs}, once everything up to now is durable. In a process
// restored from that very generation, what follows the await runs again, with {restored: true} in the result.
// checkpoint({ name: 'before-migration' }): that generation has this name (it is in the result), which another one loses by it,
// and is kept until the name is taken away. Several that become durable together give one generation several names.
export const checkpoint = internals.checkpoint;

// effectId() -> a string for the next effect that this program has on the outside: an idempotency key for payments, mails, calls
// of language models. It is the same when a process that was restored after a crash does that again, and never the same for
// two different effects, also not in a clone of the image or after going back to an older generation.
export const effectId = internals.effectId;

// on('checkpoint', ({generation, pages, bytes, pauseNs, durableNs, reason, names}) => ...): after each generation that stored something,
// the one at exit excepted. A handler is a turn, and what it changes goes into the next generation: while there is one, a program
// that has nothing else to do still writes a generation per interval.
// on('restore', ({generation, ageMs, restores, fork}) => ...): the first thing a restored program runs; `fork`: as a fork of another.
// on('SIGTERM', name => ...), and SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGWINCH, SIGCONT: the signal then does nothing else. A second one
// that comes before the first was told ends the program all the same.
export const on = internals.on;
export const off = internals.off;

export const readFile = internals.readFile; // (path, 'utf8') -> Promise of a string; (path) -> of a Uint8Array
export const writeFile = internals.writeFile; // (path, data); begun anew if the process dies meanwhile
export const appendFile = internals.appendFile; // (path, data); rejects with EINTERRUPTED if the process died meanwhile

// As in node:fs/promises. What a kill interrupted is asked or done again where that makes no difference, else it rejects with
// EINTERRUPTED: whoever made, removed or renamed something has to look.
const none = { __proto__: null }; // an older prelude has none
export const { readdir, stat, lstat, mkdir, rm, rename, copyFile, realpath, readlink, symlink } = internals.files ?? none;

// for await (const bytes of stdin), stdin.lines(), await stdin.text(), await stdin.bytes(). What was read after the newest generation
// is not there again; each process has its own.
export const stdin = internals.stdin;

export const exit = internals.exit; // ends the program for good: a later run says so, and starts nothing
export const stats = internals.stats;
export const gc = internals.gc; // collects garbage at the end of this turn

export default (internals.freeze ?? Object.freeze)({ // an older prelude has none
	get generation() { return generation; },
	get restored() { return restored; },
	args, env, checkpoint, effectId, on, off, readFile, writeFile, appendFile, readdir, stat, lstat, mkdir, rm, rename, copyFile,
	realpath, readlink, symlink, stdin, exit, stats, gc,
});
