// SPDX-License-Identifier: GPL-2.0-only
/*
 * served_process.h - for tests of the fault service of another process: an image with known contents, a process that
 * has its ranges in empty memory, and the service between them, without the rest of a heap.
 *
 * A body runs in the process (the guest) and in what it forks; it says what is wrong by the line of its CHECK(), in
 * memory that all of them share. In a page that is stored, each word tells its place; others are zero.
 */
#ifndef TESTS_SERVED_PROCESS_H
#define TESTS_SERVED_PROCESS_H

#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "fault.h"
#include "image/image.h"
#include "process_memory.h"
#include "support.h"
#include "tracker.h"

#define SERVED_PAGE 4096ull
#define WORDS (SERVED_PAGE / 8)
#define NEAR 0x200000000000ull /* the larger range, and a smaller one */
#define FAR 0x300000000000ull
#define NEAR_PAGES 4096ull
#define FAR_PAGES 1024ull
#define STORED_PAGES ((NEAR_PAGES + FAR_PAGES) / 8 * 7)

struct shared {
	_Atomic int wrong; /* the line of the first CHECK() that failed */
	_Atomic int stage; /* bodies and tests wait for each other */
	_Atomic uint64_t value[8];
};

struct served {
	char *directory, *path;
	struct thaw_error error;
	struct region region;
	struct image *image;
	struct tracker tracker;
	struct fault_options options; /* more than those that served_start() sets */
	struct fault_service *service;
	struct shared *shared;
	pid_t guest;
	int socket; /* the guest's end is its body's */
};

static struct shared *shared;

#define CHECK(what)                                                                      \
	do {                                                                             \
		if (!(what)) {                                                           \
			int none = 0;                                                    \
			atomic_compare_exchange_strong(&shared->wrong, &none, __LINE__); \
			_exit(1);                                                        \
		}                                                                        \
	} while (0)

SUPPORT void stage_reach(int stage)
{
	atomic_store(&shared->stage, stage);
}

/* Not for ever: its test may have been killed. */
SUPPORT void stage_await(int stage)
{
	double end = support_deadline(60);

	while (atomic_load(&shared->stage) < stage && !atomic_load(&shared->wrong)) {
		if (support_seconds() > end) {
			fprintf(stderr, "# stage %d was never reached\n", stage);
			_exit(1);
		}
		support_sleep(0.0002);
	}
}

/* ---- contents */

/* Every eighth page was never stored. */
SUPPORT bool is_stored(uint64_t address)
{
	return address / SERVED_PAGE % 8 != 5;
}

SUPPORT uint64_t stored_word(uint64_t address)
{
	return is_stored(address) ? address * 0x9e3779b97f4a7c15ull | 1 : 0;
}

/* Does the page at `address` have what is stored at `stored`? */
SUPPORT bool page_is(uint64_t address, uint64_t stored)
{
	const volatile uint64_t *words = (const volatile uint64_t *)(uintptr_t)address;

	return words[0] == stored_word(stored) && words[77] == stored_word(stored + 77 * 8) &&
	       words[WORDS - 1] == stored_word(stored + SERVED_PAGE - 8);
}

SUPPORT bool page_is_zero(uint64_t address)
{
	const volatile uint64_t *words = (const volatile uint64_t *)(uintptr_t)address;

	return !words[0] && !words[77] && !words[WORDS - 1];
}

SUPPORT bool pages_are(uint64_t address, uint64_t stored, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (!page_is(address + i * SERVED_PAGE, stored + i * SERVED_PAGE))
			return false;
	return true;
}

SUPPORT bool pages_are_zero(uint64_t address, uint64_t count)
{
	for (uint64_t i = 0; i < count; i++)
		if (!page_is_zero(address + i * SERVED_PAGE))
			return false;
	return true;
}

SUPPORT uint64_t random_word(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state >> 11;
}

static int store_range(struct commit *commit, uint64_t start, uint64_t count, uint64_t salt)
{
	static uint64_t page[WORDS];
	struct thaw_error error;
	bool stored;
	int code = 0;

	for (uint64_t i = 0; i < count && !code; i++) {
		uint64_t address = start + i * SERVED_PAGE;

		if (!is_stored(address))
			continue;
		for (unsigned j = 0; j < WORDS; j++)
			page[j] = stored_word(address + j * 8) ^ salt;
		code = commit_page(commit, address / SERVED_PAGE, page, &stored, &error);
	}
	return code;
}

/* A generation with both ranges; with a salt, one with other contents. */
SUPPORT int store_all(struct image *image, uint64_t salt)
{
	struct thaw_generation generation = {.time_ns = 1, .heap_bytes = PROCESS_BYTES};
	struct thaw_error error;
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	if (!code)
		code = store_range(commit, NEAR, NEAR_PAGES, salt);
	if (!code)
		code = store_range(commit, FAR, FAR_PAGES, salt);
	return code ? code : commit_finish(commit, &generation, "", 0, &error);
}

