/* SPDX-License-Identifier: MIT */
/*
 * proc_files.h - files under /proc/PID that every stop reads: opened once, and read from their beginning each time,
 * which takes a third of the time.
 *
 * A descriptor is of that process, or that thread, for ever: when it has ended, reads fail (ESRCH), also where another one
 * has its number by then. A few (maps) are of the memory that there was when they were opened: a process that becomes
 * another program is another one here, proc_files_close(). The owner's thread.
 */
#ifndef VM_PROCESS_PROC_FILES_H
#define VM_PROCESS_PROC_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum proc_file { /* of the process */
		 PROC_STATUS,
		 PROC_STAT,
		 PROC_MAPS,
		 PROC_AUXV,
		 PROC_OOM,
		 PROC_TIMERS,
		 PROC_FILES
};

/* Threads whose files stay open; those of others are opened each time. */
#define PROC_TASKS 32u

struct proc_files {
	pid_t pid; /* 0: nothing is open */
	struct {
		int fd; /* -1: it could not be opened, or is not yet */
		char *text;
		size_t room, bytes;
		bool fresh; /* text is what is there now: proc_files_stale() */
	} files[PROC_FILES];
	int tasks; /* the directory /proc/PID/task; -1 */
	struct {
		int32_t tid;
		int fd; /* its file syscall */
	} list[PROC_TASKS];
	unsigned count;
};

/* Of this process: what was open of another one is closed. */
void proc_files_of(struct proc_files *files, pid_t pid);
void proc_files_close(struct proc_files *files);

/* Read anew, terminated, and the caller's until the next time; NULL: -errno is in *error. */
char *proc_files_read(struct proc_files *files, enum proc_file file, size_t *bytes, int *error);
/* As above; or as it was read last, if nothing was stale since. */
char *proc_files_known(struct proc_files *files, enum proc_file file, size_t *bytes, int *error);
/* What was read may have changed. */
void proc_files_stale(struct proc_files *files);

/* The directory of the threads; -errno. */
int proc_files_tasks(struct proc_files *files);
/* What is in the thread's file syscall; terminated. Bytes, or -1: it cannot be read. */
ssize_t proc_files_syscall(struct proc_files *files, int32_t tid, char *text, size_t room);

#endif
