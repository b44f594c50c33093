/* SPDX-License-Identifier: MIT */
/*
 * thaw_vm.h - JavaScript inside of a program: the public interface of libthawvm. A VM (struct thaw_vm) is one sandboxed
 * heap with its globals, functions, promises and timers, and nothing of the process: no files, no network, no environment.
 *
 *	struct thaw_vm_options options = {.size = sizeof(options)};
 *	thaw_vm_open(&options, &vm, &error);
 *	thaw_vm_eval(vm, "globalThis.add = (a, b) => a + b", SIZE_MAX, "add.js", 0, NULL, &error);
 *	thaw_vm_call(vm, "add", "[1, 2]", &json, &error);		json is "3"
 *	thaw_vm_close(vm);
 *
 * Threads: a VM is used by one thread at a time, any: while one is in a call, others get -EBUSY, but for thaw_vm_interrupt(). Any
 * number of VMs may live in any number of threads. Callbacks are called by the thread of the call, inside of it; they may
 * call the same VM again (and that a callback, 64 deep, then -ELOOP), but must neither close it nor leave by longjmp() or an
 * exception: thaw_vm_close() says -EBUSY.
 *
 * Errors: 0, or a negative code: -errno, THAW_E* of thaw.h, or THAW_VM_E* below, with one line in `error` (which may be NULL).
 *
 * The process: the library catches SIGSEGV and SIGBUS, by which the sandbox is guarded and pages arrive, and hands on what
 * is not its own to the handlers that were there when the first VM was opened. A thread that has no stack for signals
 * (sigaltstack) gets one with its first call, for as long as it lives. Who installs handlers of his own for these signals later has
 * to hand on what is not his. The library prints nothing, and ends nothing but VMs, with one exception: options.fatal. A page of a
 * damaged image that cannot be read ends the VM that needs it: THAW_EDAMAGED, whose error names it. Inside of
 * built-in functions a time limit holds by a signal: SIGSEGV again, of a timer of the VM's, to the thread of the call, at its
 * time and then every 5 ms (100 ms inside of callbacks) until it ends. It is not sent where a later handler takes no siginfo_t.
 *
 * fork(): a child goes on with copies of VMs without an image. Of one with an image it can only let go (thaw_vm_close), and it
 * holds the lock of that image until it does, or ends.
 */
#ifndef THAW_VM_H
#define THAW_VM_H

#include "thaw.h"

