/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - a host runs code, calls functions, and waits for promises. Between those the VM goes on by thaw_vm_step().
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "base/thread.h"
#include "embed.h"

/* A promise that the host looks at itself: its rejection is nobody else's to report. */
static void watch(struct thaw_vm *vm, js_value value)
{
	js_value argument;

	if (!value || js_trapped(vm_engine(vm)) || !js_is_promise(vm_engine(vm), value))
		return;
	argument = js_dup(vm_engine(vm), value);
	js_free(vm_engine(vm), turn_ask(vm_program(vm), PRELUDE_WATCH, 1, &argument));
}

/* The end of a call that has made `value`. */
static int give(struct thaw_vm *vm, js_value value, thaw_vm_value *result, struct thaw_error *error)
{
	int code;

	if (result)
		watch(vm, value);
	code = vm_leave(vm, !value, error);
	if (value && (code || !result) && vm_sound(vm)) {
		js_free(vm_engine(vm), value);
		value = 0;
	}
	if (result)
		*result = code ? 0 : value;
	return code;
}

int thaw_vm_eval(struct thaw_vm *vm, const char *code, size_t bytes, const char *name,
		 unsigned flags, thaw_vm_value *result, struct thaw_error *error)
{
	int entered = vm_enter(vm, error);

	if (result)
		*result = 0;
	if (entered)
		return entered;
	return give(vm,
		    js_eval(vm_engine(vm), code, vm_text_bytes(code, bytes), name,
			    (flags & THAW_VM_MODULE ? JS_EVAL_MODULE
						    : JS_EVAL_SCRIPT | JS_EVAL_REDECLARE) |
				    (flags & THAW_VM_CHECK ? JS_EVAL_COMPILE_ONLY : 0)),
		    result, error);
}

int thaw_vm_apply(struct thaw_vm *vm, thaw_vm_value function, thaw_vm_value self, unsigned count,
		  const thaw_vm_value *arguments, thaw_vm_value *result, struct thaw_error *error)
{
	int code = vm_enter(vm, error);

	if (result)
		*result = 0;
	if (code)
		return code;
	return give(vm, js_call(vm_engine(vm), function, self, count, arguments), result, error);
}

int thaw_vm_new(struct thaw_vm *vm, thaw_vm_value constructor, unsigned count,
		const thaw_vm_value *arguments, thaw_vm_value *result, struct thaw_error *error)
{
	int code = vm_enter(vm, error);
	js_value parts[2] = {constructor, 0}, value = 0;
	bool good;

	*result = 0;
	if (code)
		return code;
	parts[1] = js_array(vm_engine(vm));
	good = parts[1] != 0;
	for (unsigned i = 0; good && i < count; i++)
		good = js_set_index(vm_engine(vm), parts[1], i,
				    js_dup(vm_engine(vm), arguments[i]));
	if (good)
		value = functions_method(vm, "construct", 2, parts);
	js_free(vm_engine(vm), parts[1]);
	return give(vm, value, result, error);
}

js_value evaluate_find(struct thaw_vm *vm, const char *name, js_value *self)
{
	struct js_engine *engine = vm_engine(vm);
	js_value at = js_global(engine), list, outer = 0;
	char *path = strdup(name), *rest = path, *part;

	while (at && rest && (part = strsep(&rest, "."))) {
		js_value next = js_get(engine, at, part);

		/* let, const and class are no properties */
		if (next && !outer && js_is_undefined(engine, next) &&
		    (list = js_variable(engine, part))) {
			if (!js_is_undefined(engine, list)) {
				js_free(engine, next);
				next = js_get_index(engine, list, 0);
			}
			js_free(engine, list);
		}
		js_free(engine, outer);
		outer = at;
		at = next;
	}
	free(path);
	if (at && (!path || !js_is_function(engine, at))) {
		js_free(engine, at);
		at = js_throw_error(engine, "TypeError", "%.200s is not a function", name);
	}
	*self = outer;
	return at;
}

