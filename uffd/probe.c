/* SPDX-License-Identifier: MIT */
/*
 * probe.c - asks the kernel what it can do (CRIU's kerndat.c is the model), and says why where it cannot. What is
 * chosen from the answers is in backends.c, what the user is told of all of them in capabilities.c.
 *
 * On the way to a restored program's first instruction, so it asks only what the choice depends on: the
 * next way is tried only if the one before fails. Any thread; answers are kept.
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
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "compat.h"
#include "kmod.h"
#include "page.h"
#include "sys.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- THAW_WITHOUT ---- */

static const char *const deniable[] = {
	"userfaultfd",
	"privileged-userfaultfd",
	"dev-userfaultfd",
	"user-mode",
	"wp",
	"wp-async",
	"pagemap-scan",
	"pagemap",
	"poison",
	"fork-events",
	"memfd",
	"io_uring",
	"multishot",
	"kmod",
};

void probe_list_words(char *list, size_t bytes, const char *const *words, size_t count)
{
	size_t used = 0;

	list[0] = '\0';
	for (size_t i = 0; i < count && used < bytes; i++)
		used += (size_t)snprintf(list + used, bytes - used, "%s%s", i ? ", " : "",
					 words[i]);
}

/* Is the name in the comma-separated list? */
bool probe_denies(const char *name)
{
	const char *at = secure_getenv("THAW_WITHOUT");
	size_t length = strlen(name);

	while (at && *at) {
		size_t word = strcspn(at, ",");

		if (word == length && !memcmp(at, name, length))
			return true;
		at += word + (at[word] == ',');
	}
	return false;
}

/* An unknown word would deny nothing, unnoticed, so it is an error. */
int probe_check_denials(struct thaw_error *error)
{
	const char *at = secure_getenv("THAW_WITHOUT");

	while (at && *at) {
		size_t word = strcspn(at, ","), i;

		for (i = 0; i < COUNT(deniable); i++)
			if (strlen(deniable[i]) == word && !memcmp(at, deniable[i], word))
				break;
		if (word && i == COUNT(deniable)) {
			char list[200];

			probe_list_words(list, sizeof(list), deniable, COUNT(deniable));
			return error_set(error, -EINVAL, "THAW_WITHOUT=%.*s is not one of %s",
					 (int)word, at, list);
		}
		at += word + (at[word] == ',');
	}
	return 0;
}

/* ---- Questions ---- */

static int new_uffd(enum question way)
{
	const int flags = O_CLOEXEC | O_NONBLOCK;
	int device, fd;

	if (way != ASK_DEVICE) {
		fd = (int)syscall(SYS_userfaultfd,
				  flags | (way == ASK_USER_MODE ? UFFD_USER_MODE_ONLY : 0));
		return fd < 0 ? -errno : fd;
	}
	device = sys_open("/dev/userfaultfd", O_RDWR | O_CLOEXEC, 0);
	if (device < 0)
		return device;
	/* The argument is not an address but the flags. */
	fd = sys_ioctl(device, USERFAULTFD_IOC_NEW, (void *)(uintptr_t)flags); // NOLINT
	close(device);
	return fd;
}

/* `features`: in: those to ask for; out: those available. */
static int open_uffd(enum question way, uint64_t *features)
{
	struct uffdio_api api = {.api = UFFD_API, .features = *features};
	int error, fd = new_uffd(way);

	if (fd < 0)
		return fd;
	error = sys_ioctl(fd, UFFDIO_API, &api);
	if (error < 0) {
		close(fd);
		return error;
	}
	*features = api.features;
	return fd;
}

static uint64_t uffd_features; /* the same whichever way it was opened */

static int try_way(enum question way)
{
	uint64_t features = 0;
	int fd = open_uffd(way, &features);

	if (fd < 0)
		return fd;
	close(fd);
	__atomic_store_n(&uffd_features, features, __ATOMIC_RELAXED);
	return 0;
}

int probe_open_kmod(uint64_t max_bytes)
{
	struct thaw_kmod_create create = {.version = THAW_KMOD_VERSION, .max_bytes = max_bytes};
	/* Without the module this call is all that a start pays for it. */
	int error, fd = sys_open(THAW_KMOD_DEVICE, O_RDWR | O_NONBLOCK, 0);

	if (fd < 0)
		return fd;
	error = sys_ioctl(fd, THAW_KMOD_CREATE, &create);
	if (!error)
		return fd;
	close(fd);
	return error;
}

