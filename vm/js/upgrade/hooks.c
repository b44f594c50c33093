// SPDX-License-Identifier: MIT
/*
 * hooks.c - who hands over what in an upgrade: the hooks of old and new modules, in their order, and the new modules
 * themselves (upgrade.h).
 *
 * Each call is a turn of its own, with the promise reactions that it queues; what it returns is waited for if it is a promise,
 * with nothing of the program running meanwhile but what the upgrade has begun: no timer, and no checkpoint. Owner's
 * thread. Must never go on after something was thrown.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"
#include "js/modules/typescript.h"
#include "upgrade.h"

/* Of the list that hooks() of api/hot.js returns. */
enum {
	HOOK_DATA,
	HOOK_DISPOSES,
	HOOK_PRUNES,
	HOOK_ACCEPTED,
	HOOK_DEPENDENCIES,
	HOOK_ACCEPTS,
	HOOK_DECLINED,
	HOOK_TIMERS,
	HOOK_LISTENERS
};

/* ---- Asking and calling ---- */

static unsigned length_of(struct js_engine *engine, js_value list)
{
	js_value length = list ? js_get(engine, list, "length") : 0;
	double count = length ? js_to_number(engine, length) : 0;

	js_free(engine, length);
	return count > 0 && count < 1e9 ? (unsigned)count : 0;
}

static unsigned number_at(struct js_engine *engine, js_value list, unsigned index)
{
	js_value value = js_get_index(engine, list, index);
	double number = value ? js_to_number(engine, value) : 0;

	js_free(engine, value);
	return number > 0 && number < 4e9 ? (unsigned)number : 0;
}

static bool truth_at(struct js_engine *engine, js_value list, unsigned index)
{
	js_value value = js_get_index(engine, list, index);
	bool truth = value && js_to_bool(engine, value);

	js_free(engine, value);
	return truth;
}

js_value hooks_ask(struct upgrade *upgrade, const char *operation, const char *name, js_value other)
{
	js_value arguments[3] = {js_string(upgrade->engine, operation, strlen(operation)),
				 js_string(upgrade->engine, name, strlen(name)), other};

	return turn_ask(upgrade->program, PRELUDE_UPGRADE, other ? 3 : 2, arguments);
}

static void tell_hot(struct upgrade *upgrade, const char *operation, const char *name)
{
	js_free(upgrade->engine, hooks_ask(upgrade, operation, name, 0));
}

static int out_of_memory(struct upgrade *upgrade)
{
	return failure(upgrade->error, -ENOMEM, "out of memory");
}

