// SPDX-License-Identifier: MIT
/*
 * imports.c - what the wasm module imports (env.*, WASI) and the function behind every host
 * function.
 *
 * Owns nothing. Called by the generated code on the VM's stack, on the owner's thread. Each import
 * is a line at the end of this file, which switches to the host's stack at once, where the function
 * of the same name above does the work. Nothing that comes from the VM is trusted: addresses are
 * used through vm_at() (a wild one traps), and data is copied before it is passed to a system call
 * (engine.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "state.h"

enum { WASI_SUCCESS = 0, WASI_BADF = 8, WASI_INVAL = 28, WASI_NOSYS = 52 };

/* How deep host functions may nest that call back into the VM: each level uses the host's stack. */
#define NESTED_MAX 64u

/* From the VM's stack to the host's. */
struct outgoing {
	struct js_engine *engine;
	u64 word[6];
};

#define CALL_HOST(instance, function, ...)                         \
	engine_call_host((struct js_engine *)(instance), function, \
			 &(struct outgoing){(struct js_engine *)(instance), {__VA_ARGS__}})

/* ---- Host functions ---- */

static const struct js_host_binding *find_binding(const struct js_engine *engine, const char *name)
{
	size_t low = 0, high = engine->binding_count;

	while (low < high) {
		size_t middle = (low + high) / 2;
		int order = strcmp(name, engine->bindings[middle]->name);

		if (order == 0)
			return engine->bindings[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

/*
 * The host gets the arguments where QuickJS has them: the address of a JSValue in linear memory is
 * a handle.
 */
static js_value call_binding(struct js_engine *engine, const struct js_host_binding *binding,
			     u32 self, u32 count, u32 arguments)
{
	js_value few[16] = {0}, *handles = few, result;

	if (count > sizeof(few) / sizeof(few[0])) {
		handles = malloc(count * sizeof(*handles));
		if (!handles) {
			VM(engine, JS_ThrowOutOfMemory, engine->context);
			return 0;
		}
	}
	for (u32 i = 0; i < count; i++)
		handles[i] = arguments + 8 * i;
	result = binding->function
			 ? binding->function(engine, engine->host.arg, self, count, handles)
			 : engine->host.call(engine, engine->host.arg, binding, count, handles);
	if (handles != few)
		free(handles);
	return result;
}

static void run_has_exception(void *arg)
{
	struct outgoing *call = arg;

	call->word[0] = VM(call->engine, JS_HasException, call->engine->context);
}

static bool has_exception(struct js_engine *engine)
{
	struct outgoing call = {.engine = engine};

	return !engine_enter(engine, run_has_exception, &call) || call.word[0];
}

/* (name, self, count, arguments): a handle, or 0 and an exception. */
static u64 host_function(void *arg)
{
	const struct outgoing *call = arg;
	struct js_engine *engine = call->engine;
	const char *name = vm_at(engine, (u32)call->word[0]);
	const struct js_host_binding *binding = find_binding(engine, name);
	js_value result;

	if (!binding)
		return js_throw_error(engine, "Error",
				      "this build of thaw lacks host function %.100s", name);
	result = call_binding(engine, binding, (u32)call->word[1], (u32)call->word[2],
			      (u32)call->word[3]);
	if (!result && !has_exception(engine))
		js_throw_error(engine, "InternalError", "host function failed without saying why");
	return result;
}

u64 native_host_function(struct js_engine *engine, u32 context, u64 self, u32 count, u32 arguments,
			 u32 magic, u32 data)
{
	u32 name = VM(engine, JS_ToCStringLen2, context, 0, vm_load64(engine, data), 0), scratch;
	u32 before = engine_use_context(engine, context);
	js_value result;

	(void)magic;
	if (!name) {
		engine->context = before;
		return VALUE_EXCEPTION;
	}
	if (engine->side_stack.depth > NESTED_MAX) {
		VM(engine, JS_FreeCString, context, name);
		exception_throw(engine, "RangeError", "Maximum call stack size exceeded");
		engine->context = before;
		return VALUE_EXCEPTION;
	}
	scratch = vm_push(engine, 8);
	vm_store64(engine, scratch, self);
	result = (js_value)CALL_HOST(engine, host_function, name, scratch,
				     (s32)count > 0 ? count : 0, arguments);
	vm_pop(engine, 8);
	VM(engine, JS_FreeCString, context, name);
	engine->context = before;
	return result ? value_unbox(engine, result) : VALUE_EXCEPTION;
}

/* ---- env ---- */

/*
 * How the npm package calls host functions. Thaw's do not use it, so only a damaged or hostile
 * image can get here.
 */
static u64 host_call(void *arg)
{
	const struct outgoing *call = arg;

	return js_throw_error(call->engine, "Error", "this host function is not one of thaw's");
}

/* Where the engine itself polls: it can be entered, and a script can be ended. */
static u64 host_interrupt(void *arg)
{
	struct js_engine *engine = ((const struct outgoing *)arg)->engine;

	engine_collect_inside_turn(engine);
	js_give_back(engine);
	engine->cut_ns = 0;
	return engine_poll(engine);
}

/*
 * (promise, reason, handled): this function frees the boxes. Each may be 0 if there was no memory
 * for it.
 */
static u64 host_promise_rejection(void *arg)
{
	const struct outgoing *call = arg;
	struct js_engine *engine = call->engine;
	js_value promise = (js_value)call->word[0], reason = (js_value)call->word[1];

	if (promise && reason && engine->host.rejection)
		engine->host.rejection(engine->host.arg, promise, reason, call->word[2] != 0);
	js_free(engine, promise);
	js_free(engine, reason);
	return 0;
}

/* Seconds east of UTC at that time, given in two halves. */
static u64 host_timezone_offset(void *arg)
{
	const struct outgoing *call = arg;
	time_t seconds = (time_t)(call->word[0] << 32 | call->word[1]);
	struct tm local;

	return localtime_r(&seconds, &local) ? (u32)local.tm_gmtoff : 0;
}

/* ---- WASI ---- */

/*
 * (clock, result). CLOCK_MONOTONIC counts from the boot, which a heap outlives. So the VM's
 * monotonic clock starts with the real time when this process first asks for it, and goes on with
 * the kernel's monotonic clock: it never goes back within a process.
 */
static u64 host_clock(void *arg)
{
	static u64 monotonic_offset;
	const struct outgoing *call = arg;
	u64 now;

	if (call->word[0] > 1)
		return WASI_NOSYS;
	if (call->word[0] == 0) {
		now = clock_ns(CLOCK_REALTIME);
	} else {
		if (!monotonic_offset)
			monotonic_offset = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
		now = clock_ns(CLOCK_MONOTONIC) + monotonic_offset;
	}
	vm_store64(call->engine, (u32)call->word[1], now);
	return WASI_SUCCESS;
}

/* (buffer, bytes) */
static u64 host_random(void *arg)
{
	const struct outgoing *call = arg;
	u32 buffer = (u32)call->word[0], bytes = (u32)call->word[1];
	char block[256];

	while (bytes) {
		ssize_t got = getrandom(block, bytes < sizeof(block) ? bytes : sizeof(block), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return WASI_NOSYS;
		memcpy(vm_at(call->engine, buffer), block, (size_t)got);
		buffer += (u32)got;
		bytes -= (u32)got;
	}
	return WASI_SUCCESS;
}

static void write_all(const char *data, size_t bytes)
{
	while (bytes) {
		ssize_t written = write(STDERR_FILENO, data, bytes);

		if (written < 0 && errno == EINTR)
			continue;
		if (written <= 0)
			return; /* stderr cannot be written: give up */
		data += written;
		bytes -= (size_t)written;
	}
}

/*
 * (descriptor, vectors, count, result). What the engine itself prints (assertions, dumps) is
 * diagnostics: it goes to stderr, whatever the descriptor.
 */
static u64 host_fd_write(void *arg)
{
	const struct outgoing *call = arg;
	struct js_engine *engine = call->engine;
	u32 vectors = (u32)call->word[1], count = (u32)call->word[2], total = 0;

	if (call->word[0] != 1 && call->word[0] != 2)
		return WASI_BADF;
	for (u32 i = 0; i < count; i++) {
		u32 data = vm_load32(engine, vectors + 8 * i),
		    bytes = vm_load32(engine, vectors + 8 * i + 4);
		char block[1024];

		total += bytes;
		while (bytes) {
			u32 step = bytes < sizeof(block) ? bytes : sizeof(block);

			memcpy(block, vm_at(engine, data), step);
			write_all(block, step);
			data += step;
			bytes -= step;
		}
	}
	vm_store32(engine, (u32)call->word[3], total);
	return WASI_SUCCESS;
}

/* (descriptor, result) */
static u64 host_fd_stat(void *arg)
{
	const struct outgoing *call = arg;
	u8 *result;

	if (call->word[0] != 1 && call->word[0] != 2)
		return WASI_BADF;
	result = vm_at(call->engine, (u32)call->word[1]);
	memset(result, 0, 24);
	result[0] = 2; /* a character device */
	return WASI_SUCCESS;
}

/* ---- The imports, on the VM's stack ---- */

#define ENV struct Z_env_instance_t *env
#define WASI struct Z_wasi_snapshot_preview1_instance_t *wasi

u32 Z_envZ_host_call(ENV, u32 name, u32 name_bytes, u32 self, u32 count, u32 arguments)
{
	(void)name, (void)name_bytes, (void)self, (void)count, (void)arguments;
	return (u32)CALL_HOST(env, host_call, 0);
}

u32 Z_envZ_host_interrupt(ENV)
{
	return (u32)CALL_HOST(env, host_interrupt, 0);
}

/* module.c loads. */
u32 Z_envZ_host_module_load(ENV, u32 name, u32 bytes)
{
	(void)env, (void)name, (void)bytes;
	return 0;
}

u32 Z_envZ_host_module_normalize(ENV, u32 base, u32 name)
{
	(void)env, (void)base, (void)name;
	return 0;
}

void Z_envZ_host_promise_rejection(ENV, u32 promise, u32 reason, u32 handled)
{
	CALL_HOST(env, host_promise_rejection, promise, reason, handled);
}

u32 Z_envZ_host_get_timezone_offset(ENV, u32 high, u32 low)
{
	return (u32)CALL_HOST(env, host_timezone_offset, high, low);
}

u32 Z_wasi_snapshot_preview1Z_clock_time_get(WASI, u32 clock, u64 precision, u32 result)
{
	(void)precision;
	return (u32)CALL_HOST(wasi, host_clock, clock, result);
}

u32 Z_wasi_snapshot_preview1Z_random_get(WASI, u32 buffer, u32 bytes)
{
	return (u32)CALL_HOST(wasi, host_random, buffer, bytes);
}

u32 Z_wasi_snapshot_preview1Z_fd_write(WASI, u32 fd, u32 vectors, u32 count, u32 result)
{
	return (u32)CALL_HOST(wasi, host_fd_write, fd, vectors, count, result);
}

u32 Z_wasi_snapshot_preview1Z_fd_close(WASI, u32 fd)
{
	(void)wasi, (void)fd;
	return WASI_NOSYS;
}

u32 Z_wasi_snapshot_preview1Z_fd_fdstat_get(WASI, u32 fd, u32 result)
{
	return (u32)CALL_HOST(wasi, host_fd_stat, fd, result);
}

u32 Z_wasi_snapshot_preview1Z_fd_seek(WASI, u32 fd, u64 offset, u32 whence, u32 result)
{
	(void)wasi, (void)fd, (void)offset, (void)whence, (void)result;
	return WASI_NOSYS;
}
