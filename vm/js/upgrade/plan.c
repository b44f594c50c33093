// SPDX-License-Identifier: MIT
/*
 * plan.c - which modules of a program changed since it loaded them, which come and go, and in which order the new ones are
 * evaluated (upgrade.h).
 *
 * Reads files; runs nothing of the program. A module whose file is gone, or is no regular file, stays as it is. A
 * program whose directory is another one now (a directory for each release, and a link that leads to the one in use) has
 * its modules there: they are renamed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/array.h"
#include "base/failure.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"
#include "js/modules/sources.h"
#include "upgrade.h"

/* ---- What was loaded, and what is there now ---- */

struct loaded {
	struct js_source *list;
	unsigned count;
	size_t room;
	bool failed;
};

static void note_source(void *arg, const struct js_source *source)
{
	struct loaded *loaded = arg;
	struct js_source *more;

	if (loaded->failed)
		return;
	more = array_grow(loaded->list, loaded->count, &loaded->room, sizeof(*more));
	loaded->failed = !more;
	if (!more)
		return;
	loaded->list = more;
	more = &loaded->list[loaded->count];
	*more = *source;
	more->path = strdup(source->path);
	loaded->failed = !more->path;
	loaded->count += !loaded->failed;
}

static void loaded_free(struct loaded *loaded)
{
	for (unsigned i = 0; i < loaded->count; i++)
		free((char *)loaded->list[i].path);
	free(loaded->list);
}

static int loaded_read(struct upgrade *upgrade, struct loaded *loaded)
{
	const struct js_script *script = &upgrade->program->blob.script;
	struct js_source main = {.bytes = script->bytes, .mtime_ns = script->mtime_ns};
	int code;

	*loaded = (struct loaded){0};
	code = js_sources(upgrade->engine, note_source, loaded);
	if (!code && script->path) {
		main.path = script->path;
		memcpy(main.hash, script->hash, sizeof(main.hash));
		note_source(loaded, &main);
	}
	return code ? code : loaded->failed ? -ENOMEM : 0;
}

static enum guest_change_kind compare(const struct loaded *loaded, const char *before,
				      const char *now)
{
	bool known = false, same = false;
	uint8_t hash[16];
	size_t bytes;
	char *text = resolve_is_file(now) ? resolve_read_file(now, &bytes) : NULL;

	if (!text)
		return GUEST_GONE;
	js_source_hash(text, bytes, hash);
	free(text);
	for (unsigned i = 0; i < loaded->count && !same; i++) {
		const struct js_source *source = &loaded->list[i];

		if (strcmp(source->path, before))
			continue;
		known = true;
		same = source->bytes == bytes && !memcmp(source->hash, hash, sizeof(hash));
	}
	return known && !same ? GUEST_CHANGED : GUEST_SAME;
}

/* ---- Where it lies now ---- */

/* /a/first/lib/app.js, /b/second/lib/app.js: how much of each is not the same at the end. */
static void differing(const char *before, const char *now, size_t *before_bytes, size_t *now_bytes)
{
	size_t i = strlen(before), j = strlen(now), cut_i = i, cut_j = j;

	while (i && j && before[i - 1] == now[j - 1]) {
		i--, j--;
		if (before[i] == '/') {
			cut_i = i;
			cut_j = j;
		}
	}
	*before_bytes = cut_i;
	*now_bytes = cut_j;
}

/* The name that a module has where the program lies now; malloc'ed. */
static char *present_name(const struct upgrade *upgrade, const char *name)
{
	char *path = module_path(name), *moved = NULL, *result;
	const char *suffix = name[0] == '/' ? "" : name + module_suffix(name);
	size_t before, now;
	struct stat status;

	if (!path || !upgrade->main || !strcmp(upgrade->main, upgrade->old_main)) {
		free(path);
		return strdup(name);
	}
	differing(upgrade->old_main, upgrade->main, &before, &now);
	if (path[0] == '/' && !strncmp(path, upgrade->old_main, before) && path[before] == '/' &&
	    asprintf(&moved, "%.*s%s", (int)now, upgrade->main, path + before) < 0)
		moved = NULL;
	result = moved && !stat(moved, &status) ? module_name(moved, suffix) : strdup(name);
	free(moved);
	free(path);
	return result;
}

/* Is its file there? Nothing that the program has can stand in for it. */
static int find_file(struct upgrade *upgrade, const char *path)
{
	struct stat status;
	int reason = stat(path, &status)	? errno
		     : S_ISDIR(status.st_mode)	? EISDIR
		     : !S_ISREG(status.st_mode) ? EINVAL
		     : access(path, R_OK)	? errno
						: 0;

	if (!reason)
		return 0;
	return failure(upgrade->error, -ENOENT, "cannot read %s: %s", path,
		       reason == EINVAL ? "it is no file" : strerror(reason));
}

