/* SPDX-License-Identifier: MIT */
/*
 * state.h - shared by the files of vm/js/ only: the state of the engine in the host, and access to
 * the inside of the VM.
 *
 * Three kinds of number name things in the VM: a `u32` address in linear memory, a `u64` JSValue
 * (QuickJS's NaN-boxed word, owned or borrowed as QuickJS has it), and a js_value, the address of a
 * boxed JSValue (engine.h).
 */
#ifndef VM_JS_STATE_H
#define VM_JS_STATE_H

#include <signal.h>

#include "engine.h"
#include "quickjs.h" /* made by wasm2c */
#include "stack.h"

/*
 * Offsets in JSRuntime and JSContext of quickjs-wasi 3.6.2 that no export gives. engine.c checks
 * each when a VM is created.
 */
enum {
	RUNTIME_MALLOC_SIZE = 24,   /* u32: bytes allocated now */
	RUNTIME_GC_THRESHOLD = 624, /* u32 */
	CONTEXT_RANDOM_STATE = 280, /* u64, never 0: xorshift64* of Math.random() */
	CONTEXT_POLL_COUNTER = 292, /* s32: loop edges and calls until the next poll */
};

/* JSValue: the tag is the upper half of the word; words without a tag are floats. */
#define JSVALUE(tag, low) (((u64)(u32)(tag) << 32) | (u32)(low))
enum {
	TAG_INT = 0,
	TAG_BOOL = 1,
	TAG_NULL = 2,
	TAG_UNDEFINED = 3,
	TAG_EXCEPTION = 6,
	TAG_OBJECT = -1
};
#define VALUE_NULL JSVALUE(TAG_NULL, 0)
#define VALUE_UNDEFINED JSVALUE(TAG_UNDEFINED, 0)
#define VALUE_EXCEPTION JSVALUE(TAG_EXCEPTION, 0)

static inline bool value_has_tag(u64 value, int tag)
{
	return (u32)(value >> 32) == (u32)tag;
}

/*
 * Functions of the host in the VM's table, after the 532 of the module. The heap refers to them by
 * index: never reorder them, only append, and change js_engine_identity when one of them changes
 * its meaning.
 */
enum native_function {
	NATIVE_HOST_FUNCTION,
	NATIVE_MODULE_RESOLVE,
	NATIVE_MODULE_LOAD,
	NATIVE_JSON_MODULE_INIT,
	NATIVE_SHARED_ALLOCATE,
	NATIVE_SHARED_FREE,
	NATIVE_SHARED_USE,
	NATIVE_COUNT
};

/*
 * A record of the host in the heap, at the bottom of the block of the shadow stack. The runtime's
 * opaque pointer leads to it. A stack that overflows its block overwrites `magic` first.
 */
struct heap_note {
	u32 magic;
	u32 stack_bytes; /* of the shadow stack, which begins right after the note */
	u32 live_bytes;	 /* allocated right after the last collection */
	u32 reserve; /* a block to free when memory ends, so that the error can be built; 0: given up */
	u32 sources, sources_used, sources_room; /* sources.c: a block, and bytes of it; 0: none */
	u32 contexts; /* contexts.c: a block with its table; 0: there is one context only */
	u32 unused[8];
};
#define NOTE_MAGIC 0x57414854u /* "THAW" */

/*
 * Passed between the host's side of a turn and the VM's. The VM's side reads it before any code of
 * the program runs and writes it after the last: what is needed in between is on the VM's stack.
 */
struct turn_entry {
	u64 function, self; /* borrowed, and consumed for evaluation */
	u32 count, arguments;
	bool allocated; /* `arguments` is a block of the heap, not on the shadow stack */
	js_value result;
};

#define TABLE_ROOM 640u /* functions of the module and of the host */

/*
 * It is placed right after the turn stack, at JS_PLACE_ADDRESS if that was free, since the
 * generated code keeps its address in every frame. Frames point to nothing but this, the heap and
 * the program.
 */
struct js_engine {
	Z_quickjs_instance_t wasm;
	wasm_rt_funcref_t table[TABLE_ROOM];
	struct thaw *heap;
	struct js_host host;
	const struct js_host_binding **bindings; /* sorted by name */
	size_t binding_count;

