// SPDX-License-Identifier: MIT
/*
 * upgrade.c - an upgrade of a program, step by step (upgrade.h).
 *
 *	1. which files changed; their modules get other names in the heap, so that the engine loads the new ones
 *	2. the new ones are compiled and linked, and all that they import; no code of the program runs
 *	3. what changed, who has hooks, and what would be lost: --dry-run ends here, and so does what is refused
 *	4. dispose hooks of the old modules, importers first; their timers and listeners end
 *	5. the modules that stay are linked to the new ones
 *	6. each new module is evaluated, in import order, and takes over before the next one
 *	7. those that import them are told; the check
 *	8. the old modules are given up
 *
 * Owns struct upgrade while it lasts. Owner's thread, between turns.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "base/array.h"
#include "base/failure.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"
#include "js/modules/sources.h"
#include "upgrade.h"

int upgrade_over(struct upgrade *upgrade)
{
	const char *why = js_trapped(upgrade->engine);

	if (why)
		return failure(upgrade->error, -EIO, "the engine trapped: %s", why);
	return owner_upgrade_over(upgrade->program->guest.owner, upgrade->error);
}

/* ---- Our own modules ---- */

static int add_name(struct upgrade *upgrade, const char *name)
{
	char **more =
		array_grow(upgrade->names, upgrade->name_count, &upgrade->name_room, sizeof(*more));

	if (!more)
		return -ENOMEM;
	upgrade->names = more;
	more[upgrade->name_count] = strdup(name);
	return more[upgrade->name_count] ? (upgrade->name_count++, 0) : -ENOMEM;
}

static void forget_names(struct upgrade *upgrade)
{
	while (upgrade->name_count)
		free(upgrade->names[--upgrade->name_count]);
}

char *upgrade_resolve(const struct upgrade *upgrade, const char *specifier)
{
	unsigned long index;

	if (!strcmp(specifier, UPGRADE_FIRST))
		return strdup(specifier);
	index = strtoul(specifier + strlen(UPGRADE_OWN "/"), NULL, 10);
	return index < upgrade->name_count ? strdup(upgrade->names[index]) : NULL;
}

char *upgrade_load(size_t *bytes)
{
	*bytes = strlen("throw 0");
	return strdup("throw 0");
}

/* ---- 1 and 2: the new modules, beside the old ones ---- */

static int exception_code(struct upgrade *upgrade, const char *what)
{
	return hooks_thrown(upgrade, js_take_exception(upgrade->engine), what);
}

/* What a module that stays imports may be another file now. */
static int find_moved(struct upgrade *upgrade, const struct heap_module *heap)
{
	int code = 0;

	for (unsigned i = 0; i < heap->request_count && !code; i++) {
		struct thaw_error unused = {0};
		char *name = resolve_specifier(heap->name, heap->requests[i].specifier, &unused);

		if (name && !plan_find(upgrade, name))
			code = add_name(upgrade, name);
		free(name);
		if (!code)
			code = upgrade_over(upgrade);
	}
	return code;
}

/* The program lies elsewhere now: what is looked for by the names of its files has to find them. */
static int move_modules(struct upgrade *upgrade)
{
	uint32_t *modules = calloc(upgrade->count + 1, sizeof(*modules));
	const char **names = calloc(upgrade->count + 1, sizeof(*names));
	struct heap_module *heap = NULL;
	unsigned count = 0, moved = 0;
	int code = modules && names ? heap_modules_read(upgrade->engine, &heap, &count) : -ENOMEM;

	for (unsigned i = 0; i < upgrade->count && !code; i++) {
		const struct upgrade_module *module = &upgrade->modules[i];
		const struct heap_module *at = heap_modules_find(heap, count, module->old);

		code = upgrade_over(upgrade);
		if (code || !at || !strcmp(at->name, module->name))
			continue;
		js_free(upgrade->engine,
			hooks_ask(upgrade, "rename", at->name,
				  js_string(upgrade->engine, module->name, strlen(module->name))));
		modules[moved] = module->old;
		names[moved++] = module->name;
		code = heap_module_meta(upgrade->engine, module->old, module->name, module->main);
	}
	if (!code && moved)
		code = heap_modules_move(upgrade->engine, modules, names, moved);
	heap_modules_free(heap, count);
	free(modules);
	free(names);
	return code;
}

