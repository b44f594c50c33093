/* SPDX-License-Identifier: MIT */
/*
 * probe.c - asks the kernel once what it can do (CRIU's kerndat.c is the model) and chooses back
 * ends from that.
 *
 * On the way to a restored program's first instruction, so it asks only what every restore needs
 * to know. Any thread; the struct is constant after the first call.
 */
#define _GNU_SOURCE
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat.h"
#include "sys.h"

static struct probe the_probe;
static pthread_once_t probe_once = PTHREAD_ONCE_INIT;

/* THAW_WITHOUT, a comma-separated list. */
static bool denied(const char *name)
{
	const char *list = getenv("THAW_WITHOUT"), *at = list;
	size_t length = strlen(name);

	while (at && (at = strstr(at, name))) {
		bool starts = at == list || at[-1] == ',';

		at += length;
		if (starts && (*at == '\0' || *at == ','))
			return true;
	}
	return false;
}

static int open_uffd(uint64_t *features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = *features};
	int error, fd;

	if (denied("userfaultfd"))
		return -ENOSYS;
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return -errno;
	error = sys_ioctl(fd, UFFDIO_API, &api);
	if (error < 0) {
		close(fd);
		return error;
	}
	*features = api.features;
	return fd;
}

int probe_open_uffd(uint64_t features)
{
	return open_uffd(&features);
}

/* Only a memfd has to care, so only who wants one asks: not the way to a restored program. */
static bool swap_is_active(void)
{
	char text[512];
	int fd = sys_open("/proc/swaps", O_RDONLY, 0);
	ssize_t got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	char *line;

	if (fd >= 0)
		close(fd);
	if (got <= 0)
		return fd != -ENOENT; /* what cannot be read: assume the worse */
	text[got] = '\0';
	line = strchr(text, '\n');
	return line && line[1];
}

/*
 * PAGEMAP_SCAN is known to exist if the kernel reads its argument: a wrong size is EINVAL, an
 * unknown ioctl ENOTTY.
 */
static bool pagemap_scan_exists(void)
{
	struct pm_scan_arg argument = {.size = 0};
	int error, fd = sys_open("/proc/self/pagemap", O_RDONLY, 0);

	if (fd < 0)
		return false;
	error = sys_ioctl(fd, PAGEMAP_SCAN, &argument);
	close(fd);
	return error == -EINVAL;
}

