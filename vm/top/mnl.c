// SPDX-License-Identifier: MIT
/*
 * mnl.c - loads libmnl. Called by netlink_open() before anything else of the table is used; the
 * library stays loaded.
 */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/failure.h"
#include "top/mnl.h"

#define LIBRARY "libmnl.so.0" /* the ABI that libmnl.h describes */

struct mnl mnl;

int mnl_load(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "mnl_" #name,
		MNL_FUNCTIONS(NAME)};
	void *library;

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(mnl),
		       "the table is function pointers only");
	if (mnl.socket_open2)
		return 0;
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return failure(error, -ENOENT,
			       "%s cannot be loaded: %s; install it (Debian: apt install libmnl0)",
			       LIBRARY, dlerror());
	/* From the last to the first one, socket_open2, which is the sign that all are there. */
	for (size_t i = sizeof(names) / sizeof(names[0]); i-- > 0;) {
		void *function = dlsym(library, names[i]);

		if (!function)
			return failure(error, -ENOENT,
				       "%s lacks %s: it is too old (1.0.4 is needed)", LIBRARY,
				       names[i]);
		memcpy((char *)&mnl + i * sizeof(function), &function, sizeof(function));
	}
	return 0;
}
