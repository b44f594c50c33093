/* SPDX-License-Identifier: MIT */
/*
 * vm.c - opens and closes a VM, brackets every call into it (who may call, how long it may last, how it ended), makes its
 * generations, and takes it back to a snapshot. Owns struct thaw_vm.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/branch.h"
#include "base/failure.h"
#include "base/thread.h"
#include "embed.h"
#include "js/api/host.h"

#define MIN_BYTES (16u << 20)
#define CALLS_MAX 64u	  /* inside of each other: as the engine has it for host functions */
#define POLL_NS 50000000u /* of options.poll, unless it says something else */

const char *thaw_vm_strerror(int code)
{
	switch (code) {
	case THAW_VM_EEXCEPTION:
		return "the code threw an exception";
	case THAW_VM_EINTERRUPTED:
		return "the call was cut short";
	case THAW_VM_ETRAPPED:
		return "the sandbox stopped the VM";
	case THAW_VM_EENDED:
		return "the program has ended";
	case THAW_VM_EMISSING:
		return "host functions are missing";
	case THAW_VM_EPENDING:
		return "nothing of the VM's can settle the promise";
	default:
		return thaw_strerror(code);
	}
}

int vm_mine(struct thaw_vm *vm, struct thaw_error *error)
{
	uintptr_t user = atomic_load(&vm->user);

	return !user || user == (uintptr_t)pthread_self()
		       ? 0
		       : failure(error, -EBUSY, "another thread is in a call of the VM");
}

bool vm_sound(struct thaw_vm *vm)
{
	return !vm_mine(vm, NULL) && vm->guest && vm_engine(vm) && !js_trapped(vm_engine(vm)) &&
	       !js_polls_here(vm_engine(vm));
}

const char *vm_origin(const struct thaw_vm *vm)
{
	return vm->options.image ? vm->options.image : "the snapshot";
}

/* It must be in no image. */
static void forget_exception(struct thaw_vm *vm)
{
	if (vm->exception && vm_sound(vm))
		js_free(vm_engine(vm), vm->exception);
	vm->exception = 0;
}

int vm_trapped(struct thaw_vm *vm, struct thaw_error *error)
{
	const char *reason = vm_engine(vm) ? js_trapped(vm_engine(vm)) : NULL;

	if (!reason)
		return 0;
	return js_damaged(vm_engine(vm))
		       ? failure(error, THAW_EDAMAGED, "%s", reason)
		       : failure(error, THAW_VM_ETRAPPED, "the sandbox stopped the VM: %s", reason);
}

static int refuse(struct thaw_vm *vm, struct thaw_error *error)
{
	if (!vm_engine(vm))
		return failure(error, THAW_VM_EENDED, "a rollback of the VM has failed");
	if (js_trapped(vm_engine(vm)))
		return vm_trapped(vm, error);
	if (js_polls_here(vm_engine(vm)))
		return failure(error, -EBUSY,
			       "a built-in function is under way: it cannot be called");
	if (vm->ended)
		return failure(error, THAW_VM_EENDED, "the program has called exit(%d)",
			       vm->guest->common.exit_code);
	if (vm->depth >= CALLS_MAX)
		return failure(error, -ELOOP, "%u host functions call into each other", CALLS_MAX);
	return 0;
}

int vm_hold(struct thaw_vm *vm, struct thaw_error *error)
{
	const uintptr_t self = (uintptr_t)pthread_self();
	uintptr_t user = 0;

	if (!atomic_compare_exchange_strong(&vm->user, &user, self) && user != self)
		return failure(error, -EBUSY, "another thread is in a call of the VM");
	vm->holds++;
	return 0;
}

void vm_let(struct thaw_vm *vm)
{
	if (!--vm->holds)
		atomic_store(&vm->user, 0);
}

