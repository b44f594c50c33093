/* SPDX-License-Identifier: MIT */
/* place_file.h - the file that an image of a store is placed in: where it is, whose it is, and whether it can have holes. */
#ifndef VM_STORE_PLACE_FILE_H
#define VM_STORE_PLACE_FILE_H

#include <stdbool.h>
#include <stdint.h>

#include "thaw.h"

/* Where the image of that store is placed if nobody says so: malloc'ed, the folder is made. */
int place_file_default(const char *place, char **path, struct thaw_error *error);
/*
 * The file, made if there is none (`made`), locked against others that would place or fill it: the descriptor, or THAW_EINUSE,
 * -errno. The lock goes with the descriptor; the image's own is another.
 */
int place_file_open(const char *path, bool *made, struct thaw_error *error);
/* THAW_EINUSE: a process has that image open, one that does not lock it so; else 0, also if it is no image. */
int place_file_unused(const char *path, struct thaw_error *error);
/*
 * A new file beside `path`, without a name where the file system can do that, else with one: `name`, malloc'ed. The descriptor,
 * or -errno.
 */
int place_file_scratch(const char *path, char **name);
/*
 * Is a hole of a file beside `path`, of so many bytes, told from data, each block for itself? 1; 0: this file system does not;
 * -errno: it is not known.
 */
int place_file_holes(const char *path, uint64_t bytes);
/* Has that file one? 1; 0: all of it is data, as far as the file system tells; -errno. */
int place_file_has_hole(int fd);
/* Is the first byte of it data? If not, nothing was ever opened in it. -errno. */
int place_file_begun(int fd);
/*
 * What has this name, and IMAGE.store, get another one, which is free: `aside`, malloc'ed.
 */
int place_file_aside(const char *path, char **aside, struct thaw_error *error);
/*
 * The newest generation that it has, also one that only its log has. 0: none. May commit (thaw_image_settle()): only if it
 * is the caller's to continue.
 */
int place_file_newest(const char *path, uint64_t wanted, uint64_t *generation,
		      struct thaw_error *error);

#endif