int hooks_thrown(struct upgrade *upgrade, js_value exception, const char *what)
{
	struct program *program = upgrade->program;
	int code = upgrade_over(upgrade);
	char *text;

	if (code) {
		js_free(program->engine, exception); /* not at all, if it has trapped */
		return code;
	}
	text = turn_describe(program, exception, NULL);
	js_free(program->engine, exception);
	owner_tell(program->guest.owner, "Uncaught %s%s", text,
		   *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
	text[strcspn(text, "\n")] = '\0';
	failure(upgrade->error, -ECANCELED, "%s: %s", what, text);
	free(text);
	return -ECANCELED;
}

/*
 * Let what the upgrade has begun go on until the promise is settled, and give up `promise`. `may_wait`: it may await what
 * only the program itself can bring.
 */
static int wait_for(struct upgrade *upgrade, js_value promise, const char *what, bool may_wait)
{
	struct program *program = upgrade->program;
	enum js_promise_state state;
	int code = 0;

	while (!(code = upgrade_over(upgrade)) &&
	       js_promise_state(program->engine, promise) == JS_PROMISE_PENDING &&
	       io_holds(program))
		loop_wait(program, owner_due_ns(program->guest.owner));
	if (js_trapped(program->engine))
		return upgrade_over(upgrade);
	state = js_promise_state(program->engine, promise);
	if (!code && state == JS_PROMISE_REJECTED)
		code = hooks_thrown(upgrade, js_promise_result(program->engine, promise), what);
	else if (!code && state == JS_PROMISE_PENDING && !may_wait)
		code = failure(
			upgrade->error, -ECANCELED,
			"%s awaits what does not come in an upgrade (a timer, or a checkpoint)",
			what);
	js_free(program->engine, promise);
	return code;
}

/* The end of a turn in which something was called: with this result, 0 and an exception. */
static int finish_call(struct upgrade *upgrade, js_value result, const char *what, bool may_wait)
{
	struct program *program = upgrade->program;
	bool promise = result && js_is_promise(program->engine, result);
	js_value watched, exception = 0;

	if (promise) {
		watched = js_dup(program->engine, result);
		js_free(program->engine, turn_ask(program, PRELUDE_WATCH, 1, &watched));
	} else if (!result && !js_trapped(program->engine)) {
		exception = js_take_exception(program->engine);
	}
	turn_end(program);
	if (!result)
		return hooks_thrown(upgrade, exception, what);
	if (promise)
		return wait_for(upgrade, result, what, may_wait);
	js_free(program->engine, result);
	return upgrade_over(upgrade);
}

/* Call a hook of a module. Consumes the function, borrows the argument. */
static int call_hook(struct upgrade *upgrade, js_value function, js_value argument,
		     const char *module, const char *hook)
{
	char *what = NULL;
	js_value result;
	int code;

	if (!function || asprintf(&what, "%s: %s", module, hook) < 0)
		return out_of_memory(upgrade);
	turn_begin(upgrade->program);
	result = js_call(upgrade->engine, function, 0, argument ? 1 : 0, &argument);
	js_free(upgrade->engine, function);
	code = finish_call(upgrade, result, what, false);
	free(what);
	return code;
}

/* All of a list, one after the other. Consumes the list. */
static int call_all(struct upgrade *upgrade, js_value list, js_value argument, const char *module,
		    const char *hook)
{
	unsigned count = length_of(upgrade->engine, list);
	int code = 0;

	for (unsigned i = 0; i < count && !code; i++)
		code = call_hook(upgrade, js_get_index(upgrade->engine, list, i), argument, module,
				 hook);
	if (!js_trapped(upgrade->engine))
		js_free(upgrade->engine, list);
	return code;
}

/* One of the lists of hooks of an old module, each with its `data`. */
static int call_hooks(struct upgrade *upgrade, const char *module, unsigned list, const char *hook)
{
	struct js_engine *engine = upgrade->engine;
	js_value hooks = hooks_ask(upgrade, "hooks", module, 0);
	js_value data = hooks ? js_get_index(engine, hooks, HOOK_DATA) : 0;
	int code = data ? call_all(upgrade, js_get_index(engine, hooks, list), data, module, hook)
			: out_of_memory(upgrade);

	if (!js_trapped(engine)) {
		js_free(engine, data);
		js_free(engine, hooks);
	}
	return code;
}

/* ---- Who has hooks ---- */

static bool add_word(char **words, const char *word)
{
	char *more = NULL;

	if (asprintf(&more, "%s%s%s", *words ? *words : "", *words ? ", " : "", word) < 0)
		return false;
	free(*words);
	*words = more;
	return true;
}

/* Does the new source speak of import.meta.hot? What it will do with it, only running it can tell. */
static bool mentions_hot(const char *name)
{
	char *path = module_path(name);
	size_t bytes;
	char *text = path && path[0] == '/' ? resolve_read_file(path, &bytes) : NULL;
	bool mentions = text && strstr(text, "import.meta.hot");

	free(text);
	free(path);
	return mentions;
}

static int look_at(struct upgrade *upgrade, struct upgrade_module *module)
{
	struct js_engine *engine = upgrade->engine;
	js_value hooks = hooks_ask(upgrade, "hooks", module->name, 0), list;
	bool good = hooks != 0;

	if (!hooks)
		return out_of_memory(upgrade);
	list = js_get_index(engine, hooks, HOOK_DISPOSES);
	if (length_of(engine, list))
		good = add_word(&module->hooks, "dispose");
	js_free(engine, list);
	if (good && truth_at(engine, hooks, HOOK_ACCEPTS))
		good = add_word(&module->hooks, "accept");
	list = js_get_index(engine, hooks, HOOK_PRUNES);
	if (good && module->change == GUEST_REMOVED && length_of(engine, list))
		good = add_word(&module->hooks, "prune");
	js_free(engine, list);
	if (good && module->new &&heap_module_exports(engine, module->new, "upgrade"))
		good = add_word(&module->hooks, "upgrade");
	if (good && module->new && !module->hooks &&mentions_hot(module->name))
		good = add_word(&module->hooks, "import.meta.hot");
	module->declines = truth_at(engine, hooks, HOOK_DECLINED);
	module->timers = number_at(engine, hooks, HOOK_TIMERS);
	module->listeners = number_at(engine, hooks, HOOK_LISTENERS);
	js_free(engine, hooks);
	if (!good)
		return out_of_memory(upgrade);
	return module->code ? heap_module_state(engine, module->old, &module->state) : 0;
}

/* The name of what a module says that it accepts; malloc'ed, NULL: there is none such. */
static char *accepted_name(struct js_engine *engine, const char *importer, js_value entry,
			   unsigned index)
{
	js_value text = js_get_index(engine, entry, index);
	char *specifier = text ? js_to_string(engine, text, NULL) : NULL;
	struct thaw_error unused = {0};
	char *name = specifier ? resolve_specifier(importer, specifier, &unused) : NULL;

	js_free(engine, text);
	free(specifier);
	return name;
}

/* Does an importer say what it does when that one is replaced? */
static int look_at_importer(struct upgrade *upgrade, const struct upgrade_module *importer)
{
	struct js_engine *engine = upgrade->engine;
	js_value hooks = hooks_ask(upgrade, "hooks", importer->name, 0);
	js_value dependencies = hooks ? js_get_index(engine, hooks, HOOK_DEPENDENCIES) : 0;
	unsigned count = length_of(engine, dependencies);
	bool good = hooks != 0;

	for (unsigned i = 0; i < count && good; i++) {
		js_value entry = js_get_index(engine, dependencies, i);

		for (unsigned j = 2; j < length_of(engine, entry) && good; j++) {
			char *name = accepted_name(engine, importer->name, entry, j);
			struct upgrade_module *module = name ? plan_find(upgrade, name) : NULL;

			free(name);
			if (!module || module->change != GUEST_CHANGED)
				continue;
			if (!module->hooks || !strstr(module->hooks, "an importer"))
				good = add_word(&module->hooks, "accepted by an importer");
		}
		js_free(engine, entry);
	}
	js_free(engine, dependencies);
	js_free(engine, hooks);
	return good ? 0 : out_of_memory(upgrade);
}

int hooks_look(struct upgrade *upgrade)
{
	int code = 0;

	for (unsigned i = 0; i < upgrade->count && !code; i++) {
		struct upgrade_module *module = &upgrade->modules[i];

		if (module->change == GUEST_CHANGED || module->change == GUEST_REMOVED)
			code = look_at(upgrade, module);
	}
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].old == upgrade->modules[i].new)
			code = look_at_importer(upgrade, &upgrade->modules[i]);
	return code;
}

