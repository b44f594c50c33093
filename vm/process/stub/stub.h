/* SPDX-License-Identifier: MIT */
/*
 * stub.h - what the files of the stub share. They are one shared object, preloaded into the program.
 *
 * Functions that are STUB_PUBLIC stand in front of libc's of the same name: the program and its libraries find them
 * first. Each does what libc's does, by libc's, but for the one thing that its comment says. They run on the program's
 * threads, as the program's code: also in its signal handlers, so they allocate nothing.
 */
#ifndef VM_PROCESS_STUB_STUB_H
#define VM_PROCESS_STUB_STUB_H

#include <stdbool.h>
#include <sys/types.h>

#include "process/stub/control.h"

/* Everything else is hidden. */
#define STUB_PUBLIC __attribute__((visibility("default")))

#define CONTROL ((struct control *)CONTROL_ADDRESS)

struct iovec;
struct msghdr;

extern struct stub_memory stub_memory;

/* Is this the guest? Not before the stub has started, and not in a child that it has forked. */
bool stub_active(void);
/* libc has put another handler for CONTROL_SIGNAL in place of the stub's (pthread_cancel): it comes after it now. */
void stub_take_back_signal(void);

/* Before a thread is cancelled, which may be in a call through the gate (gate_frame.c). */
void stub_show_gate(void);

/* Before a child is made that shall have a copy of the memory. */
void stub_before_fork(void);

/* The functions that are stood in front of. */
struct stub_real {
	int (*close)(int fd);
	int (*pthread_cancel)(unsigned long thread);
	int (*pthread_kill)(unsigned long thread, int number);
	int (*pthread_sigqueue)(unsigned long thread, int number, void *value);
	int (*pthread_setaffinity_np)(unsigned long thread, size_t bytes, const void *set);
	int (*pthread_getaffinity_np)(unsigned long thread, size_t bytes, void *set);
	int (*pthread_getcpuclockid)(unsigned long thread, int *clock);
	int (*wait4)(int pid, int *status, int options, void *usage);
	int (*waitid)(unsigned type, unsigned id, void *info, int options);
	int (*execve)(const char *path, char *const *arguments, char *const *environment);
	int (*execvpe)(const char *file, char *const *arguments, char *const *environment);
	int (*fork)(void);
	int (*clone)(int (*start)(void *), void *stack, int flags, void *argument, void *a, void *b,
		     void *c);
	int (*madvise)(void *address, size_t bytes, int advice);
	int (*fexecve)(int fd, char *const *arguments, char *const *environment);
	ssize_t (*write)(int fd, const void *data, size_t bytes);
	ssize_t (*writev)(int fd, const struct iovec *pieces, int count);
	ssize_t (*send)(int fd, const void *data, size_t bytes, int flags);
	ssize_t (*sendto)(int fd, const void *data, size_t bytes, int flags, const void *address,
			  unsigned length);
	ssize_t (*sendmsg)(int fd, const struct msghdr *message, int flags);
	int (*unshare)(int flags);
};
/* Looked up when the stub starts; before that, on the first call, which is another library's constructor's. */
const struct stub_real *stub_real(void);

/*
 * The supervisor's descriptors of the control block and of the stub, for a program that is executed now; they stay open
 * across execve(2). 0, or a negative code: there is nobody who gives them.
 */
int stub_take_descriptors(int fds[2]);
/* In a program that was executed: wait until the supervisor has taken it over. */
void stub_wait_for_supervisor(void);

/* Where in a thread's descriptor (pthread_t) its thread id is; 0: not known. Called once, by the main thread. */
void stub_find_tid(void);
/* A thread id that the program remembers, as the one that thread has in this process. */
int32_t stub_tid_now(int32_t tid);
/* The calling process and thread, as the program knows them. */
int32_t stub_seen_pid(void);
int32_t stub_seen_tid(void);

#endif
