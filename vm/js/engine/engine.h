/* SPDX-License-Identifier: MIT */
/*
 * engine.h - one JavaScript VM (QuickJS-NG, sandboxed as WebAssembly) whose memory is a libthaw
 * region.
 *
 * The engine knows scripts, modules, values, jobs and exceptions. It knows no event loop, no
 * timers, no console and no checkpoint policy: its callers own those. All calls come
 * from one thread, the VM's owner, and each enters the VM through one trampoline that switches to
 * one of the VM's own stacks (state.h).
 *
 * The whole state between two calls is the linear memory (the region, which is the heap), its size
 * and the stack pointer global (struct js_small, which is stored in the generation's state blob).
 * In the middle of a call, the turn stack is a part of the state, too.
 */
#ifndef VM_JS_ENGINE_H
#define VM_JS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "thaw.h"

/*
 * The kernel never sees the heap. Without privileges, or without userfaultfd, a page that is
 * missing, or is watched for its first write, is brought in for the program only: a system call
 * that met one would fail with EFAULT. So what goes out (js_to_string(), js_to_bytes(),
 * js_exception_text(), names of modules) is copied to memory of the host's, and what comes in
 * (js_string(), js_bytes()) is copied from there. No pointer into linear memory leaves vm/js, nor
 * reaches a function of libc that might pass it on. tests/js/kernel_never_sees.c watches every
 * argument of every system call.
 */

/*
 * The identity that goes into an image (ENGINE_IDENTITY in vm/engine.mk): changes whenever the wasm binary or the meaning
 * of our own state changes.
 */
extern const char js_engine_identity[];

#define JS_HEAP_MAX_BYTES (65535ull * 65536) /* 65,536 wasm pages would wrap wasm2c's u32 size */
/* QuickJS's own limits of one value. */
#define JS_TEXT_MAX_BYTES ((1ull << 30) - 1)
#define JS_BYTES_MAX_BYTES ((1ull << 31) - 1)
/*
 * The most that is read of a file without a size; and of a script, a module, a line of the shell.
 */
#define JS_SOURCE_MAX_BYTES (256ull << 20)
/* A u32 address plus a u32 offset never leaves 8 GiB. */
#define JS_HEAP_GUARD_BYTES ((8ull << 30) - JS_HEAP_MAX_BYTES)

/*
 * The address of the first engine of a process with its stack, followed by that of its heap: a turn
 * that was stopped in the middle needs both at the same place in the next process. The kernel and
 * ASan (shadow, allocator at 0x600000000000) place nothing near by themselves.
 */
#define JS_PLACE_ADDRESS ((void *)0x200000000000ull)
#define JS_HEAP_ADDRESS ((void *)0x200040000000ull)

/*
 * A js_value is an owned handle (the address, in linear memory, of a boxed JSValue). 0
 * means that an exception was thrown; take it with js_take_exception(). The receiver of a handle
 * frees it with js_free(). Handles stay in the heap through a checkpoint, but after a restore the
 * host does not know them any more: what it must find again is reached from the global object or
 * stored in the state blob.
 */
typedef uint32_t js_value;
struct js_engine;

/*
 * A host function. `self` and `arguments` are borrowed; returns an owned handle, or 0 after
 * js_throw_*().
 */
typedef js_value (*js_host_function)(struct js_engine *engine, void *arg, js_value self,
				     unsigned count, const js_value *arguments);
struct js_host_binding {
	const char
		*name; /* the heap refers to it by this name: never rename it once images exist */
	js_host_function function;
};