static int rename_modules(struct upgrade *upgrade)
{
	unsigned long long number = thaw_opened(upgrade->program->heap)->number;
	int code = move_modules(upgrade);

	for (unsigned i = 0; i < upgrade->count && !code; i++) {
		struct upgrade_module *module = &upgrade->modules[i];
		char *name = NULL;

		if (module->change != GUEST_CHANGED)
			continue;
		if (asprintf(&name, "%s" UPGRADE_REPLACED "%llu", module->name, number) < 0)
			return -ENOMEM;
		code = heap_module_rename(upgrade->engine, module->old, name);
		free(name);
		if (!code)
			code = add_name(upgrade, module->name);
		js_free(upgrade->engine, hooks_ask(upgrade, "replace", module->name, 0));
		module->new = 0;
	}
	return code;
}

static char *load_text(const struct upgrade *upgrade)
{
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);

	if (!to)
		return NULL;
	for (unsigned i = 0; i < upgrade->name_count; i++)
		fprintf(to, "import \"" UPGRADE_OWN "/%u\"\n", i);
	if (!fclose(to))
		return text;
	free(text);
	return NULL;
}

/* Compile what is in `names`, and all that it imports. */
static int load(struct upgrade *upgrade)
{
	char *text = load_text(upgrade);
	js_value result;
	int code = 0;

	if (!text)
		return -ENOMEM;
	result = js_eval(upgrade->engine, text, strlen(text), UPGRADE_OWN,
			 JS_EVAL_MODULE | JS_EVAL_COMPILE_ONLY);
	free(text);
	if (!result)
		code = exception_code(upgrade, "the new modules cannot be loaded");
	else
		js_free(upgrade->engine, result);
	return code;
}

static const struct heap_module *by_name(const struct heap_module *heap, unsigned count,
					 const char *name)
{
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(heap[i].name, name))
			return &heap[i];
	return NULL;
}

/* Where the imports of a module that stays lead now. */
static int retarget(struct upgrade *upgrade, struct heap_module *heap, unsigned count,
		    const struct heap_module *module)
{
	int code = 0;

	for (unsigned i = 0; i < module->request_count && !code; i++) {
		const struct heap_request *request = &module->requests[i];
		const struct heap_module *target = NULL, *before;
		struct thaw_error unused = {0};
		char *name = resolve_specifier(module->name, request->specifier, &unused);
		char *cut;

		code = upgrade_over(upgrade);
		if (name)
			target = by_name(heap, count, name);
		free(name);
		before = heap_modules_find(heap, count, request->target);
		cut = before ? strstr(before->name, UPGRADE_REPLACED) : NULL;
		if (!target && cut) { /* its file is gone meanwhile, but it was read */
			*cut = '\0';
			target = by_name(heap, count, before->name);
			*cut = UPGRADE_REPLACED[0];
		}
		/* The same file with other import attributes is another module. */
		if (!target || (before && !strcmp(target->name, before->name)))
			continue;
		heap_module_retarget(upgrade->engine, module->address, i, target->address);
	}
	return code;
}

/* ---- 2: linking ---- */

/* The name of each module that an import leads to, in the order of `targets`. */
static int name_targets(struct upgrade *upgrade, struct heap_module *heap, unsigned count,
			const uint32_t *targets, unsigned target_count)
{
	int code = 0;

	for (unsigned i = 0; i < target_count && !code; i++) {
		const struct heap_module *target = heap_modules_find(heap, count, targets[i]);

		code = add_name(upgrade, target ? target->name : "");
		if (!code)
			code = upgrade_over(upgrade);
	}
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].change == GUEST_CHANGED ||
		    upgrade->modules[i].change == GUEST_ADDED)
			code = add_name(upgrade, upgrade->modules[i].name);
	return code;
}

static char *link_text(struct upgrade *upgrade, struct heap_module *heap, unsigned count)
{
	const uint32_t *targets;
	unsigned target_count;
	char *imports = relink_text(upgrade->relink, UPGRADE_OWN "/", &targets, &target_count);
	char *text = NULL;
	size_t bytes;
	FILE *to;

	forget_names(upgrade);
	if (!imports || name_targets(upgrade, heap, count, targets, target_count)) {
		free(imports);
		return NULL;
	}
	to = open_memstream(&text, &bytes);
	if (to) {
		fprintf(to, "import \"" UPGRADE_FIRST "\"\n%s", imports);
		for (unsigned i = target_count; i < upgrade->name_count; i++)
			fprintf(to, "import \"" UPGRADE_OWN "/%u\"\n", i);
		if (fclose(to)) {
			free(text);
			text = NULL;
		}
	}
	free(imports);
	return text;
}

