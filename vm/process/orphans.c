/* SPDX-License-Identifier: MIT */
/*
 * orphans.c - children of a guest that was killed: the restored program is told that they were killed, too (stub/children.c),
 * so none of them goes on beside it, with its sockets and locks.
 *
 * A number of a process may have been given to another since. One that is a child's still has started before the capture,
 * in the same boot: at that instant the number was the child's. It is left alone in all other cases: where its parent
 * is the process of the capture, which lives then (the image is a copy), and where it has a session of its own, as
 * programs have that are meant to outlive their parent.
 *
 * Called by continue.c before the program goes on. Owner's thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "process/guest_state.h"

#define SECOND_NS 1000000000ull

struct orphan {
	int parent, session;
	uint64_t started_ns; /* CLOCK_REALTIME */
	bool own;	     /* this user's */
};

static uint64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

static bool read_file(const char *path, char *text, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got = fd < 0 ? -1 : read(fd, text, room - 1);

	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got > 0;
}

/* proc_pid_stat(5): what follows the name, which may hold anything. */
static bool look_at(int pid, struct orphan *orphan)
{
	char path[64], text[1024];
	unsigned long long ticks;
	struct stat status;
	const char *after;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	if (!read_file(path, text, sizeof(text)) || stat(path, &status))
		return false;
	after = strrchr(text, ')');
	if (!after ||
	    sscanf(after + 1,
		   " %*c %d %*d %d %*d %*d %*u %*u %*u %*u %*u %*u %*u %*d %*d %*d %*d %*d %*d %llu",
		   &orphan->parent, &orphan->session, &ticks) != 3)
		return false;
	orphan->started_ns = now_ns(CLOCK_REALTIME) - now_ns(CLOCK_BOOTTIME) +
			     ticks * (SECOND_NS / (uint64_t)sysconf(_SC_CLK_TCK));
	orphan->own = status.st_uid == geteuid();
	return true;
}

static bool same_boot(const struct clocks *clocks)
{
	char boot[64];

	if (!read_file("/proc/sys/kernel/random/boot_id", boot, sizeof(boot)))
		return false;
	boot[strcspn(boot, "\n")] = '\0';
	return boot[0] && !strcmp(boot, clocks->boot_id);
}

static bool is_orphan(const struct process_state *state, int pid)
{
	struct orphan orphan;

	return look_at(pid, &orphan) && orphan.own && orphan.parent != state->kernel.pid &&
	       orphan.session == state->kernel.session &&
	       orphan.started_ns <= state->clocks.realtime_ns;
}

void orphans_end(const struct process_state *state)
{
	const struct kernel_facts *kernel = &state->kernel;

	if (!kernel->child_count || !same_boot(&state->clocks))
		return;
	for (unsigned i = 0; i < kernel->child_count; i++) {
		int pidfd = (int)syscall(__NR_pidfd_open, kernel->children[i], 0);

		/* Looked at after it was opened: the number is that of this process now. */
		if (pidfd < 0)
			continue;
		if (is_orphan(state, kernel->children[i]))
			syscall(__NR_pidfd_send_signal, pidfd, SIGKILL, NULL, 0);
		close(pidfd);
	}
}