struct js_host { /* what the VM calls in the host: always on the owner's thread, inside a turn */
	void *arg;
	const struct js_host_binding *bindings; /* ends with {NULL, NULL} */
	/*
	 * Polled every 10,000 loop edges or calls: return true to end the running script with an
	 * uncatchable error. Also by js_poll_here(): then the VM must not be entered, and the script ends
	 * at its next loop edge or call. If none comes while the thread computes for a second, the engine traps.
	 */
	bool (*interrupt)(void *arg);
	/* Bindings without a function of their own; of this kind there are as many as a host likes. */
	js_value (*call)(struct js_engine *engine, void *arg, const struct js_host_binding *binding,
			 unsigned count, const js_value *arguments);
	/*
	 * A promise was rejected without a handler (handled = false), or got one later (true).
	 * Both borrowed.
	 */
	void (*rejection)(void *arg, js_value promise, js_value reason, bool handled);
	/*
	 * Resolve `specifier` as imported by module `base` to an absolute name, and load the
	 * source of such a name. malloc'ed results, the engine frees them. NULL: fill `error`,
	 * which becomes a JavaScript exception.
	 */
	char *(*module_resolve)(void *arg, const char *base, const char *specifier,
				struct thaw_error *error);
	char *(*module_load)(void *arg, const char *name, size_t *bytes, struct thaw_error *error);
	/*
	 * Whatever is wrong with the heap ends the engine only: a page that cannot be read of its image is a trap (js_damaged) and
	 * not the end of the process; and where it is the host's half of the engine that meets it, no function of the host's is left.
	 */
	bool survives;
	/* Optional. What could not be imported: where `base` does that, as a frame of a stack; malloc'ed; NULL: unknown. */
	char *(*module_importer)(void *arg, const char *base, const char *specifier);
};

struct js_small { /* the VM state outside linear memory */
	uint32_t stack_pointer;
	uint32_t memory_pages; /* of 64 KiB */
};

/*
 * A VM over a fresh heap: instantiates the module, runs its initialisers, sets the limits and the
 * collector's policy. Or over a restored one: `small` is validated before use (never trust an
 * image), a handful of pages is touched, and one word is written: the state of Math.random(), so
 * that no two lives of one heap draw the same numbers. Host callbacks may be called from here on,
 * never from inside these two. On failure the engine is gone, the heap is still the caller's.
 */
int js_engine_create(struct thaw *heap, const struct js_host *host, struct js_engine **engine,
		     struct thaw_error *error);
int js_engine_restore(struct thaw *heap, const struct js_host *host, const struct js_small *small,
		      struct js_engine **engine, struct thaw_error *error);
void js_engine_free(struct js_engine *engine); /* host memory only: the heap is left as it is */
struct js_small js_engine_small(const struct js_engine *engine);

/*
 * A trap: the sandbox stopped the engine (out-of-bounds access, exhausted native stack,
 * unreachable code). Its heap is not sound any more: no further call may be made, no checkpoint
 * taken; the process ends with this reason and the next run continues from the last generation.
 * NULL while all is well. After a trap every call returns 0 at once.
 */
const char *js_trapped(const struct js_engine *engine);
/* Was it a page that cannot be read? Then the reason is a line that names it. */
bool js_damaged(const struct js_engine *engine);
/*
 * Before a thread's first call: it gets a stack for signals, unless it has one that is large enough, for as long as it lives. The
 * thread that makes an engine has it. -errno.
 */
int js_prepare_thread(void);

/*
 * Run code. `name` is the file name in stack traces. Script: result is the completion value.
 * Module: a promise.
 */
#define JS_EVAL_SCRIPT 0u
#define JS_EVAL_MODULE 1u /* `name` is the absolute path, import.meta.url its file:// URL */
/* A script with top-level await: a promise of {value}, which has no prototype. */
#define JS_EVAL_ASYNC 2u
#define JS_EVAL_COMPILE_ONLY 4u /* syntax check; returns undefined */
#define JS_EVAL_REDECLARE 8u	/* a script may declare again what an earlier one declared */
js_value js_eval(struct js_engine *engine, const char *code, size_t bytes, const char *name,
		 unsigned flags);

/*
 * A script without its text, as js_eval_compiled() takes it, in any VM with this identity: malloc'ed; NULL: an exception, or
 * no memory. For what is part of the binary: it is not checked, and nothing from elsewhere may be run like that.
 */
void *js_compile(struct js_engine *engine, const char *text, size_t bytes, const char *name,
		 size_t *made_bytes);
js_value js_eval_compiled(struct js_engine *engine, const void *data, size_t bytes);

/*
 * Run the first of the queued jobs (promise reactions). False: there was none. An exception inside
 * it is an owned handle in `exception`, else 0.
 */
bool js_run_job(struct js_engine *engine, js_value *exception);
bool js_jobs_pending(struct js_engine *engine);