int plan_main(struct upgrade *upgrade)
{
	const struct program *program = upgrade->program;
	const char *before = program->blob.script.path, *asked = program->options.script;
	int code;

	if (!before)
		return 0;
	code = find_file(upgrade, asked ? asked : before);
	if (code)
		return code;
	upgrade->old_main = strdup(before);
	upgrade->main = asked ? realpath(asked, NULL) : strdup(before);
	return upgrade->main && upgrade->old_main ? 0 : -ENOMEM;
}

/* ---- The list ---- */

struct upgrade_module *plan_find(struct upgrade *upgrade, const char *name)
{
	for (unsigned i = 0; i < upgrade->count; i++)
		if (!strcmp(upgrade->modules[i].name, name) &&
		    upgrade->modules[i].change != GUEST_REMOVED)
			return &upgrade->modules[i];
	return NULL;
}

static struct upgrade_module *add(struct upgrade *upgrade, char *name)
{
	struct upgrade_module *more =
		name ? array_grow(upgrade->modules, upgrade->count, &upgrade->room, sizeof(*more))
		     : NULL;

	if (!more) {
		free(name);
		return NULL;
	}
	upgrade->modules = more;
	more = &more[upgrade->count++];
	*more = (struct upgrade_module){.name = name};
	return more;
}

/* ---- Who imports whom ---- */

struct graph {
	struct upgrade *upgrade;
	struct heap_module *heap;
	unsigned heap_count;
	bool *seen; /* by index in `heap` */
	bool ordered;
};

static int index_of(const struct graph *graph, uint32_t address)
{
	const struct heap_module *at = heap_modules_find(graph->heap, graph->heap_count, address);

	return at ? (int)(at - graph->heap) : -1;
}

static struct upgrade_module *new_module(const struct graph *graph, uint32_t address)
{
	for (unsigned i = 0; i < graph->upgrade->count; i++)
		if (graph->upgrade->modules[i].new == address)
			return &graph->upgrade->modules[i];
	return NULL;
}

static void note_visited(const struct graph *graph, uint32_t address)
{
	struct upgrade *upgrade = graph->upgrade;
	const struct upgrade_module *module = graph->ordered ? new_module(graph, address) : NULL;

	if (module && module->new != module->old)
		upgrade->order[upgrade->order_count++] = (unsigned)(module - upgrade->modules);
}

/* What it imports comes first, as the engine has it. However deep that is: the path is in memory. */
static int visit(struct graph *graph, uint32_t address)
{
	struct step {
		unsigned index, request;
	} *path = calloc(graph->heap_count + 1, sizeof(*path));
	unsigned depth = 0;
	int index = index_of(graph, address), code = path ? 0 : -ENOMEM;

	while (!code) {
		const struct heap_module *heap;

		if (index >= 0 && !graph->seen[index]) {
			graph->seen[index] = true;
			path[depth++] = (struct step){(unsigned)index, 0};
		}
		if (!depth)
			break;
		heap = &graph->heap[path[depth - 1].index];
		index = -1;
		if (path[depth - 1].request < heap->request_count)
			index = index_of(graph, heap->requests[path[depth - 1].request++].target);
		else
			note_visited(graph, graph->heap[path[--depth].index].address);
		code = upgrade_over(graph->upgrade);
	}
	free(path);
	return code;
}

static int read_module(struct upgrade *upgrade, const struct loaded *loaded,
		       const struct heap_module *heap)
{
	struct upgrade_module *module = add(upgrade, present_name(upgrade, heap->name));
	char *before = module_path(heap->name), *now = module ? module_path(module->name) : NULL;
	int code = module && before && now ? 0 : -ENOMEM;

	if (!code) {
		module->old = module->new = heap->address;
		module->code = heap->code;
		module->own = before[0] != '/';
		module->change = module->own ? GUEST_SAME : compare(loaded, before, now);
		module->main = upgrade->main && !strcmp(module->name, upgrade->main);
	}
	if (!code)
		code = upgrade_over(upgrade);
	if (!code && heap->waits)
		code = failure(
			upgrade->error, -EBUSY,
			"the program is still starting: %s waits for a module that it imports, whose top-level await is not over",
			heap->name);
	free(before);
	free(now);
	return code;
}

/* What is replaced may be in the heap for longer: of an upgrade before this one. */
bool plan_leaves_out(const char *name)
{
	return strstr(name, UPGRADE_REPLACED) || !strncmp(name, UPGRADE_OWN, strlen(UPGRADE_OWN));
}