static uint32_t newest_own(struct js_engine *engine)
{
	struct heap_module *heap;
	uint32_t address = 0;
	unsigned count;

	if (heap_modules_read(engine, &heap, &count))
		return 0;
	for (unsigned i = 0; i < count; i++)
		if (!strcmp(heap[i].name, UPGRADE_OWN))
			address = heap[i].address;
	heap_modules_free(heap, count);
	return address;
}

/* The engine links it, and then the first module that it imports throws. */
static int link_text_in(struct upgrade *upgrade, const char *text)
{
	struct program *program = upgrade->program;
	js_value promise, exception = 0;
	uint32_t linked;
	int code;

	turn_begin(program);
	promise = js_eval(upgrade->engine, text, strlen(text), UPGRADE_OWN, JS_EVAL_MODULE);
	if (js_trapped(upgrade->engine))
		return upgrade_over(upgrade);
	if (!promise)
		exception = js_take_exception(upgrade->engine);
	linked = promise ? newest_own(upgrade->engine) : 0;
	relink_linked(upgrade->relink, linked);
	if (promise) {
		js_free(upgrade->engine, turn_ask(program, PRELUDE_WATCH, 1, &promise));
		promise = 0;
	}
	turn_end(program);
	code = exception ? hooks_thrown(upgrade, exception, "the new modules cannot be linked")
			 : upgrade_over(upgrade);
	return code || linked ? code : -ENOMEM;
}

static int link_modules(struct upgrade *upgrade)
{
	struct heap_module *heap;
	uint32_t *stay;
	unsigned count, stays = 0;
	char *text = NULL;
	int code = heap_modules_read(upgrade->engine, &heap, &count);

	stay = calloc(upgrade->count + 1, sizeof(*stay));
	if (!stay)
		code = -ENOMEM;
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].old && upgrade->modules[i].old == upgrade->modules[i].new)
			stay[stays++] = upgrade->modules[i].old;
	if (!code)
		code = relink_begin(upgrade->engine, stay, stays, &upgrade->relink);
	if (!code) {
		text = link_text(upgrade, heap, count);
		code = text ? 0 : -ENOMEM;
	}
	if (!code)
		code = link_text_in(upgrade, text);
	free(text);
	free(stay);
	heap_modules_free(heap, count);
	return code;
}

static bool anything_changed(const struct upgrade *upgrade)
{
	for (unsigned i = 0; i < upgrade->count; i++)
		if (upgrade->modules[i].change == GUEST_CHANGED)
			return true;
	return upgrade->name_count != 0;
}

/* What modules that stay import, and is another file now; before anything is renamed. */
static int find_all_moved(struct upgrade *upgrade)
{
	struct heap_module *heap;
	unsigned count;
	int code = heap_modules_read(upgrade->engine, &heap, &count);

	for (unsigned i = 0; i < count && !code; i++)
		for (unsigned j = 0; j < upgrade->count && !code; j++)
			if (upgrade->modules[j].old == heap[i].address &&
			    upgrade->modules[j].change == GUEST_SAME) {
				free(heap[i].name);
				heap[i].name = strdup(upgrade->modules[j].name);
				code = heap[i].name ? find_moved(upgrade, &heap[i]) : -ENOMEM;
			}
	heap_modules_free(heap, count);
	return code;
}

static int make_new(struct upgrade *upgrade)
{
	struct heap_module *heap;
	unsigned count;
	int code = plan_forget_sources(upgrade);

	if (!code)
		code = rename_modules(upgrade);
	if (!code)
		code = load(upgrade);
	if (!code)
		code = heap_modules_read(upgrade->engine, &heap, &count);
	if (code)
		return code;
	for (unsigned i = 0; i < upgrade->count && !code; i++) {
		struct upgrade_module *module = &upgrade->modules[i];
		const struct heap_module *at = heap_modules_find(heap, count, module->old);

		if (at && module->old == module->new && at->code)
			code = retarget(upgrade, heap, count, at);
		at = module->main ? by_name(heap, count, module->name) : NULL;
		if (at && !code)
			code = heap_module_meta(upgrade->engine, at->address, module->name, true);
	}
	heap_modules_free(heap, count);
	if (!code)
		code = plan_order(upgrade);
	return code ? code : link_modules(upgrade);
}