	/*
	 * Turns run on the turn stack, which mid-turn generations contain: its frames are those of
	 * the generated code and the trampolines only. All else runs on the side stack.
	 */
	struct vm_stack turn_stack, side_stack;
	struct vm_stack *volatile running; /* the stack in use; NULL: the one of the host */
	/* Where to leave the VM's stacks to: of the last entry; NULL: no call of this engine is on them. */
	struct vm_landing *landing;
	struct turn_entry entry;
	bool fixed;   /* engine, turn stack and heap have the addresses that every process uses */
	bool polling; /* inside the host's `interrupt` */
	bool between; /* ... which was called between any two instructions: the VM cannot be entered */
	u64 cut_ns; /* by the thread's own clock: since then the end of the turn is asked for in vain */
	u32 native_base;   /* table index of our first function */
	u32 runtime, note; /* constant once created or restored */
	u32 context;	   /* the selected one (contexts.c) */
	u32 contexts[JS_CONTEXTS_MAX];
	unsigned context_count;
	bool memory_refused; /* the heap could not grow since the last collection */
	u32 pages_wanted;    /* by the memory.grow under way */
	bool collecting, collection_held;
	u64 free_seen; /* bytes of the memory that were free when some were last given back, or fewer */
	u32 given_back;			      /* how often that was looked at */
	u64 release_after_ns;		      /* not before that again */
	char trap[504];			      /* empty: none */
	bool damaged;			      /* ... because a page of the image cannot be read */
	char *import_base, *import_specifier; /* what was resolved last, malloc'ed; NULL: nothing */
};

#define VM(engine, function, ...) Z_quickjsZ_##function(&(engine)->wasm, ##__VA_ARGS__)

/*
 * Every u32 is inside of the reserved addresses. After the end of the heap it faults, which is a
 * trap.
 */
static inline void *vm_at(const struct js_engine *engine, u32 address)
{
	return engine->wasm.w2c_memory.data + address;
}

static inline u16 vm_load16(const struct js_engine *engine, u32 address)
{
	u16 word;

	memcpy(&word, vm_at(engine, address), sizeof(word));
	return word;
}

static inline u32 vm_load32(const struct js_engine *engine, u32 address)
{
	u32 word;

	memcpy(&word, vm_at(engine, address), sizeof(word));
	return word;
}

static inline u64 vm_load64(const struct js_engine *engine, u32 address)
{
	u64 word;

	memcpy(&word, vm_at(engine, address), sizeof(word));
	return word;
}

static inline void vm_store32(struct js_engine *engine, u32 address, u32 word)
{
	memcpy(vm_at(engine, address), &word, sizeof(word));
}

static inline void vm_store64(struct js_engine *engine, u32 address, u64 word)
{
	memcpy(vm_at(engine, address), &word, sizeof(word));
}

/* Scratch space on the shadow stack; pops are in reverse order, with the same size. */
static inline u32 vm_push(struct js_engine *engine, u32 bytes)
{
	return engine->wasm.w2c___stack_pointer -= (bytes + 15) & ~15u;
}

static inline void vm_pop(struct js_engine *engine, u32 bytes)
{
	engine->wasm.w2c___stack_pointer += (bytes + 15) & ~15u;
}

/* ---- engine.c ---- */

/*
 * Run function(arg) on the VM's side stack, or on the current one if it is a stack of the VM.
 * False: the engine has trapped, now or before.
 */
bool engine_enter(struct js_engine *engine, void (*function)(void *arg), void *arg);
/*
 * The same on the turn stack (inside of a host function, on the side stack). The argument of the
 * function is the engine; it finds what it needs in engine->entry.
 */
bool engine_enter_turn(struct js_engine *engine, void (*function)(void *engine));
/* Continue the turn whose frames are on the turn stack. False: the engine has trapped. */
bool engine_continue_turn(struct js_engine *engine);
/* On a VM's stack: run function(arg) on the host's stack, where any C code may run. */
u64 engine_call_host(struct js_engine *engine, u64 (*function)(void *arg), void *arg);
/* On a VM's stack: run function(arg) on the side stack, for code that calls both the VM and C. */
void engine_call_side(struct js_engine *engine, void (*function)(void *arg), void *arg);
/* Ask the host, on its stack: should the script end? */
bool engine_poll(struct js_engine *engine);
/* The engine that this thread entered last and has not left. */
struct js_engine *engine_current(void);
_Noreturn void engine_trap(struct js_engine *engine, const char *reason);
/* The same once the reason is known: to the host that entered it. */
_Noreturn void engine_leave(struct js_engine *engine);
/* Collect garbage; on the host's stack, anywhere QuickJS itself might. */
void engine_collect(struct js_engine *engine);
/*
 * The same inside of a turn, if the turn has allocated so much that the collection cannot wait for
 * its end.
 */
