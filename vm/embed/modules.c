/* SPDX-License-Identifier: MIT */
/*
 * modules.c - what a program in a VM imports: the host says what a name means (options.resolve_module) and gives the text; where it
 * does not say, ./ and ../ are of the module that imports.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "embed.h"
#include "js/modules/resolve.h"

static struct thaw_vm *vm_of(void *program)
{
	return (struct thaw_vm *)((struct program *)program)->guest.owner;
}

/* What no ../ leaves: "https://host/", "/", or nothing. */
static size_t root_bytes(const char *name)
{
	const char *scheme = strstr(name, "://"), *slash = scheme ? strchr(scheme + 3, '/') : NULL;

	if (scheme)
		return slash ? (size_t)(slash - name) + 1 : strlen(name);
	return name[0] == '/';
}

/* "app/lib/b.js" for "../lib/b.js" in "app/src/a.js". NULL: no memory. */
static char *join(const char *base, const char *specifier)
{
	const size_t root = root_bytes(base);
	const char *slash = strrchr(base + root, '/');
	size_t used = slash ? (size_t)(slash - base) + 1 : root;
	char *name = malloc(used + strlen(specifier) + 2);

	if (!name)
		return NULL;
	memcpy(name, base, used);
	if (used && name[used - 1] != '/' && root == used) /* a host without a path */
		name[used++] = '/';
	for (const char *part = specifier, *end; part; part = *end ? end + 1 : NULL) {
		end = strchrnul(part, '/');
		if (end - part == 2 && !strncmp(part, "..", 2)) {
			for (used -= used > root; used > root && name[used - 1] != '/';)
				used--;
		} else if (end - part != 1 || *part != '.') {
			memcpy(name + used, part, (size_t)(end - part));
			used += (size_t)(end - part);
			if (*end)
				name[used++] = '/';
		}
	}
	name[used] = '\0';
	return name;
}

char *modules_resolve(void *program, const char *base, const char *specifier,
		      struct thaw_error *error)
{
	struct thaw_vm *vm = vm_of(program);
	char *name;

	if (!strcmp(specifier, "thaw") && !js_context_current(vm_engine(vm)))
		return strdup(specifier);
	if (vm->options.resolve_module) {
		name = vm->options.resolve_module(vm->options.arg, base, specifier);
		vm_interrupted(vm);
		if (!name)
			failure(error, -ENOENT, "%s cannot import %s: there is no such module",
				base, specifier);
		return name;
	}
	name = !strncmp(specifier, "./", 2) || !strncmp(specifier, "../", 3) ? join(base, specifier)
									     : strdup(specifier);
	if (!name)
		failure(error, -ENOMEM, "out of memory");
	return name;
}

char *modules_load(void *program, const char *name, size_t *bytes, struct thaw_error *error)
{
	struct thaw_vm *vm = vm_of(program);
	char *text = NULL;

	if (!strcmp(name, "thaw") && !js_context_current(vm_engine(vm))) /* the guest's own */
		return resolve_load(name, bytes, error);
	if (vm->options.load_module)
		text = vm->options.load_module(vm->options.arg, name, bytes);
	vm_interrupted(vm);
	if (!text)
		failure(error, -ENOENT, "there is no module %s", name);
	return text;
}
