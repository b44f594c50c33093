/* SPDX-License-Identifier: MIT */
/*
 * addon.h - libthawvm for Node.js, from the inside: what the files of this folder share. index.js is the only caller; it has
 * the classes, the promises and the clock, and here is what needs C.
 *
 * A VM is a plain object of JavaScript with a struct binding behind it, whose properties are the host functions (by number), `log` and
 * `load`: so what they refer to is the collector's business, and nothing here holds a value between two calls.
 */
#ifndef NODE_ADDON_H
#define NODE_ADDON_H

#define NAPI_VERSION 8
#include <node_api.h>

#include "embed/thaw_vm.h"

/* What index.js gives once (setup()); an instance of the addon for each thread of JavaScript. */
enum helper {
	HELPER_FAILURE,	 /* (code, text, thrown, whether something was thrown) -> an Error */
	HELPER_ERROR,	 /* (name, message, stack, properties) -> an Error of the VM's */
	HELPER_BIGINT,	 /* (text) -> a BigInt */
	HELPER_PASSABLE, /* (object) -> has it nothing but properties? */
	HELPER_ADOPT,	 /* (VM, handle of a promise) -> a Promise */
	HELPER_WAIT,	 /* (VM, ticket, Promise of a host function) */
	HELPER_COUNT
};

struct instance {
	napi_ref helpers[HELPER_COUNT];
};

struct binding {
	struct thaw_vm *vm;
	uint64_t id; /* registry.c */
	napi_env env;
	napi_value self; /* the object of the call under way */
	unsigned depth;
	napi_ref
		failure; /* what a callback without a way into the VM has thrown (log), for the end of the call */
	bool terminated; /* JavaScript can run no more in this thread */
	unsigned function_count;
	struct host_function {
		struct binding *binding;
		unsigned index;
	} * functions;
};

/* ---- helpers.c ---- */

/* NULL: JavaScript cannot run any more, or has thrown, which is left to throw. */
napi_value helper_call(napi_env env, enum helper which, size_t count, const napi_value *arguments);
napi_value number_new(napi_env env, double number);
napi_value text_new(napi_env env, const char *text, size_t bytes);
napi_value undefined_value(napi_env env);
double number_of(napi_env env, napi_value value);
/* The Error of a code of the library's; `thrown` NULL: nothing was. */
napi_value failure_new(napi_env env, int code, const char *text, napi_value thrown);
/* Returns NULL. */
napi_value throw_failure(napi_env env, int code, const char *text, napi_value thrown);

/* ---- addon.c: what brackets each function of a VM ---- */

#define ARGUMENTS_MAX 5

struct call { /* its first argument is the VM's object */
	napi_env env;
	size_t count;
	napi_value arguments[ARGUMENTS_MAX];
	struct binding *binding;
	napi_value outer; /* the object of the call that this one is inside of */
	struct thaw_error error;
};

/* False: the VM is closed, which is thrown. */
bool call_begin(struct call *call, napi_env env, napi_callback_info info);
/* Returns `result`; or NULL, and throws what has failed: `code` is negative, and `call->error` says why, or it is thrown already. */
napi_value call_end(struct call *call, napi_value result, int code);
/* malloc'ed; NULL: it is no string, which is thrown. */
char *text_of(napi_env env, napi_value value, size_t *bytes);

/* ---- state.c ---- */

napi_value addon_vm_tickets(napi_env env, napi_callback_info info);
napi_value addon_vm_ticket_call(napi_env env, napi_callback_info info);
napi_value addon_vm_settle(napi_env env, napi_callback_info info);
napi_value addon_vm_checkpoint(napi_env env, napi_callback_info info);
napi_value addon_vm_checkpoint_begin(napi_env env, napi_callback_info info);
napi_value addon_vm_checkpoint_poll(napi_env env, napi_callback_info info);
napi_value addon_vm_context(napi_env env, napi_callback_info info);
napi_value addon_vm_use(napi_env env, napi_callback_info info);
napi_value addon_vm_usage(napi_env env, napi_callback_info info);
napi_value addon_vm_collect(napi_env env, napi_callback_info info);
napi_value addon_generations(napi_env env, napi_callback_info info);

/* ---- snapshots.c ---- */

/* NULL: it is disposed, which is thrown. */
struct thaw_vm_snapshot *snapshot_inside(napi_env env, napi_value value);
/* NULL for undefined; false likewise. */
bool snapshot_or_none(napi_env env, napi_value value, struct thaw_vm_snapshot **snapshot);
/* Consumes the reference. */
napi_value snapshot_object(napi_env env, struct thaw_vm_snapshot *snapshot);
napi_value addon_snapshot_id(napi_env env, napi_callback_info info);
napi_value addon_snapshot_bytes(napi_env env, napi_callback_info info);
napi_value addon_snapshot_open(napi_env env, napi_callback_info info);
napi_value addon_snapshot_drop(napi_env env, napi_callback_info info);
napi_value addon_snapshot_send(napi_env env, napi_callback_info info);
napi_value addon_snapshot_receive(napi_env env, napi_callback_info info);

/* ---- jobs.c ---- */

napi_value addon_snapshot_bytes_later(napi_env env, napi_callback_info info);
napi_value addon_snapshot_open_later(napi_env env, napi_callback_info info);

/* ---- values.c: false with an exception of JavaScript that is left to throw, or one of the VM's in `error` ---- */

struct block { /* bytes that grow, malloc'ed */
	uint8_t *data;
	size_t bytes, room;
};

/* As thaw_vm_unpack() takes it. */
bool values_write(napi_env env, napi_value value, struct block *block);
/* One value of what thaw_vm_pack() gave, from *at on; NULL. */
napi_value values_read(napi_env env, const uint8_t **at, const uint8_t *end);
/* One of the VM's, whole; NULL. */
napi_value value_out(napi_env env, struct thaw_vm *vm, thaw_vm_value value,
		     struct thaw_error *error);
/* Into the VM: 0 and an exception of JavaScript, or `error`. */
thaw_vm_value value_in(napi_env env, struct thaw_vm *vm, napi_value value,
		       struct thaw_error *error);

/* ---- host.c: callbacks of the library ---- */

thaw_vm_value host_call(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			const thaw_vm_value *arguments);
void host_log(void *arg, int fd, const char *text, size_t bytes);
char *host_load(void *arg, const char *name, size_t *bytes);
char *host_resolve(void *arg, const char *importer, const char *name);
bool host_poll(void *arg);

/* ---- registry.c: what other threads may name by a number ---- */

uint64_t registry_add(struct thaw_vm *vm);
void registry_remove(uint64_t id);
bool registry_interrupt(uint64_t id);
/* A snapshot on its way to another thread; consumes a reference. 0: no memory. */
uint64_t registry_send(struct thaw_vm_snapshot *snapshot);
/* The reference, once; NULL. */
struct thaw_vm_snapshot *registry_receive(uint64_t id);

#endif