void engine_collect_inside_turn(struct js_engine *engine);

/* ---- faults.c ---- */
/* From here on, until the second, what js_host.survives says holds. -ENOMEM. */
int engine_announce(struct js_engine *engine);
void engine_withdraw(struct js_engine *engine);

/* ---- alarm.c ---- */
/* In the handler of SIGSEGV. False: the signal is not of an alarm. */
bool engine_alarm(const siginfo_t *info, void *context);

/* ---- contexts.c ---- */
/* On the VM's stack: find the contexts of a restored heap. False: what is there cannot be. */
bool engine_find_contexts(struct js_engine *engine);
/* The VM calls out with this context: select it. Returns the one to select again. */
u32 engine_use_context(struct js_engine *engine, u32 context);

/* ---- free_memory.c ---- */
/* What is free now is not given back: it has been, or is not worth it. */
void engine_watch_free(struct js_engine *engine);
/* On the VM's stack, when it is created: does the allocator have the layout that is known? */
bool engine_check_allocator(struct js_engine *engine);

/* ---- wasm_rt.c ---- */
void wasm_rt_set_native(struct js_engine *engine);

/* ---- value.c: all of it runs on the stack of the VM ---- */

u32 vm_string(struct js_engine *engine, const char *text,
	      size_t bytes); /* NUL-terminated copy; 0: exception */
void vm_free(struct js_engine *engine, u32 address);
js_value value_box(struct js_engine *engine, u64 value); /* consumes it; exception: 0 */
u64 value_unbox(struct js_engine *engine,
		js_value handle); /* the value it held, owned; the handle is gone */
static inline u64 value_of(const struct js_engine *engine, js_value handle)
{
	return handle ? vm_load64(engine, handle) : VALUE_UNDEFINED;
}
/* UTF-8, malloc'ed and terminated; NULL: an exception is pending (or no memory in the host). */
char *value_text(struct js_engine *engine, u64 value, size_t *bytes);
u64 value_string(struct js_engine *engine, const char *text, size_t bytes);
/* U+FFFD for each half of a surrogate pair, in what QuickJS gave as UTF-8. */
void text_replace_surrogates(char *text, size_t bytes);

/* ---- redeclare.c: on the VM's stack ---- */
/* Prepare for names that a compiled script declares again. False: an exception is pending. */
bool redeclare(struct js_engine *engine, u64 script);

/* ---- completion.c: on the VM's stack ---- */
/* No prototype reaches the completion value of a compiled script with top-level await. */
void shield_completion(struct js_engine *engine, u64 script);

/* ---- exception.c ---- */
u64 exception_new(struct js_engine *engine, const char *type,
		  const char *text); /* an Error, or an exception while making it */
void exception_throw(struct js_engine *engine, const char *type, const char *text);
void exception_clear(struct js_engine *engine);
/* "    at ...\n" below the stack of the error that is pending, if it is one. */
void exception_add_frame(struct js_engine *engine, const char *frame);

/* ---- functions the VM calls through its table ---- */
u64 native_host_function(struct js_engine *engine, u32 context, u64 self, u32 count, u32 arguments,
			 u32 magic, u32 data);
u32 native_module_resolve(struct js_engine *engine, u32 context, u32 base, u32 specifier,
			  u32 opaque);
u32 native_module_load(struct js_engine *engine, u32 context, u32 name, u32 opaque);
u32 native_json_module_init(struct js_engine *engine, u32 context, u32 module);
/* The memory of SharedArrayBuffers (kinds.c): `data` is what the first of them returned. */
u32 native_shared_allocate(struct js_engine *engine, u32 opaque, u32 bytes);
void native_shared_free(struct js_engine *engine, u32 opaque, u32 data);
void native_shared_use(struct js_engine *engine, u32 opaque, u32 data);
/* On the VM's stack, when it is created: let SharedArrayBuffers have their memory from these. */
void engine_share_memory(struct js_engine *engine);
bool module_set_meta(struct js_engine *engine, u32 module, const char *name, bool main);
/* The same, but for import.meta.hot: of a module that is elsewhere now. */
bool module_place_meta(struct js_engine *engine, u32 module, const char *name, bool main);

/* ---- call.c: from the host ---- */
/* Evaluate a module that is linked, and what it imports: a promise, or 0 and an exception. */
js_value js_evaluate_module(struct js_engine *engine, u32 module);

#endif
