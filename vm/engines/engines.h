/* SPDX-License-Identifier: MIT */
/*
 * engines.h - engines other than the one of this build, each a shared object (object/entry.c): with them, images of an
 * engine from before are gone on with.
 *
 * An object is called by a hash of what the engine is called in images. It is looked for in THAW_ENGINES, or, without that,
 * where the program lies: in engines/ (a build directory), then in ../lib/thaw/engines/ (installed); or where the library
 * libthawvm lies: in engines/, thaw/engines/, and ../thaw/engines/ (Debian's). Nothing that an image says becomes part of a
 * path, and no object is loaded that another than root or this user could have written.
 */
#ifndef VM_ENGINES_H
#define VM_ENGINES_H

#include <limits.h>

#include "guest.h"

struct vm_table; /* vm/embed/table.h */

/*
 * The guest of that engine, there as long as the process is. THAW_EENGINE: there is no object of it, or none that may be
 * loaded; `error` says where it was looked for, and why not. `path`, if not NULL: where it is from, as long as the process is.
 */
int engines_load(const char *identity, const struct guest_type **guest, const char **path,
		 struct thaw_error *error);
/* The functions of libthawvm in it, where that is what loads it. Of a process only this or engines_load() is used. */
int engines_load_vm(const char *identity, const struct vm_table **table, struct thaw_error *error);
/* An object that is there. */
struct engines_found {
	char path[PATH_MAX + 32];
	char identity[64];     /* empty: not known, since it was not loaded */
	unsigned abi;	       /* with `identity`: GUEST_ABI of those that it is made for */
	struct thaw_error why; /* why it cannot be used; code 0: it can */
};
/* All of them, where engines_load() looks; those that may be are loaded. `visit` must not call anything here. */
void engines_list(void (*visit)(void *arg, const struct engines_found *found), void *arg);
/* guest_type.left_threads of those that were loaded. */
bool engines_left_threads(void);

/* The file of that engine, below the directory. */
#define ENGINES_FILE_BYTES 20
void engines_file(const char *identity, char file[ENGINES_FILE_BYTES]);

#endif
