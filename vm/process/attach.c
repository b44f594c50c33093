/* SPDX-License-Identifier: MIT */
/*
 * attach.c - the memory of a guest becomes its heap's: the userfaultfd that the guest makes for itself, and what the
 * library needs to read and write it.
 *
 * Called by guest.c and continue.c while the guest is parked. Owner's thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/guest_state.h"

static int read_guest(void *arg, uint64_t address, void *to, size_t bytes)
{
	return remote_read(arg, address, to, bytes);
}

static int write_guest(void *arg, uint64_t address, const void *from, size_t bytes)
{
	return remote_write(arg, address, from, bytes);
}

/* UFFDIO_API, and the number of the duplicate that the guest keeps: beside our socket, out of the program's way. */
static int64_t prepare_userfaultfd(struct remote *remote, int64_t fd, uint64_t features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = features};
	uint64_t least =
		(uint64_t)(remote->control->socket > 16 ? remote->control->socket - 15 : 0);
	uint64_t argument = remote_copy(remote, &api, sizeof(api));
	int64_t kept =
		remote_call(remote, 0, __NR_ioctl, (uint64_t)fd, UFFDIO_API, argument, 0, 0, 0);

	if (kept >= 0)
		kept = remote_call(remote, 0, __NR_fcntl, (uint64_t)fd, F_DUPFD_CLOEXEC, least, 0,
				   0, 0);
	remote_call(remote, 0, __NR_close, (uint64_t)fd, 0, 0, 0, 0, 0);
	return kept;
}

/* By the system call, or by the device, which a user may be given the right to open. */
static int64_t open_userfaultfd(struct remote *remote, uint64_t flags)
{
	int64_t fd = remote_call(remote, 0, __NR_userfaultfd, flags, 0, 0, 0, 0, 0), device;
	uint64_t path = remote_string(remote, "/dev/userfaultfd");

	if (fd != -EPERM || !path)
		return fd;
	device = remote_call(remote, 0, __NR_openat, (uint64_t)AT_FDCWD, path, O_RDWR | O_CLOEXEC,
			     0, 0, 0);
	if (device < 0)
		return fd;
	fd = remote_call(remote, 0, __NR_ioctl, (uint64_t)device, USERFAULTFD_IOC_NEW, flags, 0, 0,
			 0);
	remote_call(remote, 0, __NR_close, (uint64_t)device, 0, 0, 0, 0, 0);
	return fd;
}

/*
 * The guest's userfaultfd, and here its duplicate; -1 where there can be none: the library then has slower ways. What
 * the guest keeps makes a missing page stay missing, were we to die before it: it never reads as zero.
 */
static int make_userfaultfd(struct process_guest *own, int *kept)
{
	struct remote *remote = &own->process.remote;
	uint64_t features;
	int64_t fd;
	int flags, here;

	*kept = -1;
	if (!thaw_process_userfaultfd(own->heap, &flags, &features))
		return -1;
	fd = open_userfaultfd(remote, (uint64_t)flags);
	if (fd >= 0) /* who asks for a page is told to keeper.c */
		fd = prepare_userfaultfd(remote, fd, features | UFFD_FEATURE_THREAD_ID);
	here = fd >= 0 ? remote_take_fd(remote, 0, (int)fd) : (int)fd;
	remote_forget(remote);
	if (here < 0) {
		if (own->options->verbose)
			owner_tell(
				own->guest.owner,
				"thaw: the program can have no userfaultfd (%s): its memory is loaded at once\n",
				strerror(-here));
		return -1;
	}
	*kept = (int)fd;
	return here;
}

/* In a program that begins. One that goes on has it with the rest: continue.c. */
static int write_branch(struct process_guest *own)
{
	char text[GUEST_BRANCH_TEXT];

	guest_branch_text(&own->guest, text);
	return remote_write(&own->process.remote,
			    own->process.stub + offsetof(struct stub_memory, branch), text,
			    sizeof(text));
}

int guest_attach(struct process_guest *own, const struct thaw_range *ranges, size_t count,
		 struct thaw_error *error)
{
	struct thaw_process process = {
		.pid = own->process.remote.pid,
		.read = read_guest,
		.write = write_guest,
		.arg = &own->process.remote,
	};
	struct thaw_range *spans = NULL;
	int32_t kept;
	int code;

	/* Without them, what follows takes longer. */
	if (count && !mappings_spans(&own->state.mappings, &spans, &process.span_count))
		process.spans = spans;
	process.load_first = thaw_process_must_not_fork(own->heap) && count &&
			     !holds_can(&own->state.mappings);
	process.userfaultfd = make_userfaultfd(own, &kept);
	if (count && process.userfaultfd >= 0 && !thaw_process_must_not_fork(own->heap)) {
		code = keeper_start(&own->process.keeper, error);
		if (code) {
			close(process.userfaultfd);
			free(spans);
			return code;
		}
	}
	code = thaw_process_attach(own->heap, &process, ranges, count, error);
	free(spans);
	if (!code && !count) {
		code = remote_write(&own->process.remote,
				    own->process.stub + offsetof(struct stub_memory, uffd), &kept,
				    sizeof(kept));
		if (!code)
			code = write_branch(own);
		if (code)
			failure(error, code, "cannot write into the program: %s",
				thaw_strerror(code));
	}
	own->kept_userfaultfd = kept;
	return code;
}