/* Where the engine does not poll by itself, it is made to. */
static void set_alarm(struct thaw_vm *vm)
{
	uint64_t when = vm->deadline_ns;

	if (!js_alarm_is_aimed(&vm->alarm)) {
		pthread_mutex_lock(&vm->lock);
		js_alarm_aim(&vm->alarm);
		pthread_mutex_unlock(&vm->lock);
	}
	if (vm->poll_ns && (!when || vm->poll_ns < when))
		when = vm->poll_ns;
	vm->alarm_set = when;
	if (when)
		js_alarm_set(&vm->alarm, when);
	/* Whoever interrupts from now on sets it after this. */
	if (atomic_load(&vm->interrupt))
		js_alarm_set(&vm->alarm, 1);
}

/* A call begins: how long it may last. */
static void start_time(struct thaw_vm *vm)
{
	uint64_t now = vm->options.turn_ns || vm->options.poll ? clock_monotonic_ns() : 0;

	vm->deadline_ns = vm->options.turn_ns ? now + vm->options.turn_ns : 0;
	vm->poll_ns = vm->options.poll ? now + vm->options.poll_ns : 0;
	set_alarm(vm);
}

int vm_claim(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code)
		return code;
	code = refuse(vm, error);
	if (!code && !vm->depth) {
		code = js_prepare_thread();
		if (code)
			failure(error, code, "no stack for this thread's signals: %s",
				thaw_strerror(code));
	}
	if (code) {
		vm_let(vm);
		return code;
	}
	forget_exception(vm);
	if (vm->depth++)
		return 0;
	vm->cut = false;
	vm->calling = NULL;
	vm->logged = 0;
	start_time(vm);
	return 0;
}

void vm_release(struct thaw_vm *vm)
{
	if (!--vm->depth && vm->alarm_set) {
		js_alarm_set(&vm->alarm, 0);
		vm->alarm_set = false;
	}
	vm_let(vm);
}

int vm_enter(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = vm_claim(vm, error);

	if (code || vm->depth > 1)
		return code;
	turn_begin(vm_program(vm));
	js_context_select(vm_engine(vm), vm->context);
	return 0;
}

void vm_cut(struct thaw_vm *vm, const char *why)
{
	if (!vm->cut)
		vm->cut_why = why;
	vm->cut = true;
	if (vm_engine(vm) && !js_trapped(vm_engine(vm)))
		js_poll_next(vm_engine(vm));
}

bool vm_interrupted(struct thaw_vm *vm)
{
	if (atomic_load(&vm->interrupt))
		vm_cut(vm, "it was interrupted");
	return vm->cut;
}

static int exception(struct thaw_vm *vm, struct thaw_error *error)
{
	js_value thrown = js_take_exception(vm_engine(vm));
	char *text = js_exception_text(vm_engine(vm), thrown);

	forget_exception(vm);
	vm->exception = thrown;
	failure(error, THAW_VM_EEXCEPTION, "%.*s", (int)strcspn(text, "\n"), text);
	free(text);
	return THAW_VM_EEXCEPTION;
}

static int leave(struct thaw_vm *vm, bool failed, struct thaw_error *error)
{
	struct js_engine *engine = vm_engine(vm);
	js_value thrown;
	int code = 0;

	if (failed && !js_trapped(engine))
		code = exception(vm, error);
	if (vm->depth == 1) {
		if (!js_trapped(engine)) /* what nobody caught is the first one's to hear of */
			js_context_select(engine, 0);
		thrown = vm->exception; /* not those of what runs now */
		vm->exception = 0;
		turn_end(vm_program(vm));
		forget_exception(vm);
		vm->exception = thrown;
		vm->deadline_ns = 0;
	}
	if (js_trapped(engine))
		return vm_trapped(vm, error);
	if (vm->ended || vm->guest->exiting)
		return failure(error, THAW_VM_EENDED, "the program has called exit(%d)",
			       vm->guest->common.exit_code);
	if (vm->cut) {
		if (vm->depth == 1)
			atomic_store(&vm->interrupt, false);
		return failure(error, THAW_VM_EINTERRUPTED, "the call was cut short: %s",
			       vm->cut_why);
	}
	return code;
}