/* A region of the least size, which no page is ever in. */
static int try_kmod(void)
{
	int fd = probe_open_kmod(PAGE_BYTES_MOST);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/*
 * PAGEMAP_SCAN is known to exist if the kernel reads its argument: a wrong size is EINVAL, an
 * unknown ioctl ENOTTY.
 */
static int try_pagemap_scan(void)
{
	struct pm_scan_arg argument = {.size = 0};
	int error, fd = sys_open("/proc/self/pagemap", O_RDONLY, 0);

	if (fd < 0)
		return fd;
	error = sys_ioctl(fd, PAGEMAP_SCAN, &argument);
	close(fd);
	return error == -EINVAL ? 0 : error < 0 ? error : -ENOTTY;
}

static int try_io_uring(void)
{
	struct io_uring_params parameters;
	int fd;

	/*
	 * The ring needs an open file description of its own, apart from the one that holds the
	 * lock.
	 */
	if (access("/proc/self/fd", F_OK))
		return -errno;
	memset(&parameters, 0, sizeof(parameters));
	fd = (int)syscall(SYS_io_uring_setup, 2, &parameters);
	if (fd < 0)
		return -errno;
	close(fd);
	return 0;
}

static int try_memfd(void)
{
	int fd = sys_memfd("thaw-probe");

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

/* The word of THAW_WITHOUT that denies each, and the error that a kernel without it returns. */
static const struct {
	const char *name;
	int lacking;
} questions[ASK_COUNT] = {
	[ASK_PRIVILEGED] = {"privileged-userfaultfd", -EPERM},
	[ASK_DEVICE] = {"dev-userfaultfd", -ENOENT},
	[ASK_USER_MODE] = {"user-mode", -EINVAL},
	[ASK_PAGEMAP_SCAN] = {"pagemap-scan", -ENOTTY},
	[ASK_IO_URING] = {"io_uring", -ENOSYS},
	[ASK_MEMFD] = {"memfd", -ENOSYS},
	[ASK_KMOD] = {"kmod", -ENOENT},
};

static bool question_denied(enum question question)
{
	return probe_denies(questions[question].name) ||
	       (question <= ASK_USER_MODE && probe_denies("userfaultfd"));
}

static int try(enum question question)
{
	if (question_denied(question))
		return questions[question].lacking;
	switch (question) {
	case ASK_PAGEMAP_SCAN:
		return try_pagemap_scan();
	case ASK_IO_URING:
		return try_io_uring();
	case ASK_MEMFD:
		return try_memfd();
	case ASK_KMOD:
		return try_kmod();
	default:
		return try_way(question);
	}
}

bool errno_is_transient(int answer)
{
	return answer == -EMFILE || answer == -ENFILE || answer == -ENOMEM;
}

static struct {
	bool known;
	int answer;
} answers[ASK_COUNT];
static pthread_mutex_t answers_lock = PTHREAD_MUTEX_INITIALIZER;

int probe_ask(enum question question)
{
	int answer;

	pthread_mutex_lock(&answers_lock);
	if (!answers[question].known) {
		answers[question].answer = try(question);
		answers[question].known = !errno_is_transient(answers[question].answer);
	}
	answer = answers[question].answer;
	pthread_mutex_unlock(&answers_lock);
	return answer;
}

/* The answer if it was asked already, else 1. */
static int known_answer(enum question question)
{
	int answer;

	pthread_mutex_lock(&answers_lock);
	answer = answers[question].known ? answers[question].answer : 1;
	pthread_mutex_unlock(&answers_lock);
	return answer;
}

static uint64_t known_features(void)
{
	uint64_t features = __atomic_load_n(&uffd_features, __ATOMIC_RELAXED);

	if (probe_denies("wp"))
		features &= ~(uint64_t)(UFFD_FEATURE_PAGEFAULT_FLAG_WP |
					UFFD_FEATURE_WP_HUGETLBFS_SHMEM |
					UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_WP_ASYNC);
	if (probe_denies("wp-async"))
		features &= ~(uint64_t)UFFD_FEATURE_WP_ASYNC;
	if (probe_denies("poison"))
		features &= ~(uint64_t)UFFD_FEATURE_POISON;
	return features;
}

bool probe_has_features(uint64_t wanted)
{
	return (known_features() & wanted) == wanted;
}

int probe_open_uffd(enum delivery delivery, uint64_t features)
{
	if (delivery == DELIVERY_UFFD_USER)
		return open_uffd(ASK_USER_MODE, &features);
	if (delivery != DELIVERY_UFFD)
		return -ENOSYS;
	return open_uffd(probe_ask(ASK_PRIVILEGED) ? ASK_DEVICE : ASK_PRIVILEGED, &features);
}

int probe_try_features(uint64_t features)
{
	int fd = probe_denies("fork-events") && features & UFFD_FEATURE_EVENT_FORK
			 ? -EPERM
			 : open_uffd(probe_ask(ASK_PRIVILEGED) ? ASK_DEVICE : ASK_PRIVILEGED,
				     &features);

	if (fd < 0)
		return fd;
	close(fd);
	return 0;
}

int probe_wp_async_lacks(void)
{
	if (!probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_ASYNC |
				UFFD_FEATURE_WP_UNPOPULATED))
		return -ENOTTY;
	return probe_ask(ASK_PAGEMAP_SCAN);
}

/* ---- Why not ---- */

/* Mode 2 of seccomp(2). In mode 1 the kernel would kill the process for this call. */
static bool filtered(void)
{
	return prctl(PR_GET_SECCOMP) == 2;
}

static const char *why_way(enum question way, int answer)
{
	/* User mode needs no privilege, so its EPERM has another reason. */
	if (answer == -EPERM && (way == ASK_USER_MODE || known_answer(ASK_USER_MODE) == -EPERM))
		return filtered() ? "a seccomp filter forbids userfaultfd(2)"
				  : "a security module forbids userfaultfd(2)";
	if (answer == -EPERM)
		return "it takes CAP_SYS_PTRACE, or sysctl vm.unprivileged_userfaultfd=1";
	if (answer == -ENOSYS)
		return filtered() ? "a seccomp filter, or a kernel without CONFIG_USERFAULTFD"
				  : "the kernel is without CONFIG_USERFAULTFD";
	return answer == -EINVAL && way == ASK_USER_MODE ? "it takes Linux 5.11" : NULL;
}

static const char *why_device(int answer)
{
	switch (answer) {
	case -ENOENT:
	case -ENXIO:
	case -ENODEV:
		return "there is no /dev/userfaultfd (Linux 6.1)";
	case -EACCES:
		return "/dev/userfaultfd is not for this user (see its mode)";
	case -EPERM:
		return "/dev/userfaultfd is not for this control group";
	default:
		return NULL;
	}
}

static const char *why_kmod(int answer)
{
	switch (answer) {
	case -ENOENT:
		return "there is no " THAW_KMOD_DEVICE ": the module thaw is not loaded";
	case -ENXIO:
	case -ENODEV:
		return "nothing is behind " THAW_KMOD_DEVICE ": the module thaw is not loaded";
	case -EACCES:
		return THAW_KMOD_DEVICE " is not for this user (see its mode)";
	case -EPERM:
		return THAW_KMOD_DEVICE
			" is not for this control group, or a security module forbids it";
	case -EOPNOTSUPP:
		return THAW_KMOD_DEVICE " is no node of a devtmpfs or tmpfs";
	case -EINVAL: /* another version's, or anything that has this name */
	case -ENOTTY:
	case -EISDIR:
	case -ELOOP:
		return THAW_KMOD_DEVICE " is not the device of this version of Thaw's module";
	default:
		return NULL;
	}
}

static const char *why(enum question question, int answer)
{
	if (errno_is_transient(answer))
		return answer == -ENOMEM ? NULL : "see ulimit -n";
	if (question_denied(question))
		return "THAW_WITHOUT says so";
	switch (question) {
	case ASK_PRIVILEGED:
	case ASK_USER_MODE:
		return why_way(question, answer);
	case ASK_DEVICE:
		return why_device(answer);
	case ASK_PAGEMAP_SCAN:
		return answer == -ENOTTY || answer == -EPERM ? "it takes Linux 6.7"
		       : answer == -ENOENT ? "there is no /proc/self/pagemap: mount /proc"
					   : "/proc/self/pagemap cannot be opened";
	case ASK_IO_URING:
		if (answer == -ENOENT)
			return "there is no /proc/self/fd: mount /proc";
		if (answer == -EPERM || answer == -EACCES)
			return filtered() ? "sysctl kernel.io_uring_disabled, or a seccomp filter"
					  : "sysctl kernel.io_uring_disabled";
		if (answer == -ENOSYS)
			return filtered() ? "a seccomp filter, or a kernel without CONFIG_IO_URING"
					  : "the kernel is without CONFIG_IO_URING";
		return NULL;
	case ASK_MEMFD:
		if (answer == -EPERM || answer == -EACCES || answer == -ENOSYS)
			return filtered() ? "a seccomp filter forbids memfd_create(2)"
					  : "memfd_create(2) is forbidden";
		return NULL;
	case ASK_KMOD:
		return why_kmod(answer);
	default:
		return NULL;
	}
}

void probe_explain(enum question question, int answer, char *text, size_t bytes)
{
	const char *name = strerrorname_np(-answer), *reason = why(question, answer);

	snprintf(text, bytes, "%s: %s", name ? name : "error",
		 reason ? reason : thaw_strerror(answer));
}
