/* SPDX-License-Identifier: MIT */
/*
 * locks.h - the locks by which a program that writes an image is known (uffd/image/lock.c), as the
 * kernel lists them: all of the machine in /proc/locks, those of one descriptor in
 * /proc/PID/fdinfo. Any thread.
 */
#ifndef VM_TOP_LOCKS_H
#define VM_TOP_LOCKS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* The file of a lock. On some file systems the device is another one than stat(2) has. */
struct lock_file {
	unsigned major, minor;
	unsigned long long inode;
};

enum lock_kind {
	LOCK_OTHER,
	LOCK_FLOCK,	/* flock(), exclusive: what a writer of an image has */
	LOCK_MARK,	/* the open file's write lock of exactly the byte that marks a writer */
	LOCK_OVER_MARK, /* another lock over that byte, which keeps a writer from marking it */
};

struct lock {
	enum lock_kind kind;
	pid_t pid; /* of who took it; -1: not told (those of open files) */
	struct lock_file file;
};

struct locks { /* all zero: empty */
	struct lock *list;
	size_t count, room;
};

bool lock_file_same(const struct lock_file *a, const struct lock_file *b);
/*
 * All but LOCK_OTHER. Replaces what is in the list. 0; -ENOMEM; -errno: /proc/locks cannot be read.
 */
int locks_read(struct locks *locks);
/* Is there a lock of this kind on that file? */
bool locks_have(const struct locks *locks, enum lock_kind kind, const struct lock_file *file);
void locks_free(struct locks *locks);

/*
 * Has a descriptor of a process that can write its file one of the locks of a writer? `directory`
 * is of /proc/PID/fdinfo, `name` the number. `marked`: it has the mark.
 */
bool locks_of_descriptor(int directory, const char *name, struct lock_file *file, bool *marked);

#endif
