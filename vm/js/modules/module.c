// SPDX-License-Identifier: MIT
/*
 * module.c - ES modules: names, sources, JSON, import.meta.
 *
 * Owns: nothing; the runtime resolves and loads (struct js_host), QuickJS keeps what was loaded in
 * the heap. The native_* functions are called by QuickJS through the VM's table. Owner's thread, on
 * the VM's side stack. Must never leave a failure without an exception.
 *
 * QuickJS leaves import.meta empty, and the loader of the npm package has no hook to fill it: that
 * is why Thaw has a loader of its own.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "module_name.h"
#include "sources.h"
#include "js/engine/state.h"

enum { EVAL_MODULE = 1 << 0, EVAL_COMPILE_ONLY = 1 << 5 };
enum { PROPERTY_ALL = 7 }; /* configurable, writable, enumerable */

/* ---- import.meta ---- */

static bool define(struct js_engine *engine, u64 object, const char *name, u64 value)
{
	u32 key = vm_string(engine, name, strlen(name));
	bool good = false;

	if (!key || value_has_tag(value, TAG_EXCEPTION))
		VM(engine, JS_FreeValue, engine->context, value);
	else
		good = (s32)VM(engine, JS_DefinePropertyValueStr, engine->context, object, key,
			       value, PROPERTY_ALL) >= 0;
	vm_free(engine, key);
	return good;
}

/*
 * What the prelude left for the module "thaw" (prelude.js), under a symbol that no program can
 * replace.
 */
static u64 internals(struct js_engine *engine)
{
	u32 name = vm_string(engine, "thaw.internals", 14), atom = 0;
	u64 symbol = name ? VM(engine, JS_NewSymbol, engine->context, name, true) : VALUE_EXCEPTION;
	u64 global = VM(engine, JS_GetGlobalObject, engine->context), value = VALUE_EXCEPTION;

	if (!value_has_tag(symbol, TAG_EXCEPTION))
		atom = VM(engine, JS_ValueToAtom, engine->context, symbol);
	if (atom)
		value = VM(engine, JS_GetProperty, engine->context, global, atom);
	VM(engine, JS_FreeAtom, engine->context, atom);
	VM(engine, JS_FreeValue, engine->context, symbol);
	VM(engine, JS_FreeValue, engine->context, global);
	vm_free(engine, name);
	return value;
}

/* import.meta.hot; undefined where there is no prelude. */
static u64 hot_of(struct js_engine *engine, const char *name)
{
	u64 parts = internals(engine), function, argument, result = VALUE_UNDEFINED;
	u32 key;

	if (!value_has_tag(parts, TAG_OBJECT))
		return parts;
	key = vm_string(engine, "hot", 3);
	function = key ? VM(engine, JS_GetPropertyStr, engine->context, parts, key)
		       : VALUE_EXCEPTION;
	argument = value_string(engine, name, strlen(name));
	if (value_has_tag(function, TAG_EXCEPTION) || value_has_tag(argument, TAG_EXCEPTION)) {
		result = VALUE_EXCEPTION;
	} else if (value_has_tag(function, TAG_OBJECT)) {
		u32 arguments = vm_push(engine, 8);

		vm_store64(engine, arguments, argument);
		result = VM(engine, JS_Call, engine->context, function, VALUE_UNDEFINED, 1,
			    arguments);
		vm_pop(engine, 8);
	}
	VM(engine, JS_FreeValue, engine->context, argument);
	VM(engine, JS_FreeValue, engine->context, function);
	VM(engine, JS_FreeValue, engine->context, parts);
	vm_free(engine, key);
	return result;
}

bool module_set_meta(struct js_engine *engine, u32 module, const char *name, bool main)
{
	bool good = module_place_meta(engine, module, name, main);
	u64 meta;

	if (!good)
		return false;
	meta = VM(engine, JS_GetImportMeta, engine->context, module);
	if (!strcmp(name, "thaw"))
		good = define(engine, meta, "internals", internals(engine));
	else
		good = define(engine, meta, "hot", hot_of(engine, name));
	VM(engine, JS_FreeValue, engine->context, meta);
	return good;
}

bool module_place_meta(struct js_engine *engine, u32 module, const char *name, bool main)
{
	u64 meta = VM(engine, JS_GetImportMeta, engine->context, module);
	char *url = module_url(name), *path = module_path(name);
	const char *slash = path ? strrchr(path, '/') : NULL;
	bool good = false;

	if (!url || !path)
		VM(engine, JS_ThrowOutOfMemory, engine->context);
	else if (!value_has_tag(meta, TAG_EXCEPTION))
		good = define(engine, meta, "url", value_string(engine, url, strlen(url))) &&
		       define(engine, meta, "main", JSVALUE(TAG_BOOL, main));
	if (good && path[0] == '/')
		good = define(engine, meta, "filename", value_string(engine, path, strlen(path))) &&
		       define(engine, meta, "dirname",
			      value_string(engine, path,
					   slash == path ? 1 : (size_t)(slash - path)));
	free(path);
	free(url);
	VM(engine, JS_FreeValue, engine->context, meta);
	return good;
}