static int call_named(struct thaw_vm *vm, const char *name, const char *arguments,
		      thaw_vm_value *result, struct thaw_error *error)
{
	struct js_engine *engine = vm_engine(vm);
	js_value list = 0, length, self = 0, function = 0, few[16], *values = few, value = 0;
	unsigned count = 0;
	int code = vm_enter(vm, error);

	if (code)
		return code;
	if (arguments) {
		list = values_parse(vm, arguments, strlen(arguments));
		if (!list)
			return give(vm, 0, result, error);
		length = js_get(engine, list, "length");
		count = (unsigned)js_to_number(engine, length);
		js_free(engine, length);
		values = count > 16 ? calloc(count, sizeof(*values)) : few;
		count = values ? count : 0;
	}
	for (unsigned i = 0; i < count; i++)
		values[i] = js_get_index(engine, list, i);
	function = evaluate_find(vm, name, &self);
	if (function)
		value = js_call(engine, function, self, count, values);
	for (unsigned i = 0; i < count && !js_trapped(engine); i++)
		js_free(engine, values[i]);
	if (values != few)
		free(values);
	if (!js_trapped(engine)) {
		js_free(engine, list);
		js_free(engine, self);
		js_free(engine, function);
	}
	return give(vm, value, result, error);
}

static int call(struct thaw_vm *vm, const char *name, const char *arguments, char **result,
		struct thaw_error *error)
{
	thaw_vm_value value, settled = 0;
	int code;

	code = call_named(vm, name, arguments, &value, error);
	if (code)
		return code;
	if (!result) {
		thaw_vm_free(vm, value);
		return 0;
	}
	if (js_is_promise(vm_engine(vm), value)) {
		code = thaw_vm_await(vm, value, UINT64_MAX, &settled, error);
		thaw_vm_free(vm, value);
		value = settled;
	}
	if (!code)
		code = thaw_vm_to_json(vm, value, result, error);
	thaw_vm_free(vm, value);
	return code;
}

int thaw_vm_call(struct thaw_vm *vm, const char *name, const char *arguments, char **result,
		 struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (result)
		*result = NULL;
	if (code)
		return code;
	code = call(vm, name, arguments, result, error);
	vm_let(vm);
	return code;
}

/* ---- Time ---- */

/* One turn of the guest's own. 1: it ran; 0: there was none; or an error. */
static int turn(struct thaw_vm *vm, bool (*run)(struct program *program), struct thaw_error *error)
{
	int code = vm_claim(vm, error);

	if (code)
		return code;
	if (!run(vm_program(vm))) {
		vm_release(vm);
		return 0;
	}
	code = vm_leave(vm, false, error);
	return code ? code : 1;
}

static int step(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = 0, ran = 0;

	if (vm->depth)
		code = failure(error, -EBUSY,
			       "a host function cannot run the timers of who has called it");
	if (!code &&
	    atomic_exchange(&vm->interrupt, false)) /* where little runs, no poll finds it */
		code = failure(error, THAW_VM_EINTERRUPTED,
			       "the call was cut short: it was interrupted");
	if (!code)
		code = vm_enter(vm, error);
	if (code)
		return code;
	code = vm_leave(vm, false, error); /* promise reactions */
	if (!code && vm->generation.untold)
		code = turn(vm, turn_tell_outcomes, error);
	/* Those that are due now, and not what they make due: a step ends. */
	for (unsigned i = 0; code >= 0 && i < 1000; i++) {
		code = turn(vm, loop_step, error);
		if (code <= 0)
			break;
		ran++;
	}
	return code < 0 ? code : ran;
}

int thaw_vm_step(struct thaw_vm *vm, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code)
		return code;
	code = step(vm, error);
	vm_let(vm);
	return code;
}

