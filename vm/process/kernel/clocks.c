/* SPDX-License-Identifier: MIT */
/*
 * clocks.c - a monotonic clock that does not go back: not after a reboot, not on another machine.
 *
 * CLOCK_MONOTONIC and CLOCK_BOOTTIME count from the start of the machine, and programs, C library and kernel have
 * absolute times of theirs everywhere. What is restored on another boot goes on at the times of its capture, in a
 * time namespace (time_namespaces(7), Linux 5.6). Where none may be made, it goes on if its clocks go forward at
 * least. On the same boot the time in which it did not run just passes, as if it had been stopped.
 *
 * The restorer enters it before it becomes itself, not the owner's thread for its children: on Linux 6.1, a thread
 * whose children have another time than itself can make no thread any more.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/format.h"
#include "process/process.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define SECOND_NS 1000000000ll

/* ---- Capture */

static int read_line(const char *path, char *line, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), code = 0;
	ssize_t got = fd < 0 ? -1 : read(fd, line, room - 1);

	if (got < 0)
		code = -errno;
	line[got < 0 ? 0 : got] = 0;
	line[strcspn(line, "\n")] = 0;
	if (fd >= 0)
		close(fd);
	return code;
}

/* The guest's own clocks: it may be in a namespace. */
static int read_clocks(struct remote *remote, struct clocks *clocks)
{
	static const clockid_t ids[] = {CLOCK_MONOTONIC, CLOCK_BOOTTIME, CLOCK_REALTIME};
	uint64_t *const to[] = {&clocks->monotonic_ns, &clocks->boottime_ns, &clocks->realtime_ns};
	struct timespec *times;
	struct call *calls[3];
	void *here;
	uint64_t room = remote_room(remote, sizeof(*times) * 3, &here);
	int code;

	if (!room)
		return -ENOSPC;
	times = here;
	for (unsigned i = 0; i < 3; i++) {
		calls[i] = remote_add(remote, 0, SYS_clock_gettime, (uint64_t)ids[i],
				      room + i * sizeof(*times), 0, 0, 0, 0);
		if (!calls[i])
			return -ENOSPC;
	}
	code = remote_run(remote, 0);
	for (unsigned i = 0; i < 3 && !code; i++) {
		code = (int)calls[i]->result;
		*to[i] = (uint64_t)times[i].tv_sec * SECOND_NS + (uint64_t)times[i].tv_nsec;
	}
	return code;
}

static int read_vdso(struct remote *remote, const struct mappings *mappings, struct clocks *clocks)
{
	uint8_t *vdso;

	if (clocks->vdso && clocks->vdso_bytes == mappings->vdso_bytes)
		vdso = clocks->vdso;
	else
		vdso = realloc(clocks->vdso, mappings->vdso_bytes + 1);
	if (!vdso)
		return -ENOMEM;
	clocks->vdso = vdso;
	clocks->vdso_bytes = mappings->vdso_bytes;
	return mappings->vdso_bytes
		       ? remote_read(remote, mappings->vdso, vdso, mappings->vdso_bytes)
		       : 0;
}

/* `clocks` is zero, or of a capture before. */
int clocks_capture(struct process *process, const struct mappings *mappings, struct clocks *clocks,
		   struct thaw_error *error)
{
	int code = read_line("/proc/sys/kernel/random/boot_id", clocks->boot_id,
			     sizeof(clocks->boot_id));

	/* Without it, every restore is one on another boot. */
	if (code)
		clocks->boot_id[0] = 0;
	code = read_clocks(&process->remote, clocks);
	if (!code)
		code = read_vdso(&process->remote, mappings, clocks);
	if (code)
		return failure(error, code, "the program's clocks cannot be read: %s",
			       thaw_strerror(code));
	return 0;
}

void clocks_free(struct clocks *clocks)
{
	free(clocks->vdso);
	*clocks = (struct clocks){0};
}

/* ---- As bytes */

void clocks_encode(const struct clocks *clocks, struct record_writer *writer)
{
	record_put_text(writer, clocks->boot_id);
	record_put(writer, clocks->monotonic_ns);
	record_put(writer, clocks->boottime_ns);
	record_put(writer, clocks->realtime_ns);
	record_put_bytes(writer, clocks->vdso, clocks->vdso_bytes);
}

bool clocks_decode(struct clocks *clocks, struct record_reader *reader)
{
	char *boot_id = record_take_text(reader);
	const void *vdso;

	*clocks = (struct clocks){0};
	if (boot_id && strlen(boot_id) < sizeof(clocks->boot_id))
		strcpy(clocks->boot_id, boot_id);
	else
		reader->failed = true;
	free(boot_id);
	clocks->monotonic_ns = record_take_up_to(reader, INT64_MAX / 4);
	clocks->boottime_ns = record_take_up_to(reader, INT64_MAX / 4);
	clocks->realtime_ns = record_take_up_to(reader, INT64_MAX / 4);
	vdso = record_take_bytes(reader, &clocks->vdso_bytes);
	clocks->vdso = reader->failed ? NULL : malloc(clocks->vdso_bytes + 1);
	if (!clocks->vdso) {
		*clocks = (struct clocks){0};
		reader->failed = true;
		return false;
	}
	memcpy(clocks->vdso, vdso, clocks->vdso_bytes);
	return true;
}