/*
 * An import fails: what is no program's text is an Error, whose `code` is node's name for it, if the text ends with
 * that in brackets.
 */
static void throw_import_error(struct js_engine *engine, const struct thaw_error *error)
{
	const char *name = strstr(error->text, "(ERR_");
	u64 value = exception_new(engine, error->code == -EILSEQ ? "SyntaxError" : "Error",
				  error->text);

	if (value_has_tag(value, TAG_EXCEPTION))
		return;
	if (name &&
	    !define(engine, value, "code", value_string(engine, name + 1, strcspn(name + 1, ")"))))
		exception_clear(engine);
	VM(engine, JS_Throw, engine->context, value);
}

/* ---- Names ---- */

/* What is pending is why this could not be imported: say who wanted it. */
static void name_importer(struct js_engine *engine, const char *base, const char *specifier)
{
	char *frame = engine->host.module_importer && base && specifier
			      ? engine->host.module_importer(engine->host.arg, base, specifier)
			      : NULL;

	if (frame)
		exception_add_frame(engine, frame);
	free(frame);
}

/* For load_module(): QuickJS loads what it has just resolved, and tells no more than the name. */
static void remember_import(struct js_engine *engine, char *base, char *specifier)
{
	free(engine->import_base);
	free(engine->import_specifier);
	engine->import_base = base;
	engine->import_specifier = specifier;
}

/* What the host is asked on its own stack, where it may run anything, also this VM again. */
struct question {
	struct js_engine *engine;
	const char *base, *name; /* `base` NULL: the source of `name`; else what it means there */
	char *answer;		 /* malloc'ed; NULL: `error` says why */
	size_t bytes;
	struct thaw_error *error;
};

static u64 run_question(void *arg)
{
	struct question *question = arg;
	const struct js_host *host = &question->engine->host;

	question->answer = question->base ? host->module_resolve(host->arg, question->base,
								 question->name, question->error)
					  : host->module_load(host->arg, question->name,
							      &question->bytes, question->error);
	return 0;
}

static char *ask_host(struct js_engine *engine, const char *base, const char *name, size_t *bytes,
		      struct thaw_error *error)
{
	struct question question = {engine, base, name, NULL, 0, error};

	engine_call_host(engine, run_question, &question);
	if (bytes)
		*bytes = question.bytes;
	return question.answer;
}

/* On the side stack: the address of the name, which QuickJS will js_free; 0: an exception. */
static u32 resolve_module(struct js_engine *engine, u32 base, u32 specifier)
{
	struct thaw_error error = {0};
	char *name = NULL, *host_base, *host_specifier;
	u32 result;

	if (!engine->host.module_resolve) {
		exception_throw(engine, "Error", "modules cannot be imported here");
		return 0;
	}
	/* Copies: names of files go to the kernel, which never gets memory of the heap. */
	host_base = strdup(vm_at(engine, base));
	host_specifier = strdup(vm_at(engine, specifier));
	if (!host_base || !host_specifier)
		snprintf(error.text, sizeof(error.text), "out of memory");
	else
		name = ask_host(engine, host_base, host_specifier, NULL, &error);
	if (!name) {
		throw_import_error(engine, &error);
		name_importer(engine, host_base, host_specifier);
		free(host_base);
		free(host_specifier);
		return 0;
	}
	remember_import(engine, host_base, host_specifier);
	result = VM(engine, js_malloc, engine->context, (u32)strlen(name) + 1);
	if (result)
		memcpy(vm_at(engine, result), name, strlen(name) + 1);
	free(name);
	return result;
}

/* ---- Sources ---- */

/* Add the name of the file, which a parse error of JSON does not have. */
static void name_json_error(struct js_engine *engine, const char *name)
{
	u64 error = VM(engine, JS_GetException, engine->context);
	char *text = value_text(engine, error, NULL), *message;

	VM(engine, JS_FreeValue, engine->context, error);
	if (!text)
		exception_clear(engine);
	message = text ? strstr(text, ": ") : NULL;
	if (asprintf(&message, "%s: %s", name, message ? message + 2 : "not valid JSON") < 0)
		message = NULL;
	exception_throw(engine, "SyntaxError", message ? message : name);
	free(message);
	free(text);
}

/*
 * A module with one export, the parsed value; QuickJS keeps it in the module until it is
 * evaluated.
 */