int vm_leave(struct thaw_vm *vm, bool failed, struct thaw_error *error)
{
	int code = leave(vm, failed, error);

	vm_release(vm);
	return code;
}

/* ---- Opening ---- */

int vm_options_copy(const struct thaw_vm_options *given, struct thaw_vm_options *options,
		    struct thaw_error *error)
{
	*options = (struct thaw_vm_options){0};
	if (given->size > sizeof(*options) || given->size < sizeof(given->size))
		return failure(error, -EINVAL, "options.size is not that of this library");
	memcpy(options, given, given->size);
	return 0;
}

static unsigned heap_flags(const struct thaw_vm_options *options)
{
	unsigned flags = options->flags;

	if (!options->image)
		return 0;
	return THAW_CREATE | THAW_OWN | THAW_TOUCHES | THAW_AT_ONCE |
	       (flags & THAW_VM_FRESH ? THAW_FRESH : 0) |
	       (flags & THAW_VM_PREFETCH ? THAW_PREFETCH | THAW_PREFETCH_WORKING_SET : 0) |
	       (flags & THAW_VM_LOG ? THAW_LOG : 0) |
	       (flags & THAW_VM_ENCRYPTED ? THAW_ENCRYPTED : 0);
}

static int check_options(const struct thaw_vm_options *options, size_t bytes,
			 struct thaw_error *error)
{
	const unsigned known = THAW_VM_FRESH | THAW_VM_PREFETCH | THAW_VM_LOG | THAW_VM_ENCRYPTED;

	if (options->flags & ~known || (options->flags && !options->image))
		return failure(error, -EINVAL, "options.flags are of a VM with an image");
	if (bytes < MIN_BYTES || bytes > JS_HEAP_MAX_BYTES || bytes % 65536)
		return failure(error, -EINVAL,
			       "max_bytes must be a multiple of 64 KiB, from 16 MiB to 4 GiB");
	if (options->snapshot && options->image)
		return failure(error, -EINVAL, "a VM begins from a snapshot or from an image");
	return 0;
}

static int open_heap(struct thaw_vm *vm, struct thaw_error *error)
{
	const struct thaw_vm_options *options = &vm->options;
	size_t bytes = options->max_bytes ? options->max_bytes : JS_HEAP_MAX_BYTES;
	struct thaw_options heap = {
		.image = options->image,
		.flags = heap_flags(options),
		.retain = options->retain,
		.compress = options->compress,
		.frozen = options->snapshot ? snapshot_frozen(options->snapshot) : NULL,
		.max_bytes = bytes,
		.guard_bytes = JS_HEAP_MAX_BYTES + JS_HEAP_GUARD_BYTES - bytes,
		.engine = js_engine_identity,
		.notify = generation_notify,
		.notify_arg = vm,
		.fatal = options->fatal,
		.fatal_arg = options->arg,
	};
	int code = check_options(options, bytes, error);

	if (!code)
		code = generation_find(options, &heap.generation, error);
	return code ? code : thaw_open(&heap, &vm->heap, error);
}

static int check_functions(struct thaw_vm *vm, const void *state, size_t bytes,
			   struct thaw_error *error)
{
	struct js_blob blob = {0};
	int code = js_blob_decode(state, bytes, &blob, error);

	if (!code)
		code = functions_check(vm, &blob, error);
	js_blob_clear(&blob);
	return code;
}

static int restore(struct thaw_vm *vm, const void *state, size_t bytes, struct thaw_error *error)
{
	int code = check_functions(vm, state, bytes, error);

	if (!code)
		code = vm->guest->type->restore(vm->guest, state, bytes, error);
	if (!code && vm->guest->mid_turn)
		code = failure(
			error, THAW_EENGINE,
			"%s: its newest generation is in the middle of a turn: only thaw run goes on there",
			vm_origin(vm));
	if (!code && vm->guest->common.finished)
		code = failure(error, THAW_VM_EENDED, "the program has called exit(%d)",
			       vm->guest->common.exit_code);
	if (!code)
		code = thaw_settle(vm->heap, error);
	vm->guest->common.restores += !code;
	return code;
}