static int uring_available(void)
{
	struct io_uring_params parameters;
	int fd;

	if (denied("io_uring"))
		return -ENOSYS;
	memset(&parameters, 0, sizeof(parameters));
	fd = (int)syscall(SYS_io_uring_setup, 2, &parameters);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static void probe_run(void)
{
	uint64_t features = 0;
	int fd = open_uffd(&features);

	if (fd < 0) {
		the_probe.uffd_error = fd;
	} else {
		the_probe.uffd_features = features;
		close(fd);
	}
	if (denied("wp-async"))
		the_probe.uffd_features &= ~(uint64_t)UFFD_FEATURE_WP_ASYNC;
	if (denied("minor-shmem"))
		the_probe.uffd_features &= ~(uint64_t)UFFD_FEATURE_MINOR_SHMEM;
	if (denied("poison"))
		the_probe.uffd_features &= ~(uint64_t)UFFD_FEATURE_POISON;
	the_probe.pagemap_scan = !denied("pagemap-scan") && pagemap_scan_exists();
	the_probe.uring_error = uring_available();
}

const struct probe *probe_get(void)
{
	pthread_once(&probe_once, probe_run);
	return &the_probe;
}

/*
 * What the memfd region needs: faults of both kinds and write protection on shmem, and (6.4, as
 * WP_UNPOPULATED) CONTINUE in write-protect mode, which has no feature bit of its own.
 */
#define MEMFD_FEATURES                                                      \
	((uint64_t)(UFFD_FEATURE_MISSING_SHMEM | UFFD_FEATURE_MINOR_SHMEM | \
		    UFFD_FEATURE_WP_HUGETLBFS_SHMEM | UFFD_FEATURE_WP_UNPOPULATED))

static bool have_features(uint64_t wanted)
{
	return (probe_get()->uffd_features & wanted) == wanted;
}

static bool have_wp_async(void)
{
	return have_features(UFFD_FEATURE_WP_ASYNC) && probe_get()->pagemap_scan;
}

int probe_choose(struct rungs *rungs, struct thaw_error *error)
{
	const struct probe *probe = probe_get();
	const char *forced;

	*rungs = (struct rungs){.delivery = DELIVERY_UFFD, .reader = READER_URING};
	rungs->poison = have_features(UFFD_FEATURE_POISON);
	if (probe->uffd_error)
		return error_set(
			error, THAW_EKERNEL, "userfaultfd is not available: %s%s",
			thaw_strerror(probe->uffd_error),
			probe->uffd_error == -EMFILE ? " (see ulimit -n)"
			: probe->uffd_error == -EPERM
				? " (run as root, or set vm.unprivileged_userfaultfd=1)"
				: " (the kernel needs CONFIG_USERFAULTFD and no seccomp filter against it)");
	if (!have_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		return error_set(
			error, THAW_EKERNEL,
			"this kernel's userfaultfd cannot write-protect (it needs Linux 5.7 or newer)");
	if (probe->uring_error)
		return error_set(
			error, THAW_EKERNEL, "io_uring is not available: %s%s",
			thaw_strerror(probe->uring_error),
			probe->uring_error == -EMFILE ? " (see ulimit -n)"
			: probe->uring_error == -EPERM
				? " (sysctl kernel.io_uring_disabled, or a seccomp filter)"
				: " (the kernel needs CONFIG_IO_URING and no seccomp filter against it)");

	rungs->tracker = have_wp_async() ? TRACKER_WP_ASYNC : TRACKER_WP_SYNC;
	forced = getenv("THAW_TRACKER");
	if (forced && !strcmp(forced, "wp-sync"))
		rungs->tracker = TRACKER_WP_SYNC;
	else if (forced && !strcmp(forced, "wp-async") && !have_wp_async())
		return error_set(
			error, THAW_EKERNEL,
			"THAW_TRACKER=wp-async, but this kernel lacks WP_ASYNC or PAGEMAP_SCAN (Linux 6.7)");
	else if (forced && *forced && strcmp(forced, "wp-async"))
		return error_set(error, -EINVAL, "THAW_TRACKER=%s is not one of wp-async, wp-sync",
				 forced);

	/*
	 * Measured (tests/bench/page_arrival.c): a page that comes from a file arrives on
	 * anonymous memory in two thirds of the time it takes on a memfd. CONTINUE is cheap where
	 * the page is in the memfd already; here it has to be brought there first, and making
	 * shared memory costs more than making anonymous memory. Swap decides the same way: a
	 * memfd's page that is reclaimed takes the note that it was written with it.
	 */
	rungs->backing = BACKING_ANONYMOUS;
	forced = getenv("THAW_BACKING");
	if (forced && !strcmp(forced, "anonymous"))
		rungs->backing = BACKING_ANONYMOUS;
	else if (forced && !strcmp(forced, "memfd") && !have_features(MEMFD_FEATURES))
		return error_set(
			error, THAW_EKERNEL,
			"THAW_BACKING=memfd, but this kernel lacks minor faults or write protection on shmem (Linux 6.4)");
	else if (forced && !strcmp(forced, "memfd") && swap_is_active())
		return error_set(
			error, THAW_EKERNEL,
			"THAW_BACKING=memfd, but there is swap, which can lose track of a memfd's written pages");
	else if (forced && !strcmp(forced, "memfd"))
		rungs->backing = BACKING_MEMFD;
	else if (forced && *forced && strcmp(forced, "anonymous"))
		return error_set(error, -EINVAL, "THAW_BACKING=%s is not one of memfd, anonymous",
				 forced);
	return 0;
}

int thaw_capabilities(const struct thaw_capability **list)
{
	static struct thaw_capability table[] = {
		{.name = "userfaultfd", .required = true, .since = "4.3"},
		{.name = "uffd-wp", .required = true, .since = "5.7"},
		{.name = "io_uring", .required = true, .since = "5.1"},
		{.name = "minor-shmem", .since = "5.13"},
		{.name = "wp-shmem", .since = "5.19"},
		{.name = "continue-wp", .since = "6.4"},
		{.name = "poison", .since = "6.6"},
		{.name = "wp-async", .since = "6.7"},
		{.name = "pagemap-scan", .since = "6.7"},
		{.name = "no-swap", .since = ""},
	};
	static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
	const struct probe *probe = probe_get();
	enum { COUNT = sizeof(table) / sizeof(table[0]) };
	const bool present[COUNT] = {
		!probe->uffd_error,
		have_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP),
		!probe->uring_error,
		have_features(UFFD_FEATURE_MINOR_SHMEM),
		have_features(UFFD_FEATURE_WP_HUGETLBFS_SHMEM),
		have_features(UFFD_FEATURE_WP_UNPOPULATED),
		have_features(UFFD_FEATURE_POISON),
		have_features(UFFD_FEATURE_WP_ASYNC),
		probe->pagemap_scan,
		!swap_is_active(),
	};
	static const char *const instead[COUNT] = {
		"nothing can persist",
		"nothing can persist",
		"nothing can be restored",
		"anonymous memory, as by default; THAW_BACKING=memfd cannot be had",
		"anonymous memory, as by default; THAW_BACKING=memfd cannot be had",
		"anonymous memory, as by default; THAW_BACKING=memfd cannot be had",
		"an unreadable page ends the process at once instead of when it is touched",
		"wp-sync: the first write to a page costs about 15 us instead of 1",
		"wp-sync: the first write to a page costs about 15 us instead of 1",
		"anonymous memory, as by default; a memfd's written pages could be lost track of",
	};

	pthread_mutex_lock(&lock);
	for (int i = 0; i < COUNT; i++) {
		int why = i == 0 ? probe->uffd_error : i == 2 ? probe->uring_error : 0;

		table[i].present = present[i];
		if (present[i])
			table[i].detail[0] = '\0';
		else
			snprintf(table[i].detail, sizeof(table[i].detail), "%s%s%s",
				 why ? thaw_strerror(why) : "", why ? ": " : "", instead[i]);
	}
	pthread_mutex_unlock(&lock);
	*list = table;
	return COUNT;
}
