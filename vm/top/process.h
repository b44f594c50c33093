/* SPDX-License-Identifier: MIT */
/*
 * process.h - what /proc tells everybody of one process (proc_pid_stat(5)). Any thread. Where /proc
 * is mounted with hidepid, processes of others do not exist.
 */
#ifndef VM_TOP_PROCESS_H
#define VM_TOP_PROCESS_H

#include <stdint.h>
#include <sys/types.h>

struct process {
	pid_t pid;
	uint64_t start_ticks; /* since boot: with the pid, no other process is ever the same */
	uint64_t faults;      /* page faults of all its threads, minor and major, since it began */
	uint64_t resident_bytes; /* of the whole process, as top(1) shows it */
};

/* 0; -ESRCH: there is none (any more); -errno. */
int process_read(pid_t pid, struct process *process);
/* A child of its main thread, the oldest one: what thaw exec runs. 0: it has none, or that is not known. */
pid_t process_child(pid_t pid);
/* Its effective user; (uid_t)-1: not known. */
uid_t process_user(pid_t pid);
/*
 * How it was called: its arguments with blanks between them, or its name in brackets if it shows
 * none. May hold any bytes. The caller frees it; NULL: no memory, or no process.
 */
char *process_command(pid_t pid);

#endif
