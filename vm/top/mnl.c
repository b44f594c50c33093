// SPDX-License-Identifier: MIT
/*
 * mnl.c - loads libmnl. Called by netlink_open() before anything else of the table is used; the
 * library stays loaded.
 */
#include "base/library.h"
#include "top/mnl.h"

struct mnl mnl;

int mnl_load(struct thaw_error *error)
{
	static const char *const names[] = {
#define NAME(name) "mnl_" #name,
		MNL_FUNCTIONS(NAME)};
	static const struct library library = {
		.file = "libmnl.so.0", /* the ABI that libmnl.h describes */
		.package = "libmnl0",
		.least = "1.0.4",
		.names = names,
		.count = sizeof(names) / sizeof(names[0]),
	};

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(mnl),
		       "the table is function pointers only");
	return library_load(&library, &mnl, error);
}
