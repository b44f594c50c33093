/* SPDX-License-Identifier: MIT */
/*
 * libcrypto.c - loads libcrypto (libcrypto.h). It stays loaded.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#include "libcrypto.h"

#define LIBRARY "libcrypto.so.3" /* the ABI that the headers describe */

struct crypto_api crypto_api;

bool libcrypto_load(char *why, unsigned room)
{
	static const char *const names[] = {
#define NAME(name) #name,
		CRYPTO_FUNCTIONS(NAME)
#undef NAME
	};
	static bool loaded;
	void *library;

	_Static_assert(sizeof(names) / sizeof(names[0]) * sizeof(void *) == sizeof(crypto_api),
		       "the table is function pointers only");
	if (loaded)
		return true;
	library = dlopen(LIBRARY, RTLD_NOW | RTLD_LOCAL);
	if (!library) {
		snprintf(why, room, "crypto.subtle needs %s, which cannot be loaded: %s", LIBRARY,
			 dlerror());
		return false;
	}
	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		void *function = dlsym(library, names[i]);

		if (!function) {
			snprintf(why, room,
				 "crypto.subtle needs %s of %s, which lacks it: it is too old",
				 names[i], LIBRARY);
			return false;
		}
		memcpy((char *)&crypto_api + i * sizeof(function), &function, sizeof(function));
	}
	loaded = true;
	return true;
}