uint64_t thaw_vm_next_due(struct thaw_vm *vm)
{
	double due, now;

	if (!vm_sound(vm) || vm->ended)
		return UINT64_MAX;
	if (vm->cut || vm->generation.untold || js_jobs_pending(vm_engine(vm)))
		return 0;
	due = vm_program(vm)->events.next_due;
	now = loop_clock(vm_program(vm));
	return due <= 0 ? UINT64_MAX : due <= now ? 0 : (uint64_t)((due - now) * 1e6) + 1;
}

void thaw_vm_interrupt(struct thaw_vm *vm)
{
	atomic_store(&vm->interrupt, true);
	pthread_mutex_lock(&vm->lock);
	if (atomic_load(&vm->user))
		js_alarm_set(&vm->alarm, 1);
	pthread_cond_signal(&vm->woken);
	pthread_mutex_unlock(&vm->lock);
}

/* Until something is due, the end, or an interruption. */
static void sleep_until(struct thaw_vm *vm, uint64_t until_ns)
{
	pthread_mutex_lock(&vm->lock);
	while (!atomic_load(&vm->interrupt) && !cond_wait_until(&vm->woken, &vm->lock, until_ns))
		;
	pthread_mutex_unlock(&vm->lock);
}

/* `promise` 0: until nothing is due. */
static int run(struct thaw_vm *vm, js_value promise, uint64_t timeout_ns, struct thaw_error *error)
{
	uint64_t now = clock_monotonic_ns(), due;
	uint64_t end = timeout_ns > UINT64_MAX - now ? UINT64_MAX : now + timeout_ns;

	if (vm->depth)
		return failure(error, -EBUSY,
			       "a host function cannot run the loop that has called it");
	for (;;) {
		int code = step(vm, error);

		if (code < 0)
			return code;
		if (promise && js_promise_state(vm_engine(vm), promise) != JS_PROMISE_PENDING)
			return 0;
		due = thaw_vm_next_due(vm);
		if (due == UINT64_MAX)
			return promise ? failure(error, THAW_VM_EPENDING,
						 "nothing of the VM's can settle the promise")
				       : 0;
		now = clock_monotonic_ns();
		if (now >= end)
			return failure(error, -ETIMEDOUT, "the time is over");
		if (due)
			sleep_until(vm, due < end - now ? now + due : end);
		if (atomic_exchange(&vm->interrupt, false))
			return failure(error, THAW_VM_EINTERRUPTED, "the loop was interrupted");
	}
}

int thaw_vm_run(struct thaw_vm *vm, uint64_t timeout_ns, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	if (code)
		return code;
	code = run(vm, 0, timeout_ns, error);
	vm_let(vm);
	return code;
}

static int await(struct thaw_vm *vm, thaw_vm_value promise, uint64_t timeout_ns,
		 thaw_vm_value *result, struct thaw_error *error)
{
	struct js_engine *engine = vm_engine(vm);
	js_value value;
	int code = vm_enter(vm, error);

	if (code)
		return code;
	code = vm_leave(vm, false, error);
	if (code)
		return code;
	if (!js_is_promise(engine, promise)) {
		*result = js_dup(engine, promise);
		return 0;
	}
	if (js_promise_state(engine, promise) == JS_PROMISE_PENDING &&
	    (code = run(vm, promise, timeout_ns, error)))
		return code;
	value = js_promise_result(engine, promise);
	if (js_promise_state(engine, promise) == JS_PROMISE_FULFILLED) {
		*result = value;
		return 0;
	}
	code = vm_enter(vm, error);
	if (code)
		return code;
	js_throw(engine, value);
	return vm_leave(vm, true, error);
}

int thaw_vm_await(struct thaw_vm *vm, thaw_vm_value promise, uint64_t timeout_ns,
		  thaw_vm_value *result, struct thaw_error *error)
{
	int code = vm_hold(vm, error);

	*result = 0;
	if (code)
		return code;
	code = await(vm, promise, timeout_ns, result, error);
	vm_let(vm);
	return code;
}