/* ---- The old ones hand over ---- */

static int dispose(struct upgrade *upgrade, const struct upgrade_module *module)
{
	int code = call_hooks(upgrade, module->name, HOOK_DISPOSES, "its dispose hook");

	if (!code)
		tell_hot(upgrade, "end", module->name);
	return code;
}

/* Importers first: they may still need what they import. */
int hooks_dispose(struct upgrade *upgrade)
{
	int code = 0;

	for (unsigned i = upgrade->order_count; i-- && !code;) {
		const struct upgrade_module *module = &upgrade->modules[upgrade->order[i]];

		if (module->change == GUEST_CHANGED)
			code = dispose(upgrade, module);
	}
	for (unsigned i = upgrade->count; i-- && !code;)
		if (upgrade->modules[i].change == GUEST_REMOVED)
			code = dispose(upgrade, &upgrade->modules[i]);
	return code;
}

/* ---- The new ones take over ---- */

static int evaluate(struct upgrade *upgrade, const struct upgrade_module *module)
{
	struct program *program = upgrade->program;
	js_value promise, watched;

	turn_begin(program);
	promise = heap_module_evaluate(upgrade->engine, module->new);
	if (promise && module->main) {
		watched = js_dup(upgrade->engine, promise);
		js_free(upgrade->engine, turn_ask(program, PRELUDE_MAIN, 1, &watched));
	}
	/* The main module may await for ever. */
	return finish_call(upgrade, promise, module->name, module->main);
}

/* export function upgrade(old) */
static int call_upgrade(struct upgrade *upgrade, const struct upgrade_module *module,
			js_value space)
{
	struct js_engine *engine = upgrade->engine;
	js_value function = js_get(engine, space, "upgrade"), old;
	int code;

	if (!function) {
		turn_begin(upgrade->program);
		return finish_call(upgrade, 0, module->name, false);
	}
	if (!js_is_function(engine, function)) {
		js_free(engine, function);
		return 0;
	}
	old = heap_module_variables(engine, module->old);
	if (!old) {
		js_free(engine, js_take_exception(engine));
		return out_of_memory(upgrade);
	}
	code = call_hook(upgrade, function, old, module->name, "upgrade()");
	if (!js_trapped(engine))
		js_free(engine, old);
	return code;
}

static int take_over(struct upgrade *upgrade, const struct upgrade_module *module)
{
	struct js_engine *engine = upgrade->engine;
	js_value space = heap_module_namespace(engine, module->new), hooks;
	int code = space ? 0 : out_of_memory(upgrade);

	if (!code && heap_module_exports(engine, module->new, "upgrade"))
		code = call_upgrade(upgrade, module, space);
	hooks = code ? 0 : hooks_ask(upgrade, "hooks", module->name, 0);
	if (!code)
		code = call_all(upgrade, js_get_index(engine, hooks, HOOK_ACCEPTED), space,
				module->name, "what its old code passed to accept()");
	if (!js_trapped(engine)) {
		js_free(engine, hooks);
		js_free(engine, space);
	}
	return code;
}

