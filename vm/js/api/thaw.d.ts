// SPDX-License-Identifier: MIT
//
// thaw.d.ts - the module "thaw", for editors and for tsc. vm/js/api/thaw.js says what each is for.
//
// In a project's tsconfig.json: "include": ["src", "/usr/local/share/thaw/thaw.d.ts"].
// How a module that an upgrade replaces hands over (thaw help upgrade): the interface is Vite's.
interface ThawHot {
	/** Of this module and of the ones that replace it. */
	readonly data: any;
	/** There is nothing to keep; or: call this, of the old module, with the new one. */
	accept(callback?: (module: any) => void | Promise<void>): void;
	/** Of an importer: tell it when that one was replaced. */
	accept(dependency: string, callback?: (module: any) => void | Promise<void>): void;
	accept(dependencies: readonly string[], callback?: (modules: any[]) => void | Promise<void>): void;
	/** Before this module is replaced or given up. */
	dispose(callback: (data: any) => void | Promise<void>): void;
	/** Once nobody imports it any more. */
	prune(callback: (data: any) => void | Promise<void>): void;
	/** It must never be replaced. */
	decline(): void;
	/** In an upgrade: it must not be. */
	invalidate(message?: string): void;
	/** Vite's events have nothing to tell here. */
	on(event: string, callback: (payload: any) => void): void;
	off(event: string, callback: (payload: any) => void): void;
	send(event: string, data?: any): void;
}
interface ImportMeta {
	readonly hot: ThawHot;
}

declare module 'thaw' {
	/** The newest durable generation, as of the start of this turn; 0: none. */
	export let generation: number;
	/** How often this program has been restored. */
	export let restored: number;
	/** Of this process, also after a restore. */
	export const args: string[];
	export const env: { readonly [name: string]: string | undefined };

	export interface Checkpoint {
		generation: number;
		name?: string;
		pages: number;
		bytes: number;
		pauseNs: number;
		durableNs: number;
		/** This is another process, which was restored from that generation. */
		restored?: true;
	}
	/** Resolves once everything up to now is durable. */
	export function checkpoint(options?: { name?: string }): Promise<Checkpoint>;

	/**
	 * A string for the next effect that this program has on the outside, to be used as its idempotency key. The same when
	 * a process that was restored after a crash asks for the same effects in the same order again; never the same for two
	 * different effects, also not in a clone of the image or after going back to an older generation.
	 */
	export function effectId(): string;

	export interface CheckpointEvent {
		generation: number;
		pages: number;
		bytes: number;
		pauseNs: number;
		durableNs: number;
		reason: 'timer' | 'exit' | 'signal' | 'request' | 'output';
		names: string[];
	}
	export interface RestoreEvent {
		generation: number;
		ageMs: number;
		restores: number;
		/** It begins as a fork, which has its own randomness and effects: the program that it is of may go on beside it. */
		fork?: true;
	}
	export function on(event: 'checkpoint', listener: (event: CheckpointEvent) => void): void;
	export function on(event: 'restore', listener: (event: RestoreEvent) => void): void;
	/**
	 * The signal then does nothing else. One that asks for the end and comes again before it was told ends the program all the
	 * same. A listener keeps nothing alive.
	 */
	type Signal = 'SIGINT' | 'SIGTERM' | 'SIGHUP' | 'SIGQUIT' | 'SIGUSR1' | 'SIGWINCH' | 'SIGCONT';
	export function on(event: Signal, listener: (name: Signal) => void): void;
	export function off(event: Signal, listener: (name: Signal) => void): void;
	export function off(event: 'checkpoint', listener: (event: CheckpointEvent) => void): void;
	export function off(event: 'restore', listener: (event: RestoreEvent) => void): void;

	type Data = string | ArrayBufferView | ArrayBuffer | SharedArrayBuffer;
	type Utf8 = 'utf8' | 'utf-8';
	export function readFile(path: string): Promise<Uint8Array>;
	export function readFile(path: string, options: Utf8 | { encoding: Utf8 }): Promise<string>;
	export function writeFile(path: string, data: Data): Promise<void>;
	/** Rejects with the code EINTERRUPTED if the process died meanwhile. */
	export function appendFile(path: string, data: Data): Promise<void>;

	/** A file or directory; numbers and dates as in node:fs. */
	export interface Entry {
		isFile(): boolean;
		isDirectory(): boolean;
		isSymbolicLink(): boolean;
	}
	export interface Stats extends Entry {
		dev: number; ino: number; mode: number; nlink: number; uid: number; gid: number; rdev: number; size: number;
		blksize: number; blocks: number; atimeMs: number; mtimeMs: number; ctimeMs: number; atime: Date; mtime: Date; ctime: Date;
	}
	export function readdir(path: string): Promise<string[]>;
	export function readdir(path: string, options: { withFileTypes: true }): Promise<(Entry & { name: string; parentPath: string })[]>;
	export function stat(path: string): Promise<Stats>;
	export function lstat(path: string): Promise<Stats>;
	export function realpath(path: string): Promise<string>;
	export function readlink(path: string): Promise<string>;
	export function copyFile(from: string, to: string): Promise<void>;
	/** These reject with the code EINTERRUPTED if the process died meanwhile, but for mkdir recursive, and rm force. */
	export function mkdir(path: string, options?: { recursive?: boolean }): Promise<void>;
	export function rm(path: string, options?: { recursive?: boolean; force?: boolean }): Promise<void>;
	export function rename(from: string, to: string): Promise<void>;
	export function symlink(target: string, path: string): Promise<void>;

	/** What was read after the newest generation is not there again; each process has its own. */
	export const stdin: AsyncIterable<Uint8Array> & {
		lines(): AsyncIterableIterator<string>;
		text(): Promise<string>;
		bytes(): Promise<Uint8Array>;
	};

	/** Ends the program for good: a later run says so, and starts nothing. */
	export function exit(code?: number): never;
	export function stats(): { [name: string]: number };
	/** Collects garbage at the end of this turn. */
	export function gc(): void;
}