js_value js_call(struct js_engine *engine, js_value function, js_value self, unsigned count,
		 const js_value *arguments); /* self 0: undefined */
void js_free(struct js_engine *engine, js_value value);
js_value js_dup(struct js_engine *engine, js_value value);

js_value js_undefined(struct js_engine *engine);
js_value js_null(struct js_engine *engine);
js_value js_bool(struct js_engine *engine, bool value);
js_value js_number(struct js_engine *engine, double value);
js_value js_string(struct js_engine *engine, const char *text, size_t bytes); /* UTF-8 */
js_value js_object(struct js_engine *engine);
js_value js_array(struct js_engine *engine);
js_value js_bytes(struct js_engine *engine, const void *data,
		  size_t bytes); /* a Uint8Array, copied */
js_value js_host_function_new(struct js_engine *engine,
			      const char *name); /* bound by name, at call time */
js_value js_global(struct js_engine *engine);
js_value js_get(struct js_engine *engine, js_value object, const char *key);
js_value js_get_index(struct js_engine *engine, js_value array, uint32_t index);
/*
 * An own property, whatever a program put into the prototypes: defined, not assigned. Consumes the
 * value. False: an exception.
 */
bool js_set(struct js_engine *engine, js_value object, const char *key, js_value value);
bool js_set_index(struct js_engine *engine, js_value array, uint32_t index, js_value value);

bool js_is_undefined(struct js_engine *engine, js_value value); /* also true for null */
bool js_is_function(struct js_engine *engine, js_value value);
bool js_is_object(struct js_engine *engine, js_value value);
bool js_is_string(struct js_engine *engine, js_value value);
bool js_is_promise(struct js_engine *engine, js_value value);
double js_to_number(struct js_engine *engine, js_value value); /* NaN when it cannot be */
bool js_to_bool(struct js_engine *engine, js_value value);
/* UTF-8 copy, malloc'ed, terminated; never NULL but for out of memory; `bytes` may be NULL. */
char *js_to_string(struct js_engine *engine, js_value value, size_t *bytes);
/* The bytes of a Uint8Array or ArrayBuffer, malloc'ed copy; NULL if it is neither. */
void *js_to_bytes(struct js_engine *engine, js_value value, size_t *bytes);

/*
 * In a host function: the file of the function whose code has led to it, those of the embedded sources ("thaw:...") left
 * aside. An owned string; undefined: there is none.
 */
js_value js_caller(struct js_engine *engine);

/*
 * The engine's name of an object's class: "Map", "Object", "Proxy". An owned string; undefined: no
 * object.
 */
js_value js_class_name(struct js_engine *engine, js_value value);

/* The names of the global variables that are no properties of the global object (let, const, class): an array. */
js_value js_variables(struct js_engine *engine);
/* The value of one, in an array (undefined: it has none yet); undefined: there is no such variable. */
js_value js_variable(struct js_engine *engine, const char *name);
/* "FILE:LINE" of a function; undefined: it is none of JavaScript's. */
js_value js_place(struct js_engine *engine, js_value function);

/* ---- Structured data: pack.c, unpack.c ---- */

enum js_kind {
	JS_KIND_NONE, /* no value, or the engine has trapped */
	JS_KIND_UNDEFINED,
	JS_KIND_NULL,
	JS_KIND_BOOLEAN,
	JS_KIND_NUMBER,
	JS_KIND_BIGINT,
	JS_KIND_STRING,
	JS_KIND_SYMBOL,
	JS_KIND_FUNCTION,
	JS_KIND_ARRAY,
	JS_KIND_BYTES, /* an ArrayBuffer or a typed array */
	JS_KIND_DATE,
	JS_KIND_ERROR,
	JS_KIND_PROMISE,
	JS_KIND_OBJECT, /* with properties, and nothing hidden */
	JS_KIND_OTHER,	/* Map, Proxy, RegExp ... */
};
enum js_kind js_kind(struct js_engine *engine, js_value value);

/*
 * Values one after the other in the form that thaw_vm.h describes (thaw_vm_pack). An exception (NULL, false) for what has another
 * form, is circular, or beyond these limits. May run code of the program.
 */
