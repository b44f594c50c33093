/* SPDX-License-Identifier: MIT */
/* library.c - see library.h. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/failure.h"
#include "base/library.h"

static int lacks(const struct library *library, const char *name, struct thaw_error *error)
{
	if (!library->least)
		return failure(error, -ENOENT, "%s lacks %s", library->file, name);
	return failure(error, -ENOENT, "%s lacks %s: it is too old (%s is needed)", library->file,
		       name, library->least);
}

int library_load(const struct library *library, void *table, struct thaw_error *error)
{
	void *first, *loaded;

	memcpy(&first, table, sizeof(first));
	if (first)
		return 0;
	loaded = dlopen(library->file, RTLD_NOW | RTLD_LOCAL);
	if (!loaded)
		return failure(error, -ENOENT,
			       "%s cannot be loaded: %s; install it (Debian: apt install %s)",
			       library->file, dlerror(), library->package);
	for (size_t i = library->count; i-- > 0;) {
		void *function = dlsym(loaded, library->names[i]);

		if (!function)
			return lacks(library, library->names[i], error);
		memcpy((char *)table + i * sizeof(function), &function, sizeof(function));
	}
	return 0;
}