static u32 json_module(struct js_engine *engine, u32 name, u32 source, u32 bytes,
		       const char *host_name)
{
	u64 value = VM(engine, JS_ParseJSON, engine->context, source, bytes, name);
	u32 key, module;

	if (value_has_tag(value, TAG_EXCEPTION)) {
		name_json_error(engine, host_name);
		return 0;
	}
	module = VM(engine, JS_NewCModule, engine->context, name,
		    engine->native_base + NATIVE_JSON_MODULE_INIT);
	key = module ? vm_string(engine, "default", 7) : 0;
	if (!key || (s32)VM(engine, JS_AddModuleExport, engine->context, module, key) < 0) {
		VM(engine, JS_FreeValue, engine->context, value);
		module = 0;
	} else {
		VM(engine, JS_SetModulePrivateValue, engine->context, module, value);
	}
	vm_free(engine, key);
	return module;
}

static s32 initialise_json_module(struct js_engine *engine, u32 module)
{
	u64 value = VM(engine, JS_GetModulePrivateValue, engine->context, module);
	u32 key = vm_string(engine, "default", 7);
	s32 status = -1;

	if (key)
		status = (s32)VM(engine, JS_SetModuleExport, engine->context, module, key,
				 value); /* consumes it */
	else
		VM(engine, JS_FreeValue, engine->context, value);
	vm_free(engine, key);
	return status;
}

static u32 compile_module(struct js_engine *engine, u32 name, u32 source, u32 bytes,
			  const char *host_name)
{
	u64 module = VM(engine, JS_Eval, engine->context, source, bytes, name,
			EVAL_MODULE | EVAL_COMPILE_ONLY);

	if (value_has_tag(module, TAG_EXCEPTION))
		return 0;
	if (!module_set_meta(engine, (u32)module, host_name, false)) {
		VM(engine, JS_FreeValue, engine->context, module);
		return 0;
	}
	VM(engine, JS_FreeValue, engine->context, module); /* QuickJS's list of modules owns it */
	return (u32)module;
}

/* On the side stack: the module, or 0 and an exception. */
static u32 load_module(struct js_engine *engine, u32 name)
{
	struct thaw_error error = {0};
	u32 source, module = 0, mark = sources_mark(engine);
	size_t bytes = 0, skip;
	char *host_name, *text;

	host_name = strdup(vm_at(engine, name));
	text = host_name && engine->host.module_load
		       ? ask_host(engine, NULL, host_name, &bytes, &error)
		       : NULL;
	if (!text) {
		if (!error.text[0])
			snprintf(error.text, sizeof(error.text), "modules cannot be loaded here");
		throw_import_error(engine, &error);
		name_importer(engine, engine->import_base, engine->import_specifier);
		free(host_name);
		return 0;
	}
	skip = bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0 ? 3 : 0; /* a byte order mark */
	source = vm_string(engine, text + skip, bytes - skip);
	free(text);
	if (source && module_ends_with(host_name, ".json"))
		module = json_module(engine, name, source, (u32)(bytes - skip), host_name);
	else if (source)
		module = compile_module(engine, name, source, (u32)(bytes - skip), host_name);
	if (!module) {
		name_importer(engine, engine->import_base, engine->import_specifier);
		sources_forget(engine, mark);
	}
	vm_free(engine, source);
	free(host_name);
	return module;
}

/*
 * ---- What QuickJS calls: an import() does so on the turn stack, where none of this may stand ----
 */

struct module_call {
	struct js_engine *engine;
	u32 a, b, result;
};

static void run_resolve(void *arg)
{
	struct module_call *call = arg;

	call->result = resolve_module(call->engine, call->a, call->b);
}

static void run_load(void *arg)
{
	struct module_call *call = arg;

	call->result = load_module(call->engine, call->a);
}

static void run_initialise(void *arg)
{
	struct module_call *call = arg;

	call->result = (u32)initialise_json_module(call->engine, call->a);
}

u32 native_module_resolve(struct js_engine *engine, u32 context, u32 base, u32 specifier,
			  u32 opaque)
{
	struct module_call call = {engine, base, specifier, 0};
	u32 before = engine_use_context(engine, context);

	(void)opaque;
	engine_call_side(engine, run_resolve, &call);
	engine->context = before;
	return call.result;
}

u32 native_module_load(struct js_engine *engine, u32 context, u32 name, u32 opaque)
{
	struct module_call call = {engine, name, 0, 0};
	u32 before = engine_use_context(engine, context);

	(void)opaque;
	engine_call_side(engine, run_load, &call);
	engine->context = before;
	return call.result;
}

u32 native_json_module_init(struct js_engine *engine, u32 context, u32 module)
{
	struct module_call call = {engine, module, 0, 0};
	u32 before = engine_use_context(engine, context);

	engine_call_side(engine, run_initialise, &call);
	engine->context = before;
	return call.result;
}
