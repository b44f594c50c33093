// SPDX-License-Identifier: MIT
/*
 * kernel_facts_restore.c - what the kernel knew of a guest's process is given to the restorer's. Called on the owner's
 * thread: first what descriptors and threads need (kernel_facts_restore), last what would disturb them: limits,
 * timers, signals (kernel_facts_restore_late).
 *
 * What needs privileges that are not there is left: /proc/PID/exe, a score for the OOM killer below the
 * supervisor's, a hard limit above its own. The program works without; libc does not look at them.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/prctl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/memory/address_space.h"
#include "process/remote/batch.h"
#include "process/kernel/kernel_timers.h"
#include "process/threads/pending.h"
#include "process/process.h"

#define SIGNALS 64u
#define LIMITS 16u
/* Where a copy of the restorer is made, before it takes the restorer's place. */
#define COPY_ADDRESS 0x640000000000ull

/* ---- prctl(PR_SET_MM_MAP) */

/* The restorer's text as memory that is no file's: the kernel changes /proc/PID/exe only when no page of the old file
 * is mapped. Each part is moved over its original in one call, while threads of the restorer wait in the kernel. */
static int detach_restorer(struct process *process)
{
	struct seen_mapping seen;
	struct batch batch;
	const char *at;
	char *text;
	int rc;

	text = proc_read(process->remote.pid, "maps", NULL, &rc);
	if (!text)
		return rc;
	batch_begin(&batch, &process->remote, 0);
	for (at = text; seen_mapping_parse(&at, &seen);) {
		uint64_t bytes = seen.end - seen.start;

		if (!address_is_local(seen.start, seen.end) || !seen.inode || seen.shared)
			continue;
		batch_add(&batch, NULL, SYS_mmap, COPY_ADDRESS, bytes, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, (uint64_t)-1, 0);
		batch_add(&batch, NULL, CALL_COPY, COPY_ADDRESS, seen.start, bytes, 0, 0, 0);
		batch_add(&batch, NULL, SYS_mprotect, COPY_ADDRESS, bytes, seen.protection, 0, 0,
			  0);
		batch_add(&batch, NULL, SYS_mremap, COPY_ADDRESS, bytes, bytes,
			  MREMAP_MAYMOVE | MREMAP_FIXED, seen.start, 0);
	}
	free(text);
	return batch_run(&batch);
}

void kernel_facts_detach(struct process *process)
{
	detach_restorer(process);
	remote_forget(&process->remote);
}

static int64_t set_map(struct process *process, const struct kernel_facts *facts, int64_t exe)
{
	struct remote *remote = &process->remote;
	struct prctl_mm_map map = {
		.start_code = facts->start_code,
		.end_code = facts->end_code,
		.start_data = facts->start_data,
		.end_data = facts->end_data,
		.start_brk = facts->start_brk,
		.brk = facts->brk,
		.start_stack = facts->start_stack,
		.arg_start = facts->arg_start,
		.arg_end = facts->arg_end,
		.env_start = facts->env_start,
		.env_end = facts->env_end,
		.auxv_size = facts->auxv_bytes,
		.exe_fd = (uint32_t)exe,
	};

	map.auxv = (void *)remote_copy(remote, facts->auxv, facts->auxv_bytes);
	return remote_call(remote, 0, SYS_prctl, PR_SET_MM, PR_SET_MM_MAP,
			   remote_copy(remote, &map, sizeof(map)), sizeof(map), 0, 0);
}

/* The kernel's idea of heap, stack and arguments; without it brk(2) fails, and malloc(3) takes other memory. */
static int restore_map(struct process *process, const struct kernel_facts *facts)
{
	struct remote *remote = &process->remote;
	int64_t exe, rc;

	exe = remote_call(remote, 0, SYS_openat, (uint64_t)AT_FDCWD,
			  remote_string(remote, facts->executable), O_RDONLY | O_CLOEXEC, 0, 0, 0);
	rc = set_map(process, facts, exe >= 0 ? exe : -1);
	if (rc == -EBUSY && exe >= 0 && !detach_restorer(process))
		rc = set_map(process, facts, exe);
	if (rc && rc != -ESRCH && exe >= 0)
		rc = set_map(process, facts, -1);
	if (exe >= 0)
		remote_call(remote, 0, SYS_close, (uint64_t)exe, 0, 0, 0, 0, 0);
	if (rc && process->verbose)
		fprintf(stderr, "thaw: prctl(PR_SET_MM_MAP): %s; the heap grows by mmap\n",
			strerror((int)-rc));
	remote_forget(remote);
	return rc == -ESRCH ? -ESRCH : 0;
}

/* ---- The others */

static int restore_actions(struct process *process, const struct kernel_facts *facts)
{
	struct remote *remote = &process->remote;
	struct batch batch;
	int rc;

	batch_begin(&batch, remote, 0);
	for (unsigned i = 1; i <= SIGNALS; i++)
		if (i != SIGKILL && i != SIGSTOP)
			batch_add(
				&batch, NULL, SYS_rt_sigaction, i,
				remote_copy(remote, &facts->actions[i], sizeof(facts->actions[i])),
				0, 8, 0, 0);
	rc = batch_run(&batch);
	remote_forget(remote);
	return rc;
}

static int restore_rest(struct process *process, const struct kernel_facts *facts,
			struct thaw_error *error)
{
	struct remote *remote = &process->remote;
	struct batch batch;
	int64_t rc;

