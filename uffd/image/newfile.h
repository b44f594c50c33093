/* SPDX-License-Identifier: MIT */
/* newfile.h - making an image before it has its name. See newfile.c. */
#ifndef UFFD_NEWFILE_H
#define UFFD_NEWFILE_H

#include <limits.h>

#include "store.h"

struct newfile {
	int fd; /* open for reading and writing, locked */
	const char *path;
	char temporary[PATH_MAX]; /* empty: it has no name yet */
	bool replaces;		  /* the file that is at `path` */
};

/* Remove what a killed process left of its new file for `path`. */
void newfile_sweep(const char *path);

/* An empty file in the directory of `path`, which is kept, mode 0600. -errno. */
int newfile_open(struct newfile *file, const char *path);
/* Where this process can open it once more. */
void newfile_path(const struct newfile *file, char path[static PATH_MAX]);

/*
 * Make it an image: write two records, from `at` on, with the generations and names of `record`,
 * and both slots, each valid on its own. Their sequences are the two above `sequence`, which is
 * above every generation. `note` may be NULL. Then sync the file.
 */
int newfile_seal(struct newfile *file, uint64_t at, const struct slot *identity, uint64_t sequence,
		 const struct record *record, const struct note *note);

/*
 * Durably give it its name; the descriptor stays open. -EEXIST: there is a file of that name. If the
 * directory cannot be synced it fails, and has its name all the same.
 */
int newfile_name(struct newfile *file);
/* The same in the place of the file that is open as `old`. -EAGAIN: another has the name, which stays. */
int newfile_replace(struct newfile *file, int old);
/* newfile_name(), and with nothing left in the end if it fails. */
int newfile_name_or_nothing(struct newfile *file, struct thaw_error *error);

/* Remove the name from that file, if the file has it; never from another file. */
void newfile_unmake(int fd, const char *path);

/* The file is not wanted. */
void newfile_drop(struct newfile *file);

/* Report that it could not be made. Returns code. */
int newfile_error(const char *path, int code, struct thaw_error *error);
/* The same of one that was opened; if it is to replace a file, that one is not blamed. */
int newfile_write_error(const struct newfile *file, int code, struct thaw_error *error);

/* -EEXIST with a message: the name is taken. For a check before long work. */
int newfile_free(const char *path, struct thaw_error *error);

#endif
