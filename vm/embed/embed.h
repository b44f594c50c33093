/* SPDX-License-Identifier: MIT */
/*
 * embed.h - a VM inside of another program, from the inside: what the files of vm/embed share. It is the guest's owner
 * (guest.h) in the place of vm/policy: struct runtime is struct thaw_vm here.
 */
#ifndef VM_EMBED_H
#define VM_EMBED_H

#include <pthread.h>
#include <stdatomic.h>

#include "js/program/program.h"
#include "thaw_vm.h"

struct thaw_vm {
	struct thaw_vm_options options;
	struct thaw *heap;
	struct guest *guest;
	pthread_t thread;
	struct thaw_vm_function *functions; /* sorted as `bindings`; names malloc'ed */
	struct js_host_binding *bindings;   /* the guest's, the functions', an empty one */
	char **names;			    /* "host.NAME" */
	struct hosting hosting;
	js_value tickets; /* functions.c: of the heap */

	unsigned depth;	      /* calls under way */
	uint64_t deadline_ns; /* of the outermost; 0: none */
	atomic_bool interrupt;
	bool cut, ended;
	bool thrown;	      /* the host function under way has failed */
	pthread_mutex_t lock; /* for `woken` */
	pthread_cond_t woken;
};

static inline struct program *vm_program(struct thaw_vm *vm)
{
	return program_of(vm->guest);
}

static inline struct js_engine *vm_engine(struct thaw_vm *vm)
{
	return vm_program(vm)->engine;
}

/* ---- vm.c: the brackets of every call that runs code ---- */

int vm_enter(struct thaw_vm *vm, struct thaw_error *error);
/* `failed`: it ended with an exception, which is taken. */
int vm_leave(struct thaw_vm *vm, bool failed, struct thaw_error *error);
/* May it be asked anything, by this thread? */
bool vm_sound(struct thaw_vm *vm);

/* ---- functions.c ---- */

int functions_open(struct thaw_vm *vm, const struct js_host_binding *guests);
void functions_close(struct thaw_vm *vm);
/* All that a generation needs are there; else THAW_VM_EMISSING. */
int functions_check(struct thaw_vm *vm, const struct js_blob *blob, struct thaw_error *error);
/* Into the global object of a VM that is prepared. */
int functions_install(struct thaw_vm *vm, struct thaw_error *error);
/* "parse", "stringify" of JSON as they were, and what belongs to tickets. 0: an exception. */
js_value functions_method(struct thaw_vm *vm, const char *name, unsigned count,
			  const js_value *arguments);
js_value functions_call(struct js_engine *engine, void *arg, const struct js_host_binding *binding,
			unsigned count, const js_value *arguments);

#endif
