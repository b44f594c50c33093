/* SPDX-License-Identifier: MIT */
/* microhttpd.c - loads libmicrohttpd, which stays loaded. */
#include "base/library.h"
#include "control/microhttpd.h"

struct microhttpd microhttpd;

int microhttpd_load(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "MHD_" #name,
		MICROHTTPD_FUNCTIONS(NAME)};
	static const struct library library = {
		.file = "libmicrohttpd.so.12", /* the ABI that microhttpd.h describes */
		.package = "libmicrohttpd12",
		.names = names,
		.count = sizeof(names) / sizeof(names[0]),
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(microhttpd),
		       "the table is function pointers only");
	return library_load(&library, &microhttpd, error);
}
