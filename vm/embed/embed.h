/* SPDX-License-Identifier: MIT */
/*
 * embed.h - a VM inside of another program, from the inside: what the files of vm/embed share. It is the guest's owner
 * (guest.h) in the place of vm/policy: struct runtime is struct thaw_vm here.
 */
#ifndef VM_EMBED_H
#define VM_EMBED_H

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "js/program/program.h"
#include "thaw_frozen.h"
#include "thaw_vm.h"

struct vm_table; /* table.h */
extern const struct vm_table own_vm_table;

struct thaw_vm {
	const struct vm_table
		*table; /* the first: whoever calls finds it there, whichever engine it is of */
	struct thaw_vm_options options;
	struct thaw *heap;
	struct guest *guest;
	struct thaw_vm_function *functions; /* sorted as `bindings`; names malloc'ed */
	struct js_host_binding *bindings;   /* the guest's, the functions', an empty one */
	char **names;			    /* "host.NAME" */
	struct hosting hosting;
	js_value tickets; /* functions.c: of the heap */
	unsigned context; /* contexts.c: that calls work in */

	/* The thread whose calls are under way, as pthread_self() has it; 0: none. */
	_Atomic uintptr_t user;
	unsigned holds;		       /* how often it is that */
	unsigned depth;		       /* calls under way */
	uint64_t deadline_ns, poll_ns; /* of the outermost; when the host is asked next; 0: none */
	uint64_t logged;	       /* bytes that the outermost has printed */
	atomic_bool interrupt;
	bool alarm_set;
	struct js_alarm alarm; /* for all of these, inside of what does not poll; under `lock` */
	bool cut, ended;
	bool uncut;	 /* what runs is the library's own, and short: not to be cut */
	bool going_back; /* what is cut short while a VM goes back is no failure of that */
	bool frozen;	 /* has been, or began as what was: its pages are shared */
	const char *cut_why;
	struct { /* generations.c */
		uint64_t waiter,
			asked; /* the program's last that waits for one; for that under way */
		bool under_way;
		char **names; /* that the program has asked for since it was captured */
		unsigned name_count;
		atomic_bool writing;
		/* What the program is to be told, the oldest first. */
		struct guest_outcome outcomes[4];
		unsigned untold;
	} generation;
	bool thrown;			 /* the host function under way has failed */
	js_value exception;		 /* of the last call, for its host; 0: none */
	const struct host_call *calling; /* functions.c: the host function under way; NULL: none */
	pthread_mutex_t lock;		 /* for `woken` */
	pthread_cond_t woken;
};

static inline struct program *vm_program(struct thaw_vm *vm)
{
	return program_of(vm->guest);
}

/* NULL: a rollback has failed half-way. */
static inline struct js_engine *vm_engine(struct thaw_vm *vm)
{
	return vm->guest ? vm_program(vm)->engine : NULL;
}

/* Of a text whose length may be left out. */
static inline size_t vm_text_bytes(const char *text, size_t bytes)
{
	return bytes == SIZE_MAX ? strlen(text) : bytes;
}

/* ---- vm.c: the brackets of every call that runs code ---- */

int vm_enter(struct thaw_vm *vm, struct thaw_error *error);
/* `failed`: it ended with an exception, which is taken. */
int vm_leave(struct thaw_vm *vm, bool failed, struct thaw_error *error);
/* A call of several parts, between which no other thread gets in: -EBUSY. And its end. */
int vm_hold(struct thaw_vm *vm, struct thaw_error *error);
void vm_let(struct thaw_vm *vm);
/* vm_enter() where what comes is a turn of the guest's own; and back, when none has come. */
int vm_claim(struct thaw_vm *vm, struct thaw_error *error);
void vm_release(struct thaw_vm *vm);
/* -EBUSY: another thread is in a call of it. */
int vm_mine(struct thaw_vm *vm, struct thaw_error *error);
/* THAW_VM_ETRAPPED or THAW_EDAMAGED; 0: nothing of the kind. */
int vm_trapped(struct thaw_vm *vm, struct thaw_error *error);
/* The call that is under way ends at the next poll, for that reason. */
void vm_cut(struct thaw_vm *vm, const char *why);
/* A callback of the host's returns into the program: has it asked for the end of the call? */
bool vm_interrupted(struct thaw_vm *vm);
/* May it be asked anything, by this thread? */
bool vm_sound(struct thaw_vm *vm);
/* Where it comes from, for messages. */
const char *vm_origin(const struct thaw_vm *vm);
/* May it be captured now, and what of it is not in the heap: malloc'ed. */
int vm_state(struct thaw_vm *vm, void **state, size_t *bytes, struct thaw_error *error);
/* The guest over the heap as it is: a fresh one, or (`state` is not NULL) one that goes on. */
int vm_begin(struct thaw_vm *vm, const void *state, size_t bytes, struct thaw_error *error);

int vm_options_copy(const struct thaw_vm_options *given, struct thaw_vm_options *options,
		    struct thaw_error *error);

/* ---- modules.c: struct hosting's ---- */

char *modules_resolve(void *program, const char *base, const char *specifier,
		      struct thaw_error *error);
char *modules_load(void *program, const char *name, size_t *bytes, struct thaw_error *error);

/* ---- generations.c ---- */

/* The generation that is to be opened; 0: the newest. */
int generation_find(const struct thaw_vm_options *options, uint64_t *number,
		    struct thaw_error *error);
/* thaw_options.notify */
void generation_notify(void *arg);
void generation_forget_names(struct thaw_vm *vm);

/* ---- evaluate.c ---- */

/* The function under a dotted name, and what it is a property of. 0: an exception. */
js_value evaluate_find(struct thaw_vm *vm, const char *name, js_value *self);

/* ---- values.c ---- */

/* Inside of a call: what a JSON text says. 0: an exception. */
js_value values_parse(struct thaw_vm *vm, const char *text, size_t bytes);

/* ---- snapshot.c ---- */

struct thaw_frozen *snapshot_frozen(struct thaw_vm_snapshot *snapshot);
struct snapshot_source;
/*
 * What is in a descriptor: of a file the part behind where it stands, which is read later; of a pipe or socket all, in `stream`,
 * malloc'ed. To be freed also after an error.
 */
int snapshot_source_of(int fd, struct snapshot_source *source, uint8_t **stream,
		       struct thaw_error *error);

/* ---- functions.c ---- */

int functions_open(struct thaw_vm *vm, const struct js_host_binding *guests);
void functions_close(struct thaw_vm *vm);
/* All that a generation needs are there; else THAW_VM_EMISSING. */
int functions_check(struct thaw_vm *vm, const struct js_blob *blob, struct thaw_error *error);
/* Those that are not there, malloc'ed in one block, the last of them NULL: how many. */
int functions_missing(const struct thaw_vm_options *options, const struct js_blob *blob,
		      char ***names, struct thaw_error *error);
/* Into the global objects of a VM that is prepared. */
int functions_install(struct thaw_vm *vm, struct thaw_error *error);
/* Into that of the context that is selected. False: an exception. */
bool functions_install_all(struct thaw_vm *vm);
/* "parse", "stringify" of JSON as they were, and what belongs to tickets. 0: an exception. */
js_value functions_method(struct thaw_vm *vm, const char *name, unsigned count,
			  const js_value *arguments);
js_value functions_call(struct js_engine *engine, void *arg, const struct js_host_binding *binding,
			unsigned count, const js_value *arguments);

#endif