enum {
	JS_PACK_DEPTH_MAX = 1000, /* arrays, objects and errors in each other */
	JS_PACK_VALUES_MAX = 10000000,
	JS_PACK_BYTES_MAX = 512 << 20,
	JS_PACK_TYPES = 12, /* of typed arrays, as JSTypedArrayEnum numbers them */
	JS_PACK_UINT8 = 2,
};
void *js_pack(struct js_engine *engine, unsigned count, const js_value *values,
	      size_t *bytes); /* malloc'ed */
bool js_unpack(struct js_engine *engine, const void *data, size_t bytes, unsigned count,
	       js_value *values);

struct js_view {		/* a typed array or DataView, as it was made */
	uint32_t offset, bytes; /* in its buffer */
	bool tracks;		/* has what the buffer has from `offset` on, instead of `bytes` */
};
bool js_view(struct js_engine *engine, js_value value,
	     struct js_view *view); /* false: it is none */
/* Another SharedArrayBuffer over the same memory; `max_bytes` 0: it cannot grow. */
js_value js_share(struct js_engine *engine, js_value value, double max_bytes);

enum js_promise_state { JS_PROMISE_PENDING, JS_PROMISE_FULFILLED, JS_PROMISE_REJECTED };
enum js_promise_state js_promise_state(struct js_engine *engine, js_value promise);
js_value js_promise_result(struct js_engine *engine, js_value promise);

/* ---- Contexts (realms) ----
 *
 * Several in one VM, each with its own globals, variables, built-ins, modules and Math.random(). Values may be used in all of
 * them; there is one queue of jobs, and each job runs in the context that it is of. All functions of this file work in the
 * selected one; in a host function that is the context of the code that has called it. They are kept in the heap; after a
 * restore the first one, which every VM has, is selected. None is freed: a job that waits knows its context without holding it.
 */
#define JS_CONTEXTS_MAX 32u
/* Another one, without a prelude: its index. -EEXIST: there is one with this name, -EINVAL: no name, -ENOSPC: too many, -ENOMEM, -EIO: no randomness. */
int js_context_new(struct js_engine *engine, const char *name);
unsigned js_context_count(const struct js_engine *engine);
unsigned js_context_current(const struct js_engine *engine);
/* Returns the one that was selected; an index that is none selects nothing. */
unsigned js_context_select(struct js_engine *engine, unsigned index);
/* -ENOENT: there is none. The first one has the name "". */
int js_context_find(struct js_engine *engine, const char *name);
const char *js_context_name(const struct js_engine *engine, unsigned index,
			    char name[64]); /* "": unknown */
/* A handle that is kept with it (and its owner's): 0, or the entry function of its prelude. Not of the first one. */
js_value js_context_entry(const struct js_engine *engine, unsigned index);
void js_context_set_entry(struct js_engine *engine, unsigned index, js_value entry);

/* Exceptions. */
js_value js_take_exception(struct js_engine *engine);	     /* owned; clears it */
js_value js_throw(struct js_engine *engine, js_value value); /* consumes value; returns 0 */
js_value js_throw_error(struct js_engine *engine, const char *type, const char *format, ...)
	__attribute__((format(printf, 3, 4))); /* type: "TypeError", "Error", ...; returns 0 */
/* In a host function: as when `interrupt` has returned true, no code catches it. Returns 0. */
js_value js_throw_uncatchable(struct js_engine *engine);
/*
 * "ReferenceError: b is not defined\n    at <eval> (a.js:3:1)\n": malloc'ed text for people,
 * never NULL.
 */
char *js_exception_text(struct js_engine *engine, js_value exception);

/* ---- Stopping in the middle of a turn ----
 *
 * The program's own code runs on the turn stack: js_call(), js_eval() and js_run_job() put it there
 * when they are called from outside the VM. In the host's `interrupt` callback everything such a
 * call still needs lies in the heap, in the bytes of js_turn_stack() and in struct js_small. With
 * those restored, js_turn_continue() returns what the call would have returned.
 */