static const struct thaw_range served_ranges[] = {{NEAR, NEAR + NEAR_PAGES *SERVED_PAGE},
						  {FAR, FAR + FAR_PAGES *SERVED_PAGE}};

/* ---- the guest */

static void send_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	struct cmsghdr *header;

	if (fd >= 0) {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		header = CMSG_FIRSTHDR(&message);
		header->cmsg_level = SOL_SOCKET;
		header->cmsg_type = SCM_RIGHTS;
		header->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(header), &fd, sizeof(int));
	}
	if (sendmsg(socket, &message, 0) != 1)
		support_die("send a descriptor");
}

static int receive_fd(int socket)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	int fd = -1;

	if (recvmsg(socket, &message, MSG_CMSG_CLOEXEC) != 1)
		support_die("receive a descriptor");
	if (CMSG_FIRSTHDR(&message))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(int));
	return fd;
}

static void map_ranges(void)
{
	for (unsigned i = 0; i < 2; i++)
		if (mmap((void *)(uintptr_t)served_ranges[i].start,
			 served_ranges[i].end - served_ranges[i].start, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			support_die("map a range");
}

static _Noreturn void guest_main(struct served *served, int socket, void (*body)(void))
{
	int flags, fd = -1;
	uint64_t features;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	map_ranges();
	if (probe_process_uffd(&served->region.backends, &flags, &features)) {
		struct uffdio_api api = {.api = UFFD_API, .features = features};

		fd = (int)syscall(SYS_userfaultfd, flags);
		if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
			support_die("userfaultfd");
	}
	send_fd(socket, fd);
	receive_fd(socket);
	body();
	_exit(0);
}

/* False: nothing of this can be done here; served->error says why. */
SUPPORT bool served_prepare(struct served *served)
{
	struct image_options options = {.create = true, .engine = "served", .page_bytes = 4096};
	struct thaw_error fallback;

	*served = (struct served){.guest = -1, .socket = -1};
	served->directory = support_directory();
	served->path = support_format("%s/served.thaw", served->directory);
	served->shared = shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
				       MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (region_create_process(&served->region, &served->error))
		return false;
	options.path = served->path;
	if (image_open(&options, &served->image, &fallback, &served->error) ||
	    store_all(served->image, 0))
		support_die("an image");
	return true;
}

/* The guest with its body; its service runs, or could not be started (served->error). */
SUPPORT int served_start(struct served *served, void (*body)(void), bool prefetch)
{
	struct thaw_process process = {0};
	struct fault_options *options = &served->options;
	int sockets[2], code;

	options->region = &served->region;
	options->tracker = &served->tracker;
	options->image = served->image;
	options->ranges = served_ranges;
	options->range_count = 2;
	options->prefetch = prefetch;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets))
		support_die("socketpair");
	fflush(NULL);
	served->guest = fork();
	if (!served->guest)
		guest_main(served, sockets[1], body);
	close(sockets[1]);
	served->socket = sockets[0];
	process.pid = served->guest;
	process.userfaultfd = served->region.uffd = receive_fd(sockets[0]);
	served->region.restored_bytes = PROCESS_BYTES;
	code = tracker_create(&served->tracker, &served->region, &served->error);
	if (!code)
		code = process_memory_attach(&served->region, &process, served_ranges, 2,
					     &served->error);
	if (!code)
		code = fault_service_start(&served->service, options, &served->error);
	if (!code)
		send_fd(served->socket, -1);
	return code;
}

/* The line that was wrong, -1 if the guest was killed by a signal, or 0. */
SUPPORT int served_finish(struct served *served, int *status)
{
	double end = support_deadline(60);
	siginfo_t info = {0};

	while (waitid(P_PID, (id_t)served->guest, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
	       !info.si_pid) {
		if (support_seconds() > end) {
			fprintf(stderr, "# the guest hangs\n");
			kill(served->guest, SIGKILL);
		}
		support_sleep(0.001);
	}
	waitpid(served->guest, status, 0);
	served->guest = -1;
	return shared->wrong ? shared->wrong : WIFEXITED(*status) ? 0 : -1;
}

SUPPORT void served_end(struct served *served)
{
	if (served->guest > 0) {
		kill(served->guest, SIGKILL);
		waitpid(served->guest, NULL, 0);
	}
	if (served->region.process)
		process_memory_leave(served->region.process);
	fault_service_stop(served->service);
	if (served->tracker.region)
		tracker_destroy(&served->tracker);
	region_destroy(&served->region);
	image_close(served->image);
	if (served->socket >= 0)
		close(served->socket);
	munmap(served->shared, sizeof(*served->shared));
	free(served->path);
	support_remove(served->directory);
}

#endif
