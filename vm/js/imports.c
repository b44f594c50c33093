// SPDX-License-Identifier: MIT
/*
 * imports.c - what the wasm module imports (env.*, WASI) and the function behind every host
 * function.
 *
 * Owns: nothing. Called by the generated code on the VM's stack, on the owner's thread.
 * Everything that comes from the VM is untrusted: an address is used through vm_at() (a wild one
 * traps), and data is copied out before a system call sees it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

enum { WASI_SUCCESS = 0, WASI_BADF = 8, WASI_INVAL = 28, WASI_NOSYS = 52 };

#define ENGINE(instance) ((struct js_engine *)(instance))

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
 * The host sees the arguments where QuickJS has them: a JSValue in linear memory is what a handle
 * is.
 */
static js_value call_binding(struct js_engine *engine, const struct js_host_binding *binding,
			     u32 self, u32 count, u32 arguments)
{
	js_value few[16], *handles = few, result;

	if (count > sizeof(few) / sizeof(few[0])) {
		handles = malloc(count * sizeof(*handles));
		if (!handles) {
			VM(engine, JS_ThrowOutOfMemory, engine->context);
			return 0;
		}
	}
	for (u32 i = 0; i < count; i++)
		handles[i] = arguments + 8 * i;
	result = binding->function(engine, engine->host.arg, self, count, handles);
	if (handles != few)
		free(handles);
	return result;
}

u64 native_host_function(struct js_engine *engine, u32 context, u64 self, u32 count, u32 arguments,
			 u32 magic, u32 data)
{
	u32 name = VM(engine, JS_ToCStringLen2, context, 0, vm_load64(engine, data), 0);
	const struct js_host_binding *binding;
	js_value result = 0;
	u32 scratch;

	(void)magic;
	if (!name)
		return VALUE_EXCEPTION;
	binding = find_binding(engine, vm_at(engine, name));
	if (binding) {
		scratch = vm_push(engine, 8);
		vm_store64(engine, scratch, self);
		result = call_binding(engine, binding, scratch, (s32)count > 0 ? count : 0,
				      arguments);
		vm_pop(engine, 8);
	} else {
		js_throw_error(engine, "Error", "this build of thaw lacks host function %.100s",
			       (const char *)vm_at(engine, name));
	}
	VM(engine, JS_FreeCString, context, name);
	if (result)
		return value_unbox(engine, result);
	if (!VM(engine, JS_HasException, context))
		js_throw_error(engine, "InternalError", "host function failed without saying why");
	return VALUE_EXCEPTION;
}

/* ---- env ---- */

/*
 * The package's own way to host functions; ours do not go through it, so only a strange image can
 * get here.
 */
u32 Z_envZ_host_call(struct Z_env_instance_t *env, u32 name, u32 name_bytes, u32 self, u32 count,
		     u32 arguments)
{
	(void)name, (void)name_bytes, (void)self, (void)count, (void)arguments;
	return js_throw_error(ENGINE(env), "Error", "this host function is not one of thaw's");
}

u32 Z_envZ_host_interrupt(struct Z_env_instance_t *env)
{
	struct js_engine *engine = ENGINE(env);

	engine_collect_inside_turn(engine);
	return engine->host.interrupt && engine->host.interrupt(engine->host.arg);
}

u32 Z_envZ_host_module_load(struct Z_env_instance_t *env, u32 name, u32 bytes)
{
	(void)env, (void)name, (void)bytes;
	return 0; /* module.c loads */
}

u32 Z_envZ_host_module_normalize(struct Z_env_instance_t *env, u32 base, u32 name)
{
	(void)env, (void)base, (void)name;
	return 0;
}

/* Both boxes are ours to free. Either may be 0 when memory has ended. */
void Z_envZ_host_promise_rejection(struct Z_env_instance_t *env, u32 promise, u32 reason,
				   u32 handled)
{
	struct js_engine *engine = ENGINE(env);

	if (promise && reason && engine->host.rejection)
		engine->host.rejection(engine->host.arg, promise, reason, handled != 0);
	if (promise)
		VM(engine, qjs_free_value, promise);
	if (reason)
		VM(engine, qjs_free_value, reason);
}

/* Seconds east of UTC at that time, given in two halves. */
u32 Z_envZ_host_get_timezone_offset(struct Z_env_instance_t *env, u32 high, u32 low)
{
	time_t seconds = (time_t)((u64)high << 32 | low);
	struct tm local;

	(void)env;
	if (!localtime_r(&seconds, &local))
		return 0;
	return (u32)local.tm_gmtoff;
}

/* ---- WASI ---- */

/*
 * A heap outlives the boot that CLOCK_MONOTONIC counts from. So the VM's monotonic clock is the
 * real one as it was when this process first asked, and runs with the kernel's monotonic one from
 * there: it never goes back while a process lives.
 */
static u64 clock_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (u64)now.tv_sec * 1000000000u + (u64)now.tv_nsec;
}

u32 Z_wasi_snapshot_preview1Z_clock_time_get(struct Z_wasi_snapshot_preview1_instance_t *wasi,
					     u32 clock, u64 precision, u32 result)
{
	static u64 monotonic_offset;
	u64 now;

	(void)precision;
	if (clock > 1)
		return WASI_NOSYS;
	if (clock == 0) {
		now = clock_ns(CLOCK_REALTIME);
	} else {
		if (!monotonic_offset)
			monotonic_offset = clock_ns(CLOCK_REALTIME) - clock_ns(CLOCK_MONOTONIC);
		now = clock_ns(CLOCK_MONOTONIC) + monotonic_offset;
	}
	vm_store64(ENGINE(wasi), result, now);
	return WASI_SUCCESS;
}

u32 Z_wasi_snapshot_preview1Z_random_get(struct Z_wasi_snapshot_preview1_instance_t *wasi,
					 u32 buffer, u32 bytes)
{
	char block[256];

	while (bytes) {
		ssize_t got = getrandom(block, bytes < sizeof(block) ? bytes : sizeof(block), 0);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return WASI_NOSYS;
		memcpy(vm_at(ENGINE(wasi), buffer), block, (size_t)got);
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
			return; /* nobody to tell */
		data += written;
		bytes -= (size_t)written;
	}
}

/* The engine's own prints (assertions, dumps): diagnostics, whichever descriptor it names. */
u32 Z_wasi_snapshot_preview1Z_fd_write(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 fd,
				       u32 vectors, u32 count, u32 result)
{
	struct js_engine *engine = ENGINE(wasi);
	u32 total = 0;

	if (fd != 1 && fd != 2)
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
	vm_store32(engine, result, total);
	return WASI_SUCCESS;
}

u32 Z_wasi_snapshot_preview1Z_fd_close(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 fd)
{
	(void)wasi, (void)fd;
	return WASI_NOSYS;
}

u32 Z_wasi_snapshot_preview1Z_fd_fdstat_get(struct Z_wasi_snapshot_preview1_instance_t *wasi,
					    u32 fd, u32 result)
{
	if (fd != 1 && fd != 2)
		return WASI_BADF;
	memset(vm_at(ENGINE(wasi), result), 0, 24);
	*(u8 *)vm_at(ENGINE(wasi), result) = 2; /* a character device */
	return WASI_SUCCESS;
}

u32 Z_wasi_snapshot_preview1Z_fd_seek(struct Z_wasi_snapshot_preview1_instance_t *wasi, u32 fd,
				      u64 offset, u32 whence, u32 result)
{
	(void)wasi, (void)fd, (void)offset, (void)whence, (void)result;
	return WASI_NOSYS;
}