int hooks_evaluate(struct upgrade *upgrade)
{
	int code = 0;

	for (unsigned i = 0; i < upgrade->order_count && !code; i++) {
		const struct upgrade_module *module = &upgrade->modules[upgrade->order[i]];

		code = evaluate(upgrade, module);
		if (!code && module->change == GUEST_CHANGED)
			code = take_over(upgrade, module);
	}
	return code;
}

/* ---- Those that import them ---- */

/* The argument of what an importer passed to accept(): a namespace, or a list of them; 0: none was replaced. */
static js_value accepted_value(struct upgrade *upgrade, const char *importer, js_value entry)
{
	struct js_engine *engine = upgrade->engine;
	bool single = truth_at(engine, entry, 1), any = false;
	js_value list = js_array(engine), space = 0;

	for (unsigned j = 2; j < length_of(engine, entry) && list; j++) {
		char *name = accepted_name(engine, importer, entry, j);
		struct upgrade_module *module = name ? plan_find(upgrade, name) : NULL;
		bool replaced = module && module->change == GUEST_CHANGED;

		free(name);
		any |= replaced;
		space = replaced ? heap_module_namespace(engine, module->new)
				 : js_undefined(engine);
		if (!space || !js_set_index(engine, list, j - 2, space))
			break;
	}
	if (!any || !list) {
		js_free(engine, list);
		return 0;
	}
	if (!single)
		return list;
	space = js_get_index(engine, list, 0);
	js_free(engine, list);
	return space;
}

static int tell_importer(struct upgrade *upgrade, const char *importer)
{
	struct js_engine *engine = upgrade->engine;
	js_value hooks = hooks_ask(upgrade, "hooks", importer, 0);
	js_value dependencies = hooks ? js_get_index(engine, hooks, HOOK_DEPENDENCIES) : 0;
	unsigned count = length_of(engine, dependencies);
	int code = 0;

	for (unsigned i = 0; i < count && !code; i++) {
		js_value entry = js_get_index(engine, dependencies, i);
		js_value function = js_get_index(engine, entry, 0);
		js_value value = accepted_value(upgrade, importer, entry);

		if (value && js_is_function(engine, function))
			code = call_hook(upgrade, js_dup(engine, function), value, importer,
					 "what it passed to accept()");
		if (js_trapped(engine))
			return code;
		js_free(engine, value);
		js_free(engine, function);
		js_free(engine, entry);
	}
	js_free(engine, dependencies);
	js_free(engine, hooks);
	return code;
}

static int ask_invalidated(struct upgrade *upgrade)
{
	char *text = turn_text(upgrade->program, hooks_ask(upgrade, "invalidated", "", 0));
	int code = text ? failure(upgrade->error, -ECANCELED, "invalidate() was called by %s", text)
			: 0;

	free(text);
	return code;
}

int hooks_accept(struct upgrade *upgrade)
{
	int code = 0;

	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].old && upgrade->modules[i].old == upgrade->modules[i].new)
			code = tell_importer(upgrade, upgrade->modules[i].name);
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].change == GUEST_REMOVED)
			code = call_hooks(upgrade, upgrade->modules[i].name, HOOK_PRUNES,
					  "its prune hook");
	return code ? code : ask_invalidated(upgrade);
}

/* ---- The check ---- */

int hooks_check(struct upgrade *upgrade, const char *path)
{
	struct program *program = upgrade->program;
	char *real = realpath(path, NULL), *what = NULL;
	size_t bytes;
	char *text = real ? resolve_read_file(real, &bytes) : NULL;
	js_value result;
	int code;

	if (!text) {
		code = failure(upgrade->error, -ECANCELED, "cannot read %s: %s", path,
			       resolve_strerror(errno));
		free(real);
		return code;
	}
	if (typescript_is(real)) {
		text = typescript_strip(real, text, &bytes, upgrade->error);
		if (!text) {
			free(real);
			return upgrade->error->code ? upgrade->error->code : -ECANCELED;
		}
	}
	code = asprintf(&what, "the check %s", path) < 0 ? out_of_memory(upgrade) : 0;
	if (!code) {
		turn_begin(program);
		result = js_eval(program->engine, text, bytes, real, JS_EVAL_MODULE);
		code = finish_call(upgrade, result, what, false);
		free(what);
	}
	if (!code) {
		tell_hot(upgrade, "end", real);
		js_free(upgrade->engine,
			hooks_ask(upgrade, "forget", real,
				  js_bool(upgrade->engine, !plan_find(upgrade, real))));
	}
	free(text);
	upgrade->check = real;
	return code ? code : ask_invalidated(upgrade);
}
