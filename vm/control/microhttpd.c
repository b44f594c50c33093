/* SPDX-License-Identifier: MIT */
/* microhttpd.c - loads libmicrohttpd, which stays loaded. */
#include <dlfcn.h>
#include <errno.h>
#include <string.h>

#include "base/failure.h"
#include "control/microhttpd.h"

#define LIBRARY "libmicrohttpd.so.12" /* the ABI that microhttpd.h describes */

struct microhttpd microhttpd;

int microhttpd_load(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "MHD_" #name,
		MICROHTTPD_FUNCTIONS(NAME)};
	void *library;

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(microhttpd),
		       "the table is function pointers only");
	if (microhttpd.start_daemon)
		return 0;
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!library)
		return failure(
			error, -ENOENT,
			"%s cannot be loaded: %s; install it (Debian: apt install libmicrohttpd12)",
			LIBRARY, dlerror());
	/* From the last to the first one, start_daemon, which is the sign that all are there. */
	for (size_t i = sizeof(names) / sizeof(names[0]); i-- > 0;) {
		void *function = dlsym(library, names[i]);

		if (!function)
			return failure(error, -ENOENT, "%s lacks %s", LIBRARY, names[i]);
		memcpy((char *)&microhttpd + i * sizeof(function), &function, sizeof(function));
	}
	return 0;
}
