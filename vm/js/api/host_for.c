/* SPDX-License-Identifier: MIT */
/*
 * host_for.c - what the engine is given on behalf of a program: the bindings of host.c, modules by name, interruption, and
 * what becomes of rejections. The owner's thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "host.h"
#include "js/modules/module_name.h"
#include "js/modules/resolve.h"
#include "js/modules/sources.h"
#include "js/modules/typescript.h"
#include "js/program/excerpt.h"
#include "js/program/program.h"
#include "js/upgrade/upgrade.h"

static char *module_resolve(void *arg, const char *base, const char *specifier,
			    struct thaw_error *error)
{
	struct program *program = arg;
	char *name;

	if (program->upgrade && !strncmp(specifier, UPGRADE_OWN, strlen(UPGRADE_OWN)))
		return upgrade_resolve(program->upgrade, specifier);
	name = resolve_specifier(base, specifier, error);
	/* Its file may be gone and its module in the heap; if it is not, loading says so. */
	if (!name && program->restored && !program->upgrade &&
	    (error->code == -ENOENT || error->code == -ENOTDIR))
		name = resolve_lexically(base, specifier);
	return name;
}

/* Looked at before it is read: if it changes meanwhile, it will seem to have changed, and is compared. */
static char *module_load(void *arg, const char *name, size_t *bytes, struct thaw_error *error)
{
	struct program *program = arg;
	struct stat status;
	char *path, *text;
	bool file;

	if (program->upgrade && !strcmp(name, UPGRADE_FIRST))
		return upgrade_load(bytes);
	path = module_path(name);
	file = path && path[0] == '/' && !stat(path, &status);
	text = resolve_load(name, bytes, error);

	if (text && file) {
		struct js_source source = {.path = path, .bytes = *bytes};

		source.mtime_ns =
			(int64_t)status.st_mtim.tv_sec * 1000000000 + status.st_mtim.tv_nsec;
		js_source_hash(text, *bytes, source.hash);
		js_source_remember(program->engine, &source);
		free(program->loaded.path);
		program->loaded.path = strdup(path);
		memcpy(program->loaded.hash, source.hash, sizeof(source.hash));
	}
	free(path);
	return text && typescript_is(name) ? typescript_strip(name, text, bytes, error) : text;
}

static char *module_importer(void *arg, const char *base, const char *specifier)
{
	return excerpt_importer(arg, base, specifier);
}

struct js_host host_for(struct program *program)
{
	if (program->hosting)
		return (struct js_host){
			.arg = program,
			.bindings = program->hosting->bindings,
			.interrupt = turn_interrupt,
			.call = program->hosting->call,
			.rejection = turn_rejection,
			.module_resolve = program->hosting->resolve,
			.module_load = program->hosting->load,
			.survives = true,
		};
	return (struct js_host){
		.arg = program,
		.bindings = host_bindings,
		.interrupt = turn_interrupt,
		.rejection = turn_rejection,
		.module_resolve = module_resolve,
		.module_load = module_load,
		.module_importer = module_importer,
	};
}