/* In `interrupt` only: may the turn be captured here? Not where a host function called back. */
bool js_turn_stoppable(const struct js_engine *engine);
/* In `interrupt` only: the part of the turn stack in use; borrowed. It ends at a fixed address. */
const void *js_turn_stack(const struct js_engine *engine, size_t *bytes);
/*
 * Can this process continue a turn of another one? The build is the same if these 20 bytes are (the
 * linker's build-id; NULL: no turn of this build's can be continued), and this engine and its heap have to be where the
 * other's were.
 */
const uint8_t *js_build_id(void);
bool js_turn_restorable(const struct js_engine *engine);
/* Into a restored engine, before anything else runs in it. 0, or THAW_EDAMAGED. */
int js_turn_restore(struct js_engine *engine, const void *stack, size_t bytes);
/*
 * The result of the call that was stopped, as of js_call() and js_eval(); of a job, its exception
 * or 0.
 */
js_value js_turn_continue(struct js_engine *engine);
/* In `interrupt` only: end the VM here, as a trap would, with this reason. */
_Noreturn void js_turn_abandon(struct js_engine *engine, const char *reason);
/*
 * Makes the next loop edge or call poll. For signal handlers of the owner's thread; does nothing
 * while the VM is not running. It can be lost, if the VM is just storing the counter that this
 * lowers: repeat it.
 */
void js_poll_soon(struct js_engine *engine);

/*
 * Polls at the instruction that a signal has found the VM at, whatever it computes. For signal handlers of the owner's thread,
 * which hand over their ucontext_t. False: the VM is not running, or stands in a function of the C library; repeat it.
 * Touches no page of the heap.
 */
bool js_poll_here(struct js_engine *engine, void *context);

/*
 * In `interrupt`: it was called by js_poll_here(). Until it returns every call of the VM fails, as after a trap.
 */
bool js_polls_here(const struct js_engine *engine);

/*
 * For hosts without a signal of their own: a timer that calls js_poll_here() on whatever engine runs in a thread then, and
 * again every few milliseconds until that has returned to the host. Zero: none.
 */
struct js_alarm {
	timer_t timer;
	int thread; /* the kernel's number */
	bool ready;
};
/* For this thread, which has entered an engine before or is about to. No timer: it never rings. */
void js_alarm_aim(struct js_alarm *alarm);
bool js_alarm_is_aimed(const struct js_alarm *alarm); /* at this thread */
/* Any thread. CLOCK_MONOTONIC; 0: off. */
void js_alarm_set(struct js_alarm *alarm, uint64_t when_ns);
void js_alarm_close(struct js_alarm *alarm);

/* js_poll_soon() in a host function, where it cannot be lost. */
void js_poll_next(struct js_engine *engine);

/*
 * The host decides when garbage is collected. js_gc_wanted() is cheap; it is true when the heap has
 * grown enough since the last collection to be worth one between turns. (The engine's own trigger
 * is off: its threshold overflows 32 bits above 2.86 GB.)
 */
bool js_gc_wanted(struct js_engine *engine);
void js_gc(struct js_engine *engine);
/*
 * Delay collections while memory allows. A collection of a large heap can take longer than a
 * process lives. So a restored program runs first; else each process might begin with the same
 * collection and be killed in it.
 */
void js_hold_collections(struct js_engine *engine, bool hold);
/*
 * Give memory back that the program has freed, if it is enough to be worth it. Cheap if not. Between turns, and at
 * polls.
 */
void js_give_back(struct js_engine *engine);
/* All of it, whatever it costs. Between turns. */
void js_give_back_all(struct js_engine *engine);
/* Clear what is free of the memory and of its stack: it shall be in no file. Between turns. */
void js_clear_free(struct js_engine *engine);
/*
 * The most that calls may nest, in bytes of the engine's own stack (a call of JavaScript takes some 230), from 64 KiB to
 * 7.5 MiB, which is what it begins with. Beyond it there is a RangeError. It is in the heap, and so in generations: set it again behind them.
 */
void js_limit_stack(struct js_engine *engine, size_t bytes);
/* Bytes of linear memory now. */
size_t js_heap_bytes(const struct js_engine *engine);
/*
 * The most bytes that one object from outside may have to fit into the heap now. It takes its size
 * twice: once as it comes, once as the value that is made of it.
 */
uint64_t js_room(const struct js_engine *engine);

#endif