#ifdef __cplusplus
extern "C" {
#endif

enum {
	THAW_VM_EEXCEPTION =
		-20101, /* the code threw: `error` has "TypeError: ...", without its frames */
	THAW_VM_EINTERRUPTED =
		-20102, /* cut short: `error` has why. The VM lives on, with what was done so far */
	THAW_VM_ETRAPPED = -20103, /* the sandbox stopped it: nothing but thaw_vm_close() is left */
	THAW_VM_EENDED = -20104,   /* it called exit(): likewise; thaw_vm_exit_code() */
	THAW_VM_EMISSING =
		-20105, /* the image needs host functions that were not given: `error` has all names */
	THAW_VM_EPENDING = -20106, /* a promise that nothing of the VM's own can settle any more */
};

/* A short sentence for any code that the library returns. Never NULL; static storage; any thread. */
THAW_PUBLIC const char *thaw_vm_strerror(int code);

struct thaw_vm;
struct thaw_vm_snapshot;
/*
 * A value inside of a VM: a handle that its receiver gives back with thaw_vm_free(). 0: none. Valid in its VM only, until that
 * is closed.
 */
typedef uint32_t thaw_vm_value;

/*
 * A host function. `arguments` are borrowed. Returns a handle, which is consumed (0: undefined); or fails by
 * thaw_vm_throw(), whose result it returns. `ticket` is 0, but for THAW_VM_PROMISE: there the program has a promise, the
 * result is ignored, and the ticket settles it, now or later (thaw_vm_settle).
 */
typedef thaw_vm_value (*thaw_vm_callback)(struct thaw_vm *vm, void *arg, uint64_t ticket,
					  unsigned count, const thaw_vm_value *arguments);

#define THAW_VM_PROMISE 1u

struct thaw_vm_function {
	const char *name; /* a global variable of the program; images refer to it by this name */
	thaw_vm_callback call;
	void *arg;
	unsigned flags; /* 0 or THAW_VM_PROMISE */
};

/* options.flags, of a VM with an image: */
#define THAW_VM_FRESH \
	1u /* begin anew; the generations that are there stay until others take their place */
/* Read pages ahead, from the start on, and not only those that are touched. */
#define THAW_VM_PREFETCH 2u
/*
 * For hosts that make a generation after each small call: where 17 and more follow each other within 50 ms, each is durable with
 * one write and one sync. Of each second one is listed, and the last; an open goes on from the newest (THAW_LOG of thaw.h).
 */
#define THAW_VM_LOG 4u
/* Accept only an enciphered image, and make one so: the key is that of thaw_use_key() (thaw.h), else THAW_EKEY. */
#define THAW_VM_ENCRYPTED 8u

struct thaw_vm_options { /* zero means: the default */
	size_t size;	 /* sizeof(struct thaw_vm_options) */
	/*
	 * An image to go on from, made if it is not there; NULL: nothing persists. An image of `thaw run` or `thaw repl` may be
	 * opened, if it was taken between turns; and they open one of a VM without host functions. One of an engine from before is
	 * gone on with by the library of its time, if that is installed (THAW_ENGINES of thaw(1)): it has the functions and options that it had.
	 */
	const char *image;
	uint64_t generation; /* of the image; 0: the newest */
	size_t max_bytes; /* of heap, a multiple of 64 KiB, at least 16 MiB; 0: 4 GiB. Then: "out of memory", to be caught */
	/*
	 * The most that one call, or one step, may last; 0: no limit. Then the code is ended by an exception that it cannot
	 * catch. A built-in function that does not let itself be ended so, for a second more of the thread's processor time,
	 * is stopped by the sandbox (THAW_VM_ETRAPPED). The same for thaw_vm_interrupt() and `poll`.
	 */
	uint64_t turn_ns;
	const struct thaw_vm_function *functions; /* copied; the names, too */
	unsigned function_count;
	/* What the program prints (fd 1, 2), and what it did not catch (fd 2). NULL: it is dropped. */
	void (*log)(void *arg, int fd, const char *text, size_t bytes);
	/* The source of what is imported: malloc'ed; NULL: there is none of that name. NULL: nothing can be imported. */
	char *(*load_module)(void *arg, const char *name, size_t *bytes);
	void *arg; /* of all callbacks here */
	/*
	 * Begin as this: a fork, which shares with all others every page that it does not write. Not together with an image. It
	 * may be dropped once the VM is open. A fork has no descriptor, and 7 mappings of memory: 9,350 of them are as many as
	 * vm.max_map_count allows, by default.
	 */
	struct thaw_vm_snapshot *snapshot;
	const char *at; /* of the image: a generation by its name, or its number in decimal */
	/*
	 * What `name` means where the module or script `importer` imports it: malloc'ed; NULL: there is none. Modules are known by
	 * what this returns, which load_module is given. NULL: "./a.js" and "../a.js" are beside the importer, other names what they
	 * are.
	 */
	char *(*resolve_module)(void *arg, const char *importer, const char *name);
	uint64_t
		max_log_bytes; /* the most that one call may print, then it is cut short; 0: no limit */
	/*
	 * Asked while code runs, by the thread of the call, about every poll_ns (0: 50 ms): true cuts the call short, as
	 * thaw_vm_interrupt(). For hosts that have to look at their own signals. Must not call the VM.
	 */
	bool (*poll)(void *arg);
	uint64_t poll_ns;
	/* From a thread of the library's: ask thaw_vm_checkpoint_poll(). It must only wake up who does that. */
	void (*notify)(void *arg);
	/*
	 * Of a VM with an image, from a thread of the library's: its pages cannot be brought any more (the kernel refuses memory or
	 * mappings), and who waits for one would wait for ever. Must not return. NULL: abort().
	 */
	void (*fatal)(void *arg, const struct thaw_error *error);
	unsigned retain; /* generations that the image keeps, beside those with names; 0: 8 */
	unsigned flags;	 /* THAW_VM_FRESH ... */
	/* How pages of new generations are stored in the image: THAW_COMPRESS_* of thaw.h; 0: as they are. */
	unsigned compress;
	/*
	 * How deep calls may nest, in bytes of the engine's stack, of which a call of JavaScript takes some 230 and at least 64 KiB
	 * are there: beyond it a RangeError, to be caught. 0: what the image or snapshot has, of a new VM 7.5 MiB, which is the most.
	 */
	size_t max_stack_bytes;
};

/*
 * Open a VM. Before anything of an image runs, THAW_VM_EMISSING tells of all functions that it needs and `options` lacks
 * (thaw_vm_missing). If it returns 0 and error->code is not 0, the image's newest generation is damaged, and the VM goes on from the
 * one before: `error` says why.
 */
THAW_PUBLIC int thaw_vm_open(const struct thaw_vm_options *options, struct thaw_vm **vm,
			     struct thaw_error *error);
/* Takes no checkpoint, but waits for one that was begun. NULL is allowed. -EBUSY: a call of it is under way. */
THAW_PUBLIC int thaw_vm_close(struct thaw_vm *vm);
/* options.arg. */
THAW_PUBLIC void *thaw_vm_arg(const struct thaw_vm *vm);
/* What images and snapshots are of: only a library with this engine, or that has it beside its own, opens them. Static storage. */
THAW_PUBLIC const char *thaw_vm_engine_name(void);

/* What its program has called exit() with, 0 to 255; -1: it has not. */
THAW_PUBLIC int thaw_vm_exit_code(struct thaw_vm *vm);

struct thaw_vm_usage {
	uint64_t
		heap_bytes; /* of the sandbox: never fewer, but what is free in it takes no memory */
	uint64_t live_bytes; /* allocated in it, garbage included */
	uint64_t turns;	     /* calls and timers that have ended */
};
/* THAW_VM_ETRAPPED, THAW_EDAMAGED: there is nothing to be told any more. */
THAW_PUBLIC int thaw_vm_usage(struct thaw_vm *vm, struct thaw_vm_usage *usage);
/* Collect garbage now, which else is done when the heap has grown enough, and give free memory back. */
THAW_PUBLIC int thaw_vm_collect(struct thaw_vm *vm, struct thaw_error *error);

#define THAW_VM_MODULE 1u /* a module, whose result is a promise */
#define THAW_VM_CHECK 2u  /* only compile it: is it JavaScript? The result is undefined */
/*
 * Run code, and the promise reactions that are due after it. `bytes` SIZE_MAX: up to a zero. `result` (may be NULL) receives the
 * completion value. `name` is what stacks call the code.
 *
 * Reactions that a call which was cut short has left are due after the next one. Of a program that makes them without end, each call
 * is cut short, whatever it does: thaw_vm_rollback() helps.
 */
THAW_PUBLIC int thaw_vm_eval(struct thaw_vm *vm, const char *code, size_t bytes, const char *name,
			     unsigned flags, thaw_vm_value *result, struct thaw_error *error);
/*
 * Call the function that is found under a dotted name, "tools.add", from the global object. `arguments` is a JSON array
 * (NULL: none). `result` (may be NULL) receives JSON, malloc'ed; of a promise, what it came to (thaw_vm_await); "null" for
 * what JSON lacks.
 */
THAW_PUBLIC int thaw_vm_call(struct thaw_vm *vm, const char *name, const char *arguments,
			     char **result, struct thaw_error *error);
/* The same with handles; `self` 0: undefined. A promise is returned as it is. */
THAW_PUBLIC int thaw_vm_apply(struct thaw_vm *vm, thaw_vm_value function, thaw_vm_value self,
			      unsigned count, const thaw_vm_value *arguments, thaw_vm_value *result,
			      struct thaw_error *error);
/* What `new` makes. */
THAW_PUBLIC int thaw_vm_new(struct thaw_vm *vm, thaw_vm_value constructor, unsigned count,
			    const thaw_vm_value *arguments, thaw_vm_value *result,
			    struct thaw_error *error);
/* Run the VM until a promise is settled, at most for so long (UINT64_MAX: for ever; else -ETIMEDOUT). Of any other value: a copy. */
THAW_PUBLIC int thaw_vm_await(struct thaw_vm *vm, thaw_vm_value promise, uint64_t timeout_ns,
			      thaw_vm_value *result, struct thaw_error *error);

/* ---- Values ---- */

/* Makes a value, or finds the global object. 0: no memory in the VM, or it cannot run. `bytes` SIZE_MAX: up to a zero. */
THAW_PUBLIC thaw_vm_value thaw_vm_global(struct thaw_vm *vm);
THAW_PUBLIC thaw_vm_value thaw_vm_undefined(struct thaw_vm *vm);
THAW_PUBLIC thaw_vm_value thaw_vm_number(struct thaw_vm *vm, double number);
THAW_PUBLIC thaw_vm_value thaw_vm_bool(struct thaw_vm *vm, bool value);
THAW_PUBLIC thaw_vm_value thaw_vm_string(struct thaw_vm *vm, const char *utf8, size_t bytes);
/* {} and []. */
THAW_PUBLIC thaw_vm_value thaw_vm_object(struct thaw_vm *vm);
THAW_PUBLIC thaw_vm_value thaw_vm_array(struct thaw_vm *vm);
/* As BigInt() reads it, "-12" or "0xff"; 0: it cannot. thaw_vm_to_string() is the way back. */
THAW_PUBLIC thaw_vm_value thaw_vm_bigint(struct thaw_vm *vm, const char *digits);
/* A Uint8Array, copied. */
THAW_PUBLIC thaw_vm_value thaw_vm_bytes(struct thaw_vm *vm, const void *data, size_t bytes);
/* What a JSON text says. */
THAW_PUBLIC int thaw_vm_json(struct thaw_vm *vm, const char *text, size_t bytes,
			     thaw_vm_value *value, struct thaw_error *error);
/* May run code of the program (getters). */
THAW_PUBLIC int thaw_vm_get(struct thaw_vm *vm, thaw_vm_value object, const char *key,
			    thaw_vm_value *value, struct thaw_error *error);
/* Makes, or replaces, an own property, whatever setters there are; `value` is borrowed. */
THAW_PUBLIC int thaw_vm_set(struct thaw_vm *vm, thaw_vm_value object, const char *key,
			    thaw_vm_value value, struct thaw_error *error);
/* Has it such a property, or its prototype: 1 or 0. And take an own one away: 0: it cannot be. */
THAW_PUBLIC int thaw_vm_has(struct thaw_vm *vm, thaw_vm_value object, const char *key,
			    struct thaw_error *error);
THAW_PUBLIC int thaw_vm_delete(struct thaw_vm *vm, thaw_vm_value object, const char *key,
			       struct thaw_error *error);
/* a === b */
THAW_PUBLIC bool thaw_vm_same(struct thaw_vm *vm, thaw_vm_value a, thaw_vm_value b);
/* thaw_vm_get() and thaw_vm_set() of an array, or with a number as the key. */
THAW_PUBLIC int thaw_vm_get_index(struct thaw_vm *vm, thaw_vm_value array, uint32_t index,
				  thaw_vm_value *value, struct thaw_error *error);
THAW_PUBLIC int thaw_vm_set_index(struct thaw_vm *vm, thaw_vm_value array, uint32_t index,
				  thaw_vm_value value, struct thaw_error *error);
/* The names of its own enumerable properties, as an array of strings: Object.keys(). */
THAW_PUBLIC int thaw_vm_keys(struct thaw_vm *vm, thaw_vm_value object, thaw_vm_value *keys,
			     struct thaw_error *error);
/* Another handle of the same value, for what is borrowed and shall be kept. */
THAW_PUBLIC thaw_vm_value thaw_vm_copy(struct thaw_vm *vm, thaw_vm_value value);
/* Gives a handle back. 0 is allowed. */
THAW_PUBLIC void thaw_vm_free(struct thaw_vm *vm, thaw_vm_value value);
/* As Number() does it; NaN where that throws, or was cut short. */
THAW_PUBLIC double thaw_vm_to_number(struct thaw_vm *vm, thaw_vm_value value);
/* malloc'ed; NULL: no memory, cut short, or (bytes) it is neither a Uint8Array nor an ArrayBuffer. */
THAW_PUBLIC char *thaw_vm_to_string(struct thaw_vm *vm, thaw_vm_value value, size_t *bytes);
THAW_PUBLIC void *thaw_vm_to_bytes(struct thaw_vm *vm, thaw_vm_value value, size_t *bytes);
/* As JSON.stringify() does it, malloc'ed; "null" for what JSON lacks. */
THAW_PUBLIC int thaw_vm_to_json(struct thaw_vm *vm, thaw_vm_value value, char **text,
				struct thaw_error *error);

/* What a value is. The first is no value: 0, or a VM that cannot run. */
enum thaw_vm_kind {
	THAW_VM_NONE,
	THAW_VM_UNDEFINED,
	THAW_VM_NULL,
	THAW_VM_BOOLEAN,
	THAW_VM_NUMBER,
	THAW_VM_BIGINT,
	THAW_VM_STRING,
	THAW_VM_SYMBOL,
	THAW_VM_FUNCTION,
	THAW_VM_ARRAY,
	THAW_VM_BYTES, /* an ArrayBuffer, or a typed array */
	THAW_VM_DATE,
	THAW_VM_ERROR,
	THAW_VM_A_PROMISE,
	THAW_VM_OBJECT, /* properties, and nothing else */
	THAW_VM_OTHER,	/* Map, Proxy, RegExp ... */
};
/* Its kind (enum thaw_vm_kind). */
THAW_PUBLIC int thaw_vm_kind(struct thaw_vm *vm, thaw_vm_value value);
/* null, as a value. */
THAW_PUBLIC thaw_vm_value thaw_vm_null(struct thaw_vm *vm);
/* The limits of structured data that is packed. */
#define THAW_VM_PACK_DEPTH 1000u /* of arrays, objects and errors in each other */
#define THAW_VM_PACK_VALUES 10000000u
#define THAW_VM_PACK_BYTES (512u << 20)
/*
 * Structured data as bytes (malloc'ed) and back, `count` values one after the other. Each is a letter and what belongs to it; numbers
 * are little-endian, TEXT and DATA are a u32 of bytes, and they:
 *
 *	u n t f       undefined, null, true, false	i s32, d f64	numbers
 *	b TEXT	      a BigInt, decimal			s TEXT		a string, UTF-8
 *	y TYPE DATA   bytes; TYPE: 2 is a Uint8Array	D f64		a Date, milliseconds
 *	a COUNT value ...				o COUNT (TEXT value) ...
 *	e TEXT TEXT TEXT o COUNT (TEXT value) ...	an Error: name, message, stack, properties
 *
 * TYPE is 0 to 11: Uint8Clamped, Int8, Uint8, Int16, Uint16, Int32, Uint32, BigInt64, BigUint64, Float16, Float32, Float64. Of objects,
 * own enumerable properties with names; functions and symbols are undefined. THAW_VM_EEXCEPTION for other classes, what is circular,
 * deeper than THAW_VM_PACK_DEPTH (1,000), has more than THAW_VM_PACK_VALUES (10,000,000) or THAW_VM_PACK_BYTES (512 MiB). May run
 * code of the program (getters).
 */
THAW_PUBLIC int thaw_vm_pack(struct thaw_vm *vm, unsigned count, const thaw_vm_value *values,
			     void **data, size_t *bytes, struct thaw_error *error);
THAW_PUBLIC int thaw_vm_unpack(struct thaw_vm *vm, const void *data, size_t bytes, unsigned count,
			       thaw_vm_value *values, struct thaw_error *error);
/* The function under a dotted name, and what it is a property of (0: nothing), as thaw_vm_call() finds it. */
THAW_PUBLIC int thaw_vm_lookup(struct thaw_vm *vm, const char *name, thaw_vm_value *function,
			       thaw_vm_value *self, struct thaw_error *error);
/*
 * thaw_vm_call() with packed values, `count` of them in `arguments`. Of a promise `result` is NULL, and `promise` a handle of it, which
 * nobody has waited for.
 */
THAW_PUBLIC int thaw_vm_call_packed(struct thaw_vm *vm, const char *name, const void *arguments,
				    size_t bytes, unsigned count, void **result,
				    size_t *result_bytes, thaw_vm_value *promise,
				    struct thaw_error *error);
/* What the last call has thrown that said THAW_VM_EEXCEPTION, once. 0: nothing, or another call has been since. */
THAW_PUBLIC thaw_vm_value thaw_vm_exception(struct thaw_vm *vm);
enum thaw_vm_promise {
	THAW_VM_NO_PROMISE,
	THAW_VM_WAITS,
	THAW_VM_FULFILLED,
	THAW_VM_REJECTED,
};
/* How a promise stands (enum thaw_vm_promise), which runs nothing. `result` (may be NULL): the value or the reason, 0 while it waits. */
THAW_PUBLIC int thaw_vm_promise(struct thaw_vm *vm, thaw_vm_value value, thaw_vm_value *result);

/* ---- Host functions ---- */

/* In a host function: fail with an error of that type ("TypeError") and message. Returns 0. */
THAW_PUBLIC thaw_vm_value thaw_vm_throw(struct thaw_vm *vm, const char *type, const char *message);
/* The same with any value (borrowed; 0: undefined). */
THAW_PUBLIC thaw_vm_value thaw_vm_throw_value(struct thaw_vm *vm, thaw_vm_value value);
/*
 * Settle the promise of a ticket: with `value` (borrowed; 0: undefined), or by an Error with the message `failure` unless that
 * is NULL. Tickets are kept in the heap, and so in images: who opens one settles those that thaw_vm_tickets()
 * has. Their numbers do not come again, in no VM. -ENOENT: there is none of that number, or it is settled.
 */
THAW_PUBLIC int thaw_vm_settle(struct thaw_vm *vm, uint64_t ticket, thaw_vm_value value,
			       const char *failure, struct thaw_error *error);
/* The same, but rejected with `reason` (borrowed; 0: undefined), whatever that is. */
THAW_PUBLIC int thaw_vm_reject(struct thaw_vm *vm, uint64_t ticket, thaw_vm_value reason,
			       struct thaw_error *error);
/*
 * In any host function: a promise with a ticket, made on the spot, for what turns out to take longer. To be returned, as a rule.
 * 0: no memory, or this is no host function.
 */
THAW_PUBLIC thaw_vm_value thaw_vm_ticket(struct thaw_vm *vm, uint64_t *ticket);
/* Numbers of the tickets that wait, oldest first: at most `room` of them are written, all are counted. */
THAW_PUBLIC int thaw_vm_tickets(struct thaw_vm *vm, uint64_t *tickets, unsigned room,
				struct thaw_error *error);
/* Whose call a ticket is of: the name of the host function (malloc'ed), and an array of its arguments. -ENOENT. */
THAW_PUBLIC int thaw_vm_ticket_call(struct thaw_vm *vm, uint64_t ticket, char **name,
				    thaw_vm_value *arguments, struct thaw_error *error);

/* ---- Time ---- */

/* Run what is due now: promise reactions and timers. How many timers have run, or an error. Not in a host function: -EBUSY. */
THAW_PUBLIC int thaw_vm_step(struct thaw_vm *vm, struct thaw_error *error);
/* Nanoseconds until thaw_vm_step() has something to do; UINT64_MAX: never, by itself. */
THAW_PUBLIC uint64_t thaw_vm_next_due(struct thaw_vm *vm);
/* The VM's own loop, until nothing is due any more (0) or for so long (-ETIMEDOUT). */
THAW_PUBLIC int thaw_vm_run(struct thaw_vm *vm, uint64_t timeout_ns, struct thaw_error *error);
/*
 * Any thread, while the VM is open: cut short the call that is under way, or the next one. In a host function or another
 * callback: no more code runs once that has returned.
 */
THAW_PUBLIC void thaw_vm_interrupt(struct thaw_vm *vm);

/* ---- Generations: of a VM with an image ---- */

/*
 * Make what is in the VM durable in its image, under a name if that is not NULL, which another generation loses by it. The
 * generation's number in `generation` (may be NULL). If nothing has changed, it is the one before. Between calls only, else -EBUSY;
 * -EROFS: there is no image. After an error the VM goes on, and so may a later checkpoint.
 */
THAW_PUBLIC int thaw_vm_checkpoint(struct thaw_vm *vm, const char *name, uint64_t *generation,
				   struct thaw_error *error);
/*
 * The same in the background: what is in the VM when this is called becomes durable while it goes on. Then ask, perhaps when
 * options.notify was called. -EBUSY: the one before is under way, or nobody has asked what came of it. thaw_vm_close() waits.
 */
THAW_PUBLIC int thaw_vm_checkpoint_begin(struct thaw_vm *vm, const char *name,
					 struct thaw_error *error);
/*
 * 1: it is durable, and this is its number; 0: it is under way (the second one waits instead); -ENOENT: none was begun, or its
 * end has been told; else why it has failed. Also in host functions.
 */
THAW_PUBLIC int thaw_vm_checkpoint_poll(struct thaw_vm *vm, uint64_t *generation,
					struct thaw_error *error);
THAW_PUBLIC int thaw_vm_checkpoint_wait(struct thaw_vm *vm, uint64_t *generation,
					struct thaw_error *error);
/*
 * Does the program wait for a generation, by its own checkpoint()? The next that is durable is what it waits for: it is told in
 * thaw_vm_step().
 */
THAW_PUBLIC bool thaw_vm_wants_checkpoint(struct thaw_vm *vm);
/* The newest one that is durable, of those that the VM came from or has made; 0: none. */
THAW_PUBLIC uint64_t thaw_vm_generation(struct thaw_vm *vm);
/*
 * Name a generation of its image (0: the newest), which stays for as long as it has a name; or take the name away. While no
 * checkpoint is under way, else -EBUSY.
 */
THAW_PUBLIC int thaw_vm_tag(struct thaw_vm *vm, const char *name, uint64_t generation,
			    struct thaw_error *error);
THAW_PUBLIC int thaw_vm_untag(struct thaw_vm *vm, const char *name, struct thaw_error *error);

struct thaw_vm_generation {
	uint64_t number, parent; /* that it was made from; 0: none */
	uint64_t time_ns;	 /* since 1970 */
	uint64_t heap_bytes, bytes_written;
	const char *names; /* all that it has, with a space between; "": none */
};
/* What an image has, oldest first, in one block for free(3): how many. Any thread; also of an image in use. */
THAW_PUBLIC int thaw_vm_generations(const char *image, struct thaw_vm_generation **list,
				    struct thaw_error *error);
/*
 * The host functions that the image or the snapshot of these options needs, and the options do not have: how many, and their
 * names in one block for free(3). Without functions in the options, all that it needs. Any thread; also of an image in use.
 */
THAW_PUBLIC int thaw_vm_missing(const struct thaw_vm_options *options, char ***names,
				struct thaw_error *error);

/* ---- Contexts ----
 *
 * Several programs in one VM: each context has its own globals, variables, built-ins, modules and timers, and the host
 * functions. Values may be given from one to another. They are in images and snapshots. The first one, 0, is there from the
 * beginning, and only it may import the module "thaw"; promises of host functions are of its Promise. None ends before the VM does.
 */

/* Make one, with a name of its own, at most 63 bytes: its index, or an error. -EEXIST, -EINVAL, -ENOSPC: there are 32. Between calls. */
THAW_PUBLIC int thaw_vm_context_new(struct thaw_vm *vm, const char *name, struct thaw_error *error);
/* Its index; -ENOENT. */
THAW_PUBLIC int thaw_vm_context_find(struct thaw_vm *vm, const char *name);
/* How many there are: 0 of a VM that cannot run. */
THAW_PUBLIC unsigned thaw_vm_context_count(struct thaw_vm *vm);
/* The name of one, "" of the first and of none, written to `name`, which is returned. */
THAW_PUBLIC const char *thaw_vm_context_name(struct thaw_vm *vm, unsigned index, char name[64]);
/*
 * From now on calls work in that one. In a host function, whose calls work in the context of the code that has called it, until it
 * returns. -ENOENT.
 */
THAW_PUBLIC int thaw_vm_context_use(struct thaw_vm *vm, unsigned index, struct thaw_error *error);

/* ---- Snapshots ----
 *
 * What a VM is between two calls, kept in memory: contents that never change, counted, used by any thread. Of one any number
 * of VMs begins (thaw_vm_options.snapshot), each with its own randomness; a VM goes back to one; and one is an array of
 * bytes, whole or as what changed since another, which opens wherever the same engine is. Promises of tickets are in it
 * (thaw_vm_settle). The bytes are not authenticated: who can change them can change the program, which stays in its sandbox.
 */

/*
 * The first of a VM gives its free memory back and costs one copy of its heap, later ones what was written since (thaw_freeze of
 * thaw_frozen.h). Between calls only, else -EBUSY.
 *
 * Compiled functions are kept: of the 12.1 MiB that a heap with the TypeScript compiler comes to as bytes they are 2.7, and their
 * sources, of which they could be made again, 3.1.
 */
THAW_PUBLIC int thaw_vm_snapshot(struct thaw_vm *vm, struct thaw_vm_snapshot **snapshot,
				 struct thaw_error *error);
/* One more reference; and one less, of which the last frees it. NULL is allowed. */
THAW_PUBLIC struct thaw_vm_snapshot *thaw_vm_snapshot_hold(struct thaw_vm_snapshot *snapshot);
THAW_PUBLIC void thaw_vm_snapshot_drop(struct thaw_vm_snapshot *snapshot);
/*
 * Make a VM without an image what it was, or another one was; also one that has trapped, or ended. All of its handles are
 * gone. -EBUSY: a call is under way; -EINVAL: it has an image; THAW_VM_EMISSING and others: nothing has changed, or
 * (out of memory) nothing but thaw_vm_close(), or another try, is left.
 *
 * An interrupt that nothing has heard of is forgotten. One that comes meanwhile, and turn_ns, cut short what the program does about it
 * (promise reactions that are due, listeners of "restore"), and not the rollback.
 */
THAW_PUBLIC int thaw_vm_rollback(struct thaw_vm *vm, struct thaw_vm_snapshot *snapshot,
				 struct thaw_error *error);
/*
 * What it has, as 128 bits: equal contents have equal ids. Reads all of it if it is the first one of its VM that is asked, or written
 * as bytes; later ones cost what differs.
 */
THAW_PUBLIC int thaw_vm_snapshot_id(struct thaw_vm_snapshot *snapshot, uint8_t id[16],
				    struct thaw_error *error);
/*
 * As bytes, malloc'ed: whole, or (`since` is not NULL) what changed since that one. Equal contents give equal bytes.
 * Of one of the same VM, of a fork of it, or that was opened over the other, only what differs is looked at; of others all of both.
 */
THAW_PUBLIC int thaw_vm_snapshot_bytes(struct thaw_vm_snapshot *snapshot,
				       struct thaw_vm_snapshot *since, void **data, size_t *bytes,
				       struct thaw_error *error);
/*
 * And back. A delta needs the one that it was made `since` (else NULL), perhaps from bytes itself. `max_bytes`: of heap; 0: 4 GiB.
 * THAW_EFOREIGN: not such bytes; THAW_EFORMAT: of another version; THAW_EENGINE: of another engine; THAW_ENOGEN: of
 * another base; THAW_EDAMAGED; -EFBIG; -ENOMEM.
 */
THAW_PUBLIC int thaw_vm_snapshot_open(const void *data, size_t bytes, struct thaw_vm_snapshot *base,
				      uint64_t max_bytes, struct thaw_vm_snapshot **snapshot,
				      struct thaw_error *error);
/*
 * The same of a file, from where the descriptor stands up to the end, which is read piece by piece and never held as a whole; the
 * descriptor stays where it stands. Of a pipe or socket: all of it. What opens lazily, as it is touched, is an image.
 */
THAW_PUBLIC int thaw_vm_snapshot_open_fd(int fd, struct thaw_vm_snapshot *base, uint64_t max_bytes,
					 struct thaw_vm_snapshot **snapshot,
					 struct thaw_error *error);
/*
 * As an image, a new file, with one generation of these contents: thaw_vm_options.image and the program thaw go on from it, and only
 * what they touch is read. Durable when it returns. -EEXIST: the image holds generations; else as thaw_vm_checkpoint(), and a file
 * that was made is gone again.
 */
THAW_PUBLIC int thaw_vm_snapshot_write(struct thaw_vm_snapshot *snapshot, const char *image,
				       struct thaw_error *error);

struct thaw_vm_difference {
	uint64_t pages; /* that differ, of thaw_frozen_page_bytes() each */
	uint64_t bytes; /* of these */
};
/*
 * In what the second differs from the first. `json` (may be NULL) receives, malloc'ed, what `thaw diff --json` says: the differences in
 * the global variables, the variables of modules, and all that they lead to, at most 1,000 of them, read as data: no code of the
 * program runs. It takes time for all objects, else for the pages that differ; of several contexts the first is told of.
 */
THAW_PUBLIC int thaw_vm_snapshot_diff(struct thaw_vm_snapshot *from, struct thaw_vm_snapshot *to,
				      struct thaw_vm_difference *difference, char **json,
				      struct thaw_error *error);

#ifdef __cplusplus
}
#endif

#endif