/* ---- 3: what is told, and refused ---- */

static char *copy_of(const char *text)
{
	return text ? strdup(text) : NULL;
}

/* As people name it, who know where the program is. */
static const char *short_name(const struct upgrade *upgrade, const char *name)
{
	const char *slash = upgrade->main ? strrchr(upgrade->main, '/') : NULL;
	size_t bytes = slash ? (size_t)(slash + 1 - upgrade->main) : 0;

	return bytes && !strncmp(name, upgrade->main, bytes) ? name + bytes : name;
}

static int tell_changes(struct upgrade *upgrade, struct guest_changes *changes)
{
	changes->list = calloc(upgrade->count + 1, sizeof(*changes->list));
	if (!changes->list)
		return -ENOMEM;
	for (unsigned i = 0; i < upgrade->count; i++) {
		const struct upgrade_module *module = &upgrade->modules[i];

		if (module->change == GUEST_SAME) {
			changes->unchanged++;
			continue;
		}
		changes->list[changes->count++] = (struct guest_change){
			.name = strdup(short_name(upgrade, module->name)),
			.kind = module->change,
			.hooks = copy_of(module->hooks),
			.state = copy_of(module->state),
			.timers = module->timers,
			.listeners = module->listeners,
		};
	}
	return 0;
}

static int refuse(struct upgrade *upgrade)
{
	for (unsigned i = 0; i < upgrade->count; i++) {
		const struct upgrade_module *module = &upgrade->modules[i];
		const char *name = short_name(upgrade, module->name);

		if (module->change != GUEST_CHANGED && module->change != GUEST_REMOVED)
			continue;
		if (module->declines)
			return failure(upgrade->error, -ECANCELED,
				       "%s has called import.meta.hot.decline(): it must not be "
				       "replaced (--force does so all the same)",
				       name);
		if (module->hooks || (!module->state && !module->timers && !module->listeners))
			continue;
		return failure(
			upgrade->error, -ECANCELED,
			"%s has state (%s%s%s), and says nothing about it: add 'export function "
			"upgrade(old)' to take it over, or import.meta.hot.accept() if it can go; --force lets it go",
			name, module->state ? module->state : "",
			module->state && (module->timers || module->listeners) ? ", " : "",
			module->timers	    ? "timers"
			: module->listeners ? "listeners"
					    : "");
	}
	return 0;
}

/* ---- 8: the end of the old ones ---- */

static int drop(struct upgrade *upgrade)
{
	struct heap_module *heap;
	uint32_t *list;
	unsigned count, dropped = 0;
	int code = heap_modules_read(upgrade->engine, &heap, &count);

	if (code)
		return code;
	list = calloc(count + 1, sizeof(*list));
	for (unsigned i = 0; i < count && list; i++) {
		const char *name = heap[i].name;
		bool ours = plan_leaves_out(name);
		bool check = upgrade->check && !strcmp(name, upgrade->check);

		for (unsigned j = 0; j < upgrade->count && !ours; j++) {
			const struct upgrade_module *module = &upgrade->modules[j];

			if (module->new == heap[i].address)
				check = false; /* it is a module of the program's, too */
			ours = module->change == GUEST_REMOVED &&
			       (module->old == heap[i].address ||
				module->unused == heap[i].address);
		}
		ours |= check;
		if (ours)
			list[dropped++] = heap[i].address;
	}
	heap_modules_free(heap, count);
	if (!list)
		return -ENOMEM;
	heap_modules_drop(upgrade->engine, list, dropped);
	free(list);
	for (unsigned i = 0; i < upgrade->count; i++) {
		const struct upgrade_module *module = &upgrade->modules[i];
		bool removed = module->change == GUEST_REMOVED;

		if (removed || module->change == GUEST_CHANGED)
			js_free(upgrade->engine, hooks_ask(upgrade, "forget", module->name,
							   js_bool(upgrade->engine, removed)));
	}
	js_gc(upgrade->engine);
	return upgrade_over(upgrade);
}

static void note_main(void *arg, const struct js_source *source)
{
	struct js_script *script = arg;

	if (strcmp(source->path, script->path))
		return;
	script->bytes = source->bytes;
	script->mtime_ns = source->mtime_ns;
	memcpy(script->hash, source->hash, sizeof(script->hash));
}