/* ---- Restore */

/* The machine was not started anew since. */
static bool is_same_boot(const struct clocks *clocks)
{
	char boot_id[sizeof(clocks->boot_id)];

	return !read_line("/proc/sys/kernel/random/boot_id", boot_id, sizeof(boot_id)) &&
	       clocks->boot_id[0] && !strcmp(boot_id, clocks->boot_id);
}

void clocks_advance(struct clocks *clocks, uint64_t realtime_ns)
{
	uint64_t passed = realtime_ns > clocks->realtime_ns ? realtime_ns - clocks->realtime_ns : 0;

	/* The clock that it had goes on by itself, and not as that of the day does. */
	if (is_same_boot(clocks) && clock_ns(CLOCK_MONOTONIC) >= clocks->monotonic_ns)
		return;
	if (passed > INT64_MAX / 4)
		return;
	clocks->monotonic_ns += passed;
	clocks->boottime_ns += passed;
	clocks->realtime_ns += passed;
}

struct offsets { /* of a time namespace, against the machine's clocks */
	int64_t monotonic_ns, boottime_ns;
};

/* Those of the namespace that this process is in. False: this kernel has none. */
static bool offsets_read(struct offsets *offsets)
{
	char name[16];
	long long seconds, ns;
	FILE *file;

	*offsets = (struct offsets){0};
	file = fopen("/proc/self/timens_offsets", "re");
	if (!file)
		return false;
	while (fscanf(file, "%15s %lld %lld", name, &seconds, &ns) == 3) {
		if (!strcmp(name, "monotonic"))
			offsets->monotonic_ns = seconds * SECOND_NS + ns;
		else if (!strcmp(name, "boottime"))
			offsets->boottime_ns = seconds * SECOND_NS + ns;
	}
	fclose(file);
	return true;
}

/* The kernel wants seconds and nanoseconds of 0 to 999999999, also of what is negative. */
static void split(int64_t ns, long long *seconds, long long *rest)
{
	*seconds = ns / SECOND_NS;
	*rest = ns % SECOND_NS;
	if (*rest < 0) {
		*rest += SECOND_NS;
		(*seconds)--;
	}
}

int clocks_enter(const char *offsets)
{
	size_t length = strlen(offsets);
	int fd;

	errno = 0;
	if (unshare(CLONE_NEWTIME))
		return -errno;
	fd = open("/proc/self/timens_offsets", O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, offsets, length) != (ssize_t)length)
		return errno ? -errno : -EIO;
	close(fd);
	/* What it has made so far is for children. */
	fd = open("/proc/self/ns/time_for_children", O_RDONLY | O_CLOEXEC);
	if (fd < 0 || setns(fd, CLONE_NEWTIME))
		return -errno;
	close(fd);
	return 0;
}

/* Can that be done? 0 or -errno. */
static int try_offsets(const char *offsets)
{
	pid_t pid = fork();
	int status = 0;

	if (!pid)
		_exit(-clocks_enter(offsets));
	if (pid < 0)
		return -errno;
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			return -errno;
	return WIFEXITED(status) ? -WEXITSTATUS(status) : -EPERM;
}

static void write_offsets(const struct offsets *offsets, char *text, size_t room)
{
	long long seconds[2], ns[2];

	split(offsets->monotonic_ns, &seconds[0], &ns[0]);
	split(offsets->boottime_ns, &seconds[1], &ns[1]);
	snprintf(text, room, "monotonic %lld %lld\nboottime %lld %lld\n", seconds[0], ns[0],
		 seconds[1], ns[1]);
}

static int refuse(const struct clocks *clocks, uint64_t now, int reason, struct thaw_error *error)
{
	uint64_t behind = clocks->monotonic_ns > now ? clocks->monotonic_ns - now : 0;

	return failure(
		error, THAW_EKERNEL,
		"the machine was started anew, and its clock is %s behind the program's: to set "
		"that for one program takes CAP_SYS_ADMIN and CAP_SYS_TIME (a time namespace: %s); "
		"start as root, or wait until the clock has caught up, or begin anew with --fresh",
		format_duration(behind).s, strerror(-reason));
}

int clocks_prepare(struct process *process, const struct clocks *clocks, struct thaw_error *error)
{
	uint64_t monotonic = clock_ns(CLOCK_MONOTONIC), boottime = clock_ns(CLOCK_BOOTTIME);
	struct offsets now, wanted;
	bool here = offsets_read(&now);
	bool back = monotonic < clocks->monotonic_ns || boottime < clocks->boottime_ns;
	int code = -ENOSYS;

	process->clock_offsets[0] = '\0';
	if (!back && is_same_boot(clocks))
		return 0;
	wanted.monotonic_ns = now.monotonic_ns + (int64_t)clocks->monotonic_ns - (int64_t)monotonic;
	wanted.boottime_ns = now.boottime_ns + (int64_t)clocks->boottime_ns - (int64_t)boottime;
	if (here) {
		write_offsets(&wanted, process->clock_offsets, sizeof(process->clock_offsets));
		code = try_offsets(process->clock_offsets);
	}
	if (code)
		process->clock_offsets[0] = '\0';
	return code && back ? refuse(clocks, monotonic, code, error) : 0;
}
