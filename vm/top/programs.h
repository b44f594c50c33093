/* SPDX-License-Identifier: MIT */
/*
 * programs.h - finds the running Thaw programs of the machine, without asking them: processes that
 * hold an image locked for writing (uffd/image/lock.c). One thread.
 *
 * Only files that are locked like an image are ever opened, for reading, and through /proc/PID/fd:
 * so they are the very files that the programs have open, whatever their names refer to by now.
 */
#ifndef VM_TOP_PROGRAMS_H
#define VM_TOP_PROGRAMS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "locks.h"
#include "process.h"

enum image_place {
	IMAGE_UNKNOWN, /* not known: it may not be looked at, or has no name where it was made */
	IMAGE_NAMED,   /* `path` leads to it */
	IMAGE_REMOVED, /* it has no name any more; `path` is the last one that is known */
};

/* A process and one image. A process that has several images open is several programs. */
struct running_program {
	uint64_t serial; /* never used again */
	struct process process;
	uid_t user;
	char *command; /* NULL: not known */
	int descriptor; /* the image's, in that process; -1: this user may not look into the process */
	enum image_place place;
	char *path; /* any bytes; NULL: not known */
	char *link; /* what /proc/PID/fd says; NULL: not known */
	/* The image file as stat(2) has it; 0: not known. */
	dev_t device;
	ino_t inode;

	/* The finder's. */
	struct lock_file file;
	bool listed; /* /proc/locks tells its process */
};

struct programs {		       /* all zero: nothing was looked at yet */
	struct running_program **list; /* in the order in which they were found; they never move */
	size_t count, room;
	uint64_t serial;
	struct locks locks;
	struct lock_file *unexplained; /* marks without a process that was found */
	size_t unexplained_count, unexplained_room;
};

/* Look again: programs that have ended are freed. 0; -ENOMEM; -errno: /proc cannot be read. */
int programs_update(struct programs *programs);
void programs_free(struct programs *programs);
/* "/proc/PID/fd/N": the image of a program that may be looked into. */
void program_image(const struct running_program *program, char path[64]);

#endif