/* The line of history in which effects are numbered: an image's own goes on. */
static int begin_branch(struct thaw_vm *vm, bool restored, struct thaw_error *error)
{
	struct guest_common *common = &vm->guest->common;

	if (vm->options.image) {
		branch_open(vm->heap, vm->options.image, NULL, restored, common->branch,
			    common->home);
		return 0;
	}
	if (getrandom(common->branch, sizeof(common->branch), 0) < 0)
		return failure(error, -errno, "no randomness from the kernel");
	memcpy(common->home, common->branch, sizeof(common->home));
	return 0;
}

int vm_begin(struct thaw_vm *vm, const void *state, size_t bytes, struct thaw_error *error)
{
	const struct guest_options options = {.image = vm->options.image};
	int code = 0;

	vm->guest = javascript_guest.open((struct runtime *)vm, &options, vm->heap);
	if (!vm->guest)
		return failure(error, -ENOMEM, "out of memory");
	vm_program(vm)->hosting = &vm->hosting;
	if (state)
		code = restore(vm, state, bytes, error);
	if (!code)
		code = begin_branch(vm, state != NULL, error);
	vm->guest->common.forked = state && !vm->options.image;
	if (!code)
		code = javascript_guest.prepare(vm->guest, error);
	if (!code)
		code = functions_install(vm, error);
	if (!code && vm->options.max_stack_bytes)
		js_limit_stack(vm_engine(vm), vm->options.max_stack_bytes);
	if (!code && state)
		code = vm_enter(vm, error);
	if (!code && state) {
		turn_end(vm_program(vm));
		javascript_guest.resume(vm->guest, 0);
		turn_begin(vm_program(vm));
		code = vm_leave(vm, false, error);
		if (code == THAW_VM_EINTERRUPTED && vm->going_back)
			code = 0;
	}
	return code;
}

static int open_guest(struct thaw_vm *vm, struct thaw_error *error)
{
	size_t bytes;
	const void *state = thaw_state(vm->heap, &bytes);

	return vm_begin(vm, state, bytes, error);
}

/* It is open, but not from the newest generation, which is damaged. */
static void warn(struct thaw_vm *vm, struct thaw_error *error)
{
	struct thaw_status status = {0};

	if (!error)
		return;
	thaw_status(vm->heap, &status);
	*error = status.fallback;
}

int thaw_vm_open(const struct thaw_vm_options *options, struct thaw_vm **result,
		 struct thaw_error *error)
{
	struct thaw_vm *vm = calloc(1, sizeof(*vm));
	int code;

	*result = NULL;
	if (!vm)
		return failure(error, -ENOMEM, "out of memory");
	code = vm_options_copy(options, &vm->options, error);
	if (code) {
		free(vm);
		return code;
	}
	vm->table = &own_vm_table;
	if (!vm->options.poll_ns)
		vm->options.poll_ns = POLL_NS;
	vm->hosting.resolve = modules_resolve;
	vm->hosting.load = modules_load;
	pthread_mutex_init(&vm->lock, NULL);
	cond_init_monotonic(&vm->woken);
	code = functions_open(vm, host_bindings);
	if (code)
		failure(error, code, "%s",
			code == -ENOMEM ? "out of memory"
					: "two host functions of one name, or one without");
	if (!code)
		code = open_heap(vm, error);
	if (!code)
		code = open_guest(vm, error);
	if (code)
		thaw_vm_close(vm);
	else
		warn(vm, error);
	*result = code ? NULL : vm;
	return code;
}

