/* SPDX-License-Identifier: MIT */
/*
 * thaw.c - thaw.node: what index.js needs of the stub, as an addon of N-API version 8. Loads into any Node.js since 12 and
 * needs no compiler where it is installed.
 *
 * The functions of N-API are the program's, those of Thaw the stub's (stub/stub.c), which is there in a process that
 * `thaw exec` started: both are found when this is loaded. A checkpoint is waited for by a thread of libuv's pool, which
 * is parked with all others, and goes on in the process that is restored: there the answer is that it was.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* As node_api.h has them: of a stable interface (https://nodejs.org/api/n-api.html), and nothing else of it. */
typedef struct napi_env_opaque *napi_env;
typedef struct napi_value_opaque *napi_value;
typedef struct napi_deferred_opaque *napi_deferred;
typedef struct napi_async_work_opaque *napi_async_work;
typedef struct napi_callback_info_opaque *napi_callback_info;
typedef int napi_status;
typedef napi_value (*napi_callback)(napi_env, napi_callback_info);

extern napi_status napi_create_function(napi_env, const char *, size_t, napi_callback, void *, napi_value *);
extern napi_status napi_set_named_property(napi_env, napi_value, const char *, napi_value);
extern napi_status napi_get_cb_info(napi_env, napi_callback_info, size_t *, napi_value *, napi_value *, void **);
extern napi_status napi_get_value_string_utf8(napi_env, napi_value, char *, size_t, size_t *);
extern napi_status napi_create_string_utf8(napi_env, const char *, size_t, napi_value *);
extern napi_status napi_create_double(napi_env, double, napi_value *);
extern napi_status napi_get_boolean(napi_env, bool, napi_value *);
extern napi_status napi_create_object(napi_env, napi_value *);
extern napi_status napi_create_error(napi_env, napi_value, napi_value, napi_value *);
extern napi_status napi_create_promise(napi_env, napi_deferred *, napi_value *);
extern napi_status napi_resolve_deferred(napi_env, napi_deferred, napi_value);
extern napi_status napi_reject_deferred(napi_env, napi_deferred, napi_value);
extern napi_status napi_create_async_work(napi_env, napi_value, napi_value, void (*)(napi_env, void *),
					  void (*)(napi_env, napi_status, void *), void *, napi_async_work *);
extern napi_status napi_queue_async_work(napi_env, napi_async_work);
extern napi_status napi_delete_async_work(napi_env, napi_async_work);
extern napi_status napi_throw_error(napi_env, const char *, const char *);

/* The stub's; NULL without it. */
static int (*stub_checkpoint)(const char *name, uint64_t *generation, char *text, size_t room);
static unsigned (*stub_restored)(void);
static uint64_t (*stub_generation)(void);
static int (*stub_effect_id)(char *text, size_t room);

struct asked {
	napi_async_work work;
	napi_deferred promise;
	char name[64], text[256];
	int code;
	unsigned restored_before;
	uint64_t generation;
};

static void ask(napi_env env, void *data)
{
	struct asked *asked = data;

	(void)env;
	asked->code = stub_checkpoint(asked->name[0] ? asked->name : NULL, &asked->generation,
				      asked->text, sizeof(asked->text));
}

static void tell(napi_env env, napi_status status, void *data)
{
	struct asked *asked = data;
	napi_value result, value;

	if (status || asked->code < 0) {
		napi_create_string_utf8(env, asked->text, strlen(asked->text), &value);
		napi_create_error(env, NULL, value, &result);
		napi_reject_deferred(env, asked->promise, result);
	} else {
		napi_create_object(env, &result);
		napi_create_double(env, (double)asked->generation, &value);
		napi_set_named_property(env, result, "generation", value);
		napi_get_boolean(env, stub_restored() != asked->restored_before, &value);
		napi_set_named_property(env, result, "restored", value);
		napi_resolve_deferred(env, asked->promise, result);
	}
	napi_delete_async_work(env, asked->work);
	free(asked);
}

/* checkpoint(name) -> Promise<{ generation, restored }> */
static napi_value checkpoint(napi_env env, napi_callback_info info)
{
	struct asked *asked = calloc(1, sizeof(*asked));
	napi_value arguments[1], promise = NULL, what;
	size_t count = 1;

	if (!asked) {
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	napi_get_cb_info(env, info, &count, arguments, NULL, NULL);
	if (count)
		napi_get_value_string_utf8(env, arguments[0], asked->name, sizeof(asked->name), NULL);
	asked->restored_before = stub_restored();
	napi_create_string_utf8(env, "thaw", 4, &what);
	if (napi_create_promise(env, &asked->promise, &promise) ||
	    napi_create_async_work(env, NULL, what, ask, tell, asked, &asked->work) ||
	    napi_queue_async_work(env, asked->work)) {
		free(asked);
		napi_throw_error(env, "ENOMEM", "out of memory");
		return NULL;
	}
	return promise;
}

static napi_value restored(napi_env env, napi_callback_info info)
{
	napi_value number = NULL;

	(void)info;
	napi_create_double(env, stub_restored(), &number);
	return number;
}

static napi_value generation(napi_env env, napi_callback_info info)
{
	napi_value number = NULL;

	(void)info;
	napi_create_double(env, (double)stub_generation(), &number);
	return number;
}

/* undefined: not here, but in the parent of this process. */
static napi_value effect_id(napi_env env, napi_callback_info info)
{
	napi_value value = NULL;
	char text[80];

	(void)info;
	if (!stub_effect_id(text, sizeof(text)))
		napi_create_string_utf8(env, text, strlen(text), &value);
	return value;
}

static void export(napi_env env, napi_value exports, const char *name, napi_callback function)
{
	napi_value value;

	if (!napi_create_function(env, name, strlen(name), function, NULL, &value))
		napi_set_named_property(env, exports, name, value);
}

/* Exports nothing outside of `thaw exec`. */
__attribute__((visibility("default"))) napi_value napi_register_module_v1(napi_env env, napi_value exports)
{
	*(void **)&stub_checkpoint = dlsym(RTLD_DEFAULT, "thaw_stub_checkpoint");
	*(void **)&stub_restored = dlsym(RTLD_DEFAULT, "thaw_stub_restored");
	*(void **)&stub_generation = dlsym(RTLD_DEFAULT, "thaw_stub_generation");
	*(void **)&stub_effect_id = dlsym(RTLD_DEFAULT, "thaw_stub_effect_id");
	if (stub_checkpoint && stub_restored && stub_generation) {
		export(env, exports, "checkpoint", checkpoint);
		export(env, exports, "restored", restored);
		export(env, exports, "generation", generation);
		if (stub_effect_id)
			export(env, exports, "effectId", effect_id);
	}
	return exports;
}