/* Which of them the main module imports, or what it imports, and so on. */
static int note_reached(struct upgrade *upgrade, struct heap_module *heap, unsigned count)
{
	struct graph graph = {.upgrade = upgrade, .heap = heap, .heap_count = count};

	int code = 0;

	graph.seen = calloc(count + 1, sizeof(bool));
	if (!graph.seen)
		return -ENOMEM;
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].main)
			code = visit(&graph, upgrade->modules[i].old);
	for (unsigned i = 0; i < upgrade->count; i++)
		upgrade->modules[i].reached = graph.seen[index_of(&graph, upgrade->modules[i].old)];
	free(graph.seen);
	return code;
}

int plan_read(struct upgrade *upgrade)
{
	struct heap_module *heap;
	struct loaded loaded;
	unsigned count;
	int code = heap_modules_read(upgrade->engine, &heap, &count);

	if (code)
		return code;
	code = loaded_read(upgrade, &loaded);
	for (unsigned i = 0; i < count && !code; i++)
		if (!plan_leaves_out(heap[i].name))
			code = read_module(upgrade, &loaded, &heap[i]);
	if (!code)
		code = note_reached(upgrade, heap, count);
	loaded_free(&loaded);
	heap_modules_free(heap, count);
	return code;
}

int plan_forget_sources(struct upgrade *upgrade)
{
	struct loaded loaded = {0};
	int code = js_sources(upgrade->engine, note_source, &loaded);

	if (!code && loaded.failed)
		code = -ENOMEM;
	if (!code)
		sources_forget(upgrade->engine, 0);
	for (unsigned i = 0; i < loaded.count && !code; i++) {
		struct upgrade_module *module = NULL;
		char *name = present_name(upgrade, loaded.list[i].path);

		code = name ? upgrade_over(upgrade) : -ENOMEM;
		for (unsigned j = 0; j < upgrade->count && name && !module; j++) {
			char *path = module_path(upgrade->modules[j].name);

			if (path && !strcmp(path, name) &&
			    upgrade->modules[j].change == GUEST_CHANGED)
				module = &upgrade->modules[j];
			free(path);
		}
		if (name && !module) {
			struct js_source source = loaded.list[i];

			source.path = name;
			js_source_remember(upgrade->engine, &source);
		}
		free(name);
	}
	loaded_free(&loaded);
	return code;
}

/* ---- The order, and what is not needed any more ---- */

static int note_added(struct upgrade *upgrade, const struct graph *graph)
{
	for (unsigned i = 0; i < graph->heap_count; i++) {
		const struct heap_module *heap = &graph->heap[i];
		struct upgrade_module *module = NULL;
		int code = upgrade_over(upgrade);

		if (code)
			return code;
		if (plan_leaves_out(heap->name))
			continue;
		for (unsigned j = 0; j < upgrade->count && !module; j++)
			if (!strcmp(upgrade->modules[j].name, heap->name))
				module = &upgrade->modules[j];
		if (!module) {
			module = add(upgrade, strdup(heap->name));
			if (!module)
				return -ENOMEM;
			module->change = GUEST_ADDED;
			module->code = heap->code;
		}
		if (module->change == GUEST_ADDED || module->change == GUEST_CHANGED)
			module->new = heap->address;
	}
	return 0;
}

/*
 * Those that the main module had imported, and nobody imports now. What import() has brought stays: the program may have
 * it in its hands, and what is Thaw's own serves others.
 */
static void note_removed(struct upgrade *upgrade, const struct graph *now)
{
	for (unsigned i = 0; i < upgrade->count; i++) {
		struct upgrade_module *module = &upgrade->modules[i];
		int index = index_of(now, module->new);

		if (index < 0 || module->own || !module->reached || now->seen[index])
			continue;
		if (module->change == GUEST_CHANGED) /* its new version is loaded, and not needed */
			module->unused = module->new;
		module->change = GUEST_REMOVED;
		module->new = 0;
	}
}

int plan_order(struct upgrade *upgrade)
{
	struct graph graph = {.upgrade = upgrade, .ordered = true};
	int code = heap_modules_read(upgrade->engine, &graph.heap, &graph.heap_count);

	if (code)
		return code;
	code = note_added(upgrade, &graph);
	graph.seen = calloc(graph.heap_count + 1, sizeof(bool));
	upgrade->order = calloc(upgrade->count + 1, sizeof(*upgrade->order));
	if (!code && (!graph.seen || !upgrade->order))
		code = -ENOMEM;
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (upgrade->modules[i].main)
			code = visit(&graph, upgrade->modules[i].new);
	for (unsigned i = 0; i < upgrade->count && !code; i++)
		if (!upgrade->modules[i].reached && upgrade->modules[i].old)
			code = visit(&graph, upgrade->modules[i].new);
	if (!code)
		note_removed(upgrade, &graph);
	free(graph.seen);
	heap_modules_free(graph.heap, graph.heap_count);
	return code;
}