int thaw_vm_close(struct thaw_vm *vm)
{
	if (!vm)
		return 0;
	if (vm_hold(vm, NULL))
		return -EBUSY;
	if (vm->holds > 1) {
		vm_let(vm);
		return -EBUSY;
	}
	vm->ended = true;
	if (vm->generation.under_way)
		thaw_checkpoint_wait(vm->heap);
	thaw_discard(vm->heap);
	if (vm->guest)
		javascript_guest.close(vm->guest);
	functions_close(vm);
	generation_forget_names(vm);
	js_alarm_close(&vm->alarm);
	pthread_cond_destroy(&vm->woken);
	pthread_mutex_destroy(&vm->lock);
	free(vm);
	return 0;
}

/* ---- What it is ---- */

const char *thaw_vm_engine_name(void)
{
	return js_engine_identity;
}

void *thaw_vm_arg(const struct thaw_vm *vm)
{
	return vm->options.arg;
}

int thaw_vm_exit_code(struct thaw_vm *vm)
{
	return vm->guest && vm->guest->common.finished ? vm->guest->common.exit_code : -1;
}

int thaw_vm_usage(struct thaw_vm *vm, struct thaw_vm_usage *usage)
{
	memset(usage, 0, sizeof(*usage));
	if (!vm_sound(vm))
		return vm_mine(vm, NULL)      ? -EBUSY
		       : vm_trapped(vm, NULL) ? vm_trapped(vm, NULL)
					      : THAW_VM_EENDED;
	usage->heap_bytes = js_heap_bytes(vm_engine(vm));
	usage->live_bytes = JS_HEAP_MAX_BYTES - 2 * js_room(vm_engine(vm));
	usage->turns = vm->guest->turns;
	return 0;
}

int thaw_vm_collect(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	if (code)
		return code;
	js_gc(vm_engine(vm));
	js_give_back_all(vm_engine(vm));
	return vm_leave(vm, false, error);
}

int vm_state(struct thaw_vm *vm, void **state, size_t *bytes, struct thaw_error *error)
{
	int code = vm_trapped(vm, error);

	*state = NULL;
	if (code)
		return code;
	if (!vm_engine(vm) || vm->depth || vm->ended)
		return failure(error, -EBUSY, "a VM is captured between two calls, while it lives");
	forget_exception(vm);
	*state = javascript_guest.save(vm->guest, true, bytes, error);
	code = vm_trapped(vm, error);
	if (!code && !*state)
		code = failure(error, -ENOMEM, "out of memory");
	if (code) {
		free(*state);
		*state = NULL;
	}
	return code;
}

/* The heap first: if that fails, nothing has changed. */
static int go_back(struct thaw_vm *vm, struct thaw_vm_snapshot *snapshot, struct thaw_error *error)
{
	struct thaw_frozen *frozen = snapshot_frozen(snapshot);
	size_t bytes;
	const void *state = thaw_frozen_state(frozen, &bytes);
	int code;

	if (vm->depth)
		return failure(error, -EBUSY, "a VM goes back between two calls");
	if (vm->options.image)
		return failure(
			error, -EINVAL,
			"a VM with an image goes back by being opened at a generation of it");
	code = check_functions(vm, state, bytes, error);
	if (!code)
		code = thaw_revert(vm->heap, frozen, error);
	if (code && code != -ENOMEM)
		return code;
	if (vm->guest)
		javascript_guest.close(vm->guest);
	vm->guest = NULL;
	vm->exception = 0;
	vm->ended = vm->cut = false;
	vm->context = 0;
	atomic_store(&vm->interrupt, false); /* it was for what is gone */
	vm->going_back = true;
	if (!code)
		code = vm_begin(vm, state, bytes, error);
	vm->going_back = false;
	if (code && vm->guest) {
		javascript_guest.close(vm->guest);
		vm->guest = NULL;
	}
	return code;
}

int thaw_vm_rollback(struct thaw_vm *vm, struct thaw_vm_snapshot *snapshot,
		     struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code)
		return code;
	code = go_back(vm, snapshot, error);
	vm_let(vm);
	return code;
}