/* The main module as it was loaded, for the next start. */
static int note_script(struct upgrade *upgrade)
{
	struct js_script *script = &upgrade->program->blob.script;
	char *path;

	if (!upgrade->main)
		return 0;
	path = strdup(upgrade->main);
	if (!path)
		return -ENOMEM;
	free(script->path);
	script->path = path;
	return js_sources(upgrade->engine, note_main, script);
}

/* ---- All of it ---- */

/* Effects of new code are others, also where an upgrade fails and is tried again with other code. */
static void begin_branch(struct upgrade *upgrade)
{
	XXH3_state_t *state = XXH3_createState();
	XXH128_hash_t hash = {0, 0};

	if (state)
		XXH3_128bits_reset(state);
	for (unsigned i = 0; i < upgrade->count && state; i++) {
		const struct upgrade_module *module = &upgrade->modules[i];
		char *path = module_path(module->name);
		size_t bytes = 0;
		char *text = path && module->change != GUEST_SAME && path[0] == '/'
				     ? resolve_read_file(path, &bytes)
				     : NULL;

		if (text) {
			XXH3_128bits_update(state, module->name, strlen(module->name) + 1);
			XXH3_128bits_update(state, text, bytes);
		}
		free(text);
		free(path);
	}
	if (state)
		hash = XXH3_128bits_digest(state);
	XXH3_freeState(state);
	owner_branches_by(upgrade->program->guest.owner, &hash, sizeof(hash));
}

static int run(struct upgrade *upgrade)
{
	uint32_t *replaced = calloc(upgrade->count + 1, sizeof(*replaced));
	unsigned count = 0;
	int code = replaced ? hooks_dispose(upgrade) : -ENOMEM;

	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].change == GUEST_CHANGED)
			replaced[count++] = upgrade->modules[i].old;
	if (!code)
		relink_apply(upgrade->relink, replaced, count);
	free(replaced);
	if (!code)
		code = hooks_evaluate(upgrade);
	if (!code)
		code = hooks_accept(upgrade);
	if (!code && upgrade->options->check)
		code = hooks_check(upgrade, upgrade->options->check);
	if (!code)
		code = drop(upgrade);
	return code ? code : note_script(upgrade);
}

/* Whoever asks for a check has it, whatever is to be checked. */
static int check_unchanged(struct upgrade *upgrade)
{
	int code = hooks_check(upgrade, upgrade->options->check);

	return code ? code : drop(upgrade);
}

static void upgrade_free(struct upgrade *upgrade)
{
	upgrade->program->upgrade = NULL;
	for (unsigned i = 0; i < upgrade->count; i++) {
		free(upgrade->modules[i].name);
		free(upgrade->modules[i].hooks);
		free(upgrade->modules[i].state);
	}
	forget_names(upgrade);
	free(upgrade->names);
	free(upgrade->modules);
	free(upgrade->order);
	free(upgrade->main);
	free(upgrade->old_main);
	free(upgrade->check);
	relink_free(upgrade->relink);
}

int upgrade_program(struct guest *guest, const struct guest_upgrade *options,
		    struct guest_changes *changes, struct thaw_error *error)
{
	struct program *program = program_of(guest);
	struct upgrade upgrade = {
		.program = program, .engine = program->engine, .options = options, .error = error};
	int code;

	error->code = 0;
	error->text[0] = '\0';
	if (js_context_count(program->engine) > 1)
		return failure(
			error, -ENOTSUP,
			"the program has several contexts: only one with a single one can be upgraded");
	program->upgrade = &upgrade;
	code = plan_main(&upgrade);
	if (!code)
		code = plan_read(&upgrade);
	if (!code)
		code = find_all_moved(&upgrade);
	if (!code && !anything_changed(&upgrade)) {
		code = tell_changes(&upgrade, changes);
		if (!code && options->check && !options->dry_run)
			code = check_unchanged(&upgrade);
		upgrade_free(&upgrade);
		return code ? code : GUEST_UNCHANGED;
	}
	if (!code)
		code = make_new(&upgrade);
	if (!code)
		code = hooks_look(&upgrade);
	if (!code)
		code = tell_changes(&upgrade, changes);
	if (!code && !options->force)
		code = refuse(&upgrade);
	if (!code && !options->dry_run) {
		begin_branch(&upgrade);
		code = run(&upgrade);
	}
	/* A call in it that failed may not have known why. */
	if (code && !error->text[0] && !upgrade_over(&upgrade))
		failure(error, code, "%s", thaw_strerror(code));
	upgrade_free(&upgrade);
	return code;
}
