/* SPDX-License-Identifier: MIT */
/* lock.h - who may write to an image: one process at a time. See lock.c. */
#ifndef UFFD_LOCK_H
#define UFFD_LOCK_H

#include "error.h"

/*
 * Take it for a descriptor that can write, if no other process may write. -EWOULDBLOCK: another
 * may; -errno.
 */
int lock_take(int fd);
/* The same; THAW_EINUSE, with a message that names the holder. */
int lock_image(int fd, const char *path, struct thaw_error *error);
/* For files that stay open. */
void lock_release(int fd);

/* Does another process hold it? Any descriptor. */
bool lock_is_held(int fd);
/* Its holder's pid; 0: none, or not visible. */
uint64_t lock_holder(int fd);

#endif