	batch_begin(&batch, remote, 0);
	batch_add(&batch, NULL, SYS_umask, facts->umask, 0, 0, 0, 0, 0);
	batch_try(&batch, SYS_personality, facts->personality, 0, 0, 0, 0);
	if (facts->child_subreaper)
		batch_try(&batch, SYS_prctl, PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	/* It led its own session, or group. */
	if (facts->session == facts->pid)
		batch_try(&batch, SYS_setsid, 0, 0, 0, 0, 0);
	else if (facts->group == facts->pid)
		batch_try(&batch, SYS_setpgid, 0, 0, 0, 0, 0);
	rc = batch_run(&batch);
	if (rc)
		return (int)rc;
	rc = remote_call(remote, 0, SYS_chdir, remote_string(remote, facts->directory), 0, 0, 0, 0,
			 0);
	remote_forget(remote);
	if (!rc)
		return 0;
	return failure(
		error, (int)rc,
		"%s, the program's working directory, cannot be entered: %s; make it again, or "
		"start anew with --fresh",
		facts->directory, strerror((int)-rc));
}

/* Descriptors up to the highest number that it may have had. */
static void allow_descriptors(struct process *process, const struct kernel_facts *facts)
{
	struct rlimit limit;

	if (prlimit(process->remote.pid, RLIMIT_NOFILE, NULL, &limit))
		return;
	if (facts->limits[RLIMIT_NOFILE].hard > limit.rlim_max) {
		struct rlimit more = {facts->limits[RLIMIT_NOFILE].hard,
				      facts->limits[RLIMIT_NOFILE].hard};

		if (!prlimit(process->remote.pid, RLIMIT_NOFILE, &more, NULL))
			return;
	}
	limit.rlim_cur = limit.rlim_max;
	prlimit(process->remote.pid, RLIMIT_NOFILE, &limit, NULL);
}

int kernel_facts_restore(struct process *process, const struct kernel_facts *facts,
			 struct thaw_error *error)
{
	int rc;

	if (error)
		error->code = 0;
	allow_descriptors(process, facts);
	rc = restore_map(process, facts);
	if (!rc)
		rc = restore_actions(process, facts);
	if (!rc)
		rc = restore_rest(process, facts, error);
	if (!rc || (error && error->code))
		return rc;
	return failure(error, rc, "giving the guest what its process had: %s", thaw_strerror(rc));
}

/* ---- Late */

/* What is more than the supervisor may give is the most it may. */
static void restore_limits(struct process *process, const struct kernel_facts *facts)
{
	for (unsigned i = 0; i < LIMITS; i++) {
		struct rlimit limit = {facts->limits[i].soft, facts->limits[i].hard}, now;

		if (!prlimit(process->remote.pid, (enum __rlimit_resource)i, &limit, NULL) ||
		    prlimit(process->remote.pid, (enum __rlimit_resource)i, NULL, &now))
			continue;
		if (limit.rlim_max > now.rlim_max)
			limit.rlim_max = now.rlim_max;
		if (limit.rlim_cur > limit.rlim_max)
			limit.rlim_cur = limit.rlim_max;
		prlimit(process->remote.pid, (enum __rlimit_resource)i, &limit, NULL);
	}
}

static void restore_score(struct process *process, const struct kernel_facts *facts)
{
	char path[64], text[16];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/oom_score_adj", (int)process->remote.pid);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	snprintf(text, sizeof(text), "%d", (int)facts->oom_score_adj);
	if (write(fd, text, strlen(text)) < 0 && process->verbose)
		fprintf(stderr, "thaw: %s: %s\n", path, strerror(errno));
	close(fd);
}

static int restore_timers(struct process *process, const struct kernel_facts *facts)
{
	struct remote *remote = &process->remote;
	struct batch batch;
	int rc;

	batch_begin(&batch, remote, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct itimerval time = {
			{(time_t)facts->timers[i][0], (suseconds_t)facts->timers[i][1]},
			{(time_t)facts->timers[i][2], (suseconds_t)facts->timers[i][3]}};

		/* It had run out, and goes on when its signal arrives (kernel/signal.c, dequeue_signal). */
		if (!time.it_value.tv_sec && !time.it_value.tv_usec)
			time.it_value = time.it_interval;

		if (time.it_value.tv_sec || time.it_value.tv_usec)
			batch_add(&batch, NULL, SYS_setitimer, i,
				  remote_copy(remote, &time, sizeof(time)), 0, 0, 0, 0);
	}
	/* Last: who may not look into the guest then has what it needs open already. 2 cannot be set, and means 0. */
	if (facts->dumpable != 1)
		batch_try(&batch, SYS_prctl, PR_SET_DUMPABLE, 0, 0, 0, 0);
	rc = batch_run(&batch);
	remote_forget(remote);
	return rc;
}

int kernel_facts_restore_late(struct process *process, const struct kernel_facts *facts,
			      struct thaw_error *error)
{
	int rc;

	rc = kernel_timers_restore(process, facts, error);
	if (rc)
		return rc;
	rc = pending_queue(process, 0, process->threads[0].tid, true, facts->pending,
			   facts->pending_count);
	if (!rc) {
		restore_limits(process, facts);
		restore_score(process, facts);
		rc = restore_timers(process, facts);
	}
	return rc ? failure(error, rc, "giving the guest its limits, timers and signals: %s",
			    thaw_strerror(rc))
		  : 0;
}
