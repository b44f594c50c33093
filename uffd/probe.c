/* SPDX-License-Identifier: MIT */
/*
 * probe.c - asks the kernel what it can do (CRIU's kerndat.c is the model) and chooses back ends from
 * that. What the user is told about it is in capabilities.c.
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
#include "sys.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

/* ---- THAW_WITHOUT ---- */

static const char *const deniable[] = {
	"userfaultfd", "privileged-userfaultfd", "dev-userfaultfd", "user-mode", "wp",
	"wp-async",    "pagemap-scan",		 "poison",	    "memfd",	 "io_uring",
	"multishot",
};

/* "a, b, c" */
static void list_words(char *list, size_t bytes, const char *const *words, size_t count)
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
static int check_denials(struct thaw_error *error)
{
	const char *at = secure_getenv("THAW_WITHOUT");

	while (at && *at) {
		size_t word = strcspn(at, ","), i;

		for (i = 0; i < COUNT(deniable); i++)
			if (strlen(deniable[i]) == word && !memcmp(at, deniable[i], word))
				break;
		if (word && i == COUNT(deniable)) {
			char list[200];

			list_words(list, sizeof(list), deniable, COUNT(deniable));
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

/* ---- Choosing ---- */

static const char *const delivery_names[] = {"userfaultfd", "user-mode", "sigsegv", "eager"};
static const char *const tracker_names[] = {"wp-async", "wp-sync", "mprotect"};
static const char *const backing_names[] = {"anonymous", "memfd"};
static const char *const reader_names[] = {"io_uring", "threads"};

const char *delivery_name(enum delivery delivery)
{
	return delivery_names[delivery];
}

const char *tracker_name(enum tracker_kind tracker)
{
	return tracker_names[tracker];
}

const char *backing_name(enum backing backing)
{
	return backing_names[backing];
}

const char *reader_name(enum reader_kind reader)
{
	return reader_names[reader];
}

const char *poison_name(bool poison)
{
	return poison ? "poison" : "PROT_NONE";
}

#define ANY (-1)

/* What the environment forces: one backend of each kind, or ANY. */
struct wishes {
	int delivery, tracker, backing, reader;
};

static int read_wish(int *wish, const char *variable, const char *const *names, size_t count,
		     struct thaw_error *error)
{
	const char *word = secure_getenv(variable);
	char list[80];

	*wish = ANY;
	if (!word || !*word)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, names[i]))
			*wish = (int)i;
	if (*wish != ANY)
		return 0;
	list_words(list, sizeof(list), names, count);
	return error_set(error, -EINVAL, "%s=%s is not one of %s", variable, word, list);
}

static int read_wishes(struct wishes *wishes, struct thaw_error *error)
{
	int code = check_denials(error);

	if (!code)
		code = read_wish(&wishes->delivery, "THAW_DELIVERY", delivery_names,
				 COUNT(delivery_names), error);
	if (!code)
		code = read_wish(&wishes->tracker, "THAW_TRACKER", tracker_names,
				 COUNT(tracker_names), error);
	if (!code)
		code = read_wish(&wishes->backing, "THAW_BACKING", backing_names,
				 COUNT(backing_names), error);
	if (!code)
		code = read_wish(&wishes->reader, "THAW_READER", reader_names, COUNT(reader_names),
				 error);
	if (code)
		return code;
	if (delivery_without_uffd(wishes->delivery) && wishes->tracker != ANY &&
	    wishes->tracker != TRACKER_MPROTECT)
		return error_set(
			error, -EINVAL,
			"THAW_DELIVERY=%s contradicts THAW_TRACKER=%s, which needs a userfaultfd",
			delivery_names[wishes->delivery], tracker_names[wishes->tracker]);
	if (wishes->backing == BACKING_MEMFD && wishes->tracker != ANY &&
	    wishes->tracker != TRACKER_MPROTECT)
		return error_set(
			error, -EINVAL,
			"THAW_BACKING=memfd contradicts THAW_TRACKER=%s, which needs a userfaultfd",
			tracker_names[wishes->tracker]);
	if (wishes->delivery != ANY && wishes->backing != ANY &&
	    (wishes->delivery == DELIVERY_SIGNAL) != (wishes->backing == BACKING_MEMFD))
		return error_set(error, -EINVAL,
				 "THAW_DELIVERY=%s contradicts THAW_BACKING=%s: its memory is %s",
				 delivery_names[wishes->delivery], backing_names[wishes->backing],
				 backing_names[!wishes->backing]);
	return 0;
}

/* 0, or the -errno of what is lacking. */
static int delivery_lacks(enum delivery delivery, const struct wishes *wishes)
{
	int code = 0;

	switch (delivery) {
	case DELIVERY_UFFD:
		code = probe_ask(ASK_PRIVILEGED);
		return code && !errno_is_transient(code) ? probe_ask(ASK_DEVICE) : code;
	case DELIVERY_UFFD_USER:
		return probe_ask(ASK_USER_MODE);
	case DELIVERY_SIGNAL:
		return wishes->backing == BACKING_ANONYMOUS ? -EINVAL : probe_ask(ASK_MEMFD);
	case DELIVERY_EAGER:
		break;
	}
	return code;
}

/* A delivery that is forced, and not available. */
static int refuse_delivery(enum delivery delivery, const struct wishes *wishes,
			   struct thaw_error *error)
{
	char first[120], second[120];

	if (delivery == DELIVERY_UFFD) {
		probe_ask(
			ASK_USER_MODE); /* with its answer, a filter can be distinguished from missing privileges */
		probe_explain(ASK_PRIVILEGED, probe_ask(ASK_PRIVILEGED), first, sizeof(first));
		probe_explain(ASK_DEVICE, probe_ask(ASK_DEVICE), second, sizeof(second));
		return error_set(error, THAW_EKERNEL,
				 "THAW_DELIVERY=userfaultfd, but it is not available (%s; %s)",
				 first, second);
	}
	if (delivery == DELIVERY_UFFD_USER) {
		probe_explain(ASK_USER_MODE, probe_ask(ASK_USER_MODE), first, sizeof(first));
		return error_set(
			error, THAW_EKERNEL,
			"THAW_DELIVERY=user-mode, but UFFD_USER_MODE_ONLY (Linux 5.11) is not available (%s)",
			first);
	}
	probe_explain(ASK_MEMFD, probe_ask(ASK_MEMFD), first, sizeof(first));
	return error_set(error, THAW_EKERNEL,
			 "THAW_%s, but memfd_create(2) (Linux 3.17) is not available (%s)",
			 wishes->delivery == ANY ? "BACKING=memfd" : "DELIVERY=sigsegv", first);
}

/* Why a better delivery is not used: a start may have taken long because of it. */
static void explain_delivery(struct backends *backends, const struct wishes *wishes)
{
	char uffd[120], memfd[150] = "";

	if (backends->delivery == DELIVERY_UFFD)
		return;
	if (wishes->delivery != ANY) {
		snprintf(backends->why, sizeof(backends->why), "THAW_DELIVERY=%s",
			 delivery_names[wishes->delivery]);
		return;
	}
	if (wishes->backing == BACKING_MEMFD) {
		snprintf(backends->why, sizeof(backends->why), "THAW_BACKING=memfd");
		return;
	}
	probe_explain(ASK_PRIVILEGED, probe_ask(ASK_PRIVILEGED), uffd, sizeof(uffd));
	if (backends->delivery == DELIVERY_UFFD_USER) {
		snprintf(backends->why, sizeof(backends->why),
			 "userfaultfd serves no system calls (%s)", uffd);
		return;
	}
	if (backends->delivery == DELIVERY_EAGER && wishes->backing == BACKING_ANONYMOUS)
		snprintf(memfd, sizeof(memfd), ", and THAW_BACKING=anonymous");
	else if (backends->delivery == DELIVERY_EAGER) {
		char text[100];

		probe_explain(ASK_MEMFD, probe_ask(ASK_MEMFD), text, sizeof(text));
		snprintf(memfd, sizeof(memfd), ", nor is memfd_create (%s)", text);
	}
	snprintf(backends->why, sizeof(backends->why), "userfaultfd is not available (%s)%s", uffd,
		 memfd);
}

static int choose_delivery(struct backends *backends, const struct wishes *wishes,
			   struct thaw_error *error)
{
	/* A memfd belongs to one delivery. */
	enum delivery first = wishes->backing == BACKING_MEMFD ? DELIVERY_SIGNAL : DELIVERY_UFFD;
	enum delivery delivery = wishes->delivery == ANY ? first : (enum delivery)wishes->delivery;
	int code;

	while ((code = delivery_lacks(delivery, wishes))) {
		/* Being out of descriptors is an error, not a reason for a slower backend. */
		if (errno_is_transient(code))
			return error_set(error, code, "cannot ask the kernel for %s: %s%s",
					 delivery == DELIVERY_SIGNAL ? "a memfd" : "a userfaultfd",
					 thaw_strerror(code),
					 code == -ENOMEM ? "" : " (see ulimit -n)");
		if (wishes->delivery != ANY || wishes->backing == BACKING_MEMFD)
			return refuse_delivery(delivery, wishes, error);
		delivery++;
	}
	backends->delivery = delivery;
	/*
	 * Behind SIGSEGV a page must be filled before the program can see it, through a second mapping. Under
	 * userfaultfd anonymous memory is faster: a page arrived in two thirds of the time that it took on a memfd.
	 */
	backends->backing = delivery == DELIVERY_SIGNAL ? BACKING_MEMFD : BACKING_ANONYMOUS;
	explain_delivery(backends, wishes);
	return 0;
}

int probe_wp_async_lacks(void)
{
	if (!probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_ASYNC |
				UFFD_FEATURE_WP_UNPOPULATED))
		return -ENOTTY;
	return probe_ask(ASK_PAGEMAP_SCAN);
}

static int choose_tracker(struct backends *backends, const struct wishes *wishes,
			  struct thaw_error *error)
{
	bool uffd = !delivery_without_uffd(backends->delivery), forced = wishes->tracker != ANY;
	int lacks;

	backends->tracker = TRACKER_MPROTECT;
	if (wishes->tracker == TRACKER_MPROTECT)
		return 0;
	if (forced && !uffd)
		return error_set(error, THAW_EKERNEL, "THAW_TRACKER=%s, but %s",
				 tracker_names[wishes->tracker], backends->why);
	if (!uffd)
		return 0;
	if (!probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		return forced ? error_set(
					error, THAW_EKERNEL,
					"THAW_TRACKER=%s, but this kernel's userfaultfd cannot write-protect (Linux " WP_SINCE
					")",
					tracker_names[wishes->tracker])
			      : 0;
	backends->tracker = TRACKER_WP_SYNC;
	if (wishes->tracker == TRACKER_WP_SYNC)
		return 0;
	lacks = probe_wp_async_lacks();
	if (errno_is_transient(lacks))
		return error_set(error, lacks, "cannot open /proc/self/pagemap: %s%s",
				 thaw_strerror(lacks), lacks == -ENOMEM ? "" : " (see ulimit -n)");
	if (!lacks)
		backends->tracker = TRACKER_WP_ASYNC;
	else if (forced)
		return error_set(
			error, THAW_EKERNEL,
			"THAW_TRACKER=wp-async, but this kernel lacks WP_ASYNC or PAGEMAP_SCAN (Linux " WP_ASYNC_SINCE
			")");
	return 0;
}

/*
 * Threads read where there is no ring, or not even the small locked memory that a ring takes before
 * Linux 5.12 (ulimit -l).
 */
static int choose_reader(struct backends *backends, const struct wishes *wishes,
			 struct thaw_error *error)
{
	int code = wishes->reader == READER_THREADS ? -ENOSYS : probe_ask(ASK_IO_URING);
	char text[120];

	backends->reader = code ? READER_THREADS : READER_URING;
	backends->reader_forced = wishes->reader == READER_URING;
	if (!code ||
	    (wishes->reader != READER_URING && (!errno_is_transient(code) || code == -ENOMEM)))
		return 0;
	probe_explain(ASK_IO_URING, code, text, sizeof(text));
	return error_set(error, errno_is_transient(code) ? code : THAW_EKERNEL,
			 "io_uring is not available (%s)", text);
}

int probe_choose(struct backends *backends, struct thaw_error *error)
{
	struct wishes wishes;
	int code;

	*backends = (struct backends){.delivery = DELIVERY_UFFD};
	code = read_wishes(&wishes, error);
	if (!code)
		code = choose_delivery(backends, &wishes, error);
	if (!code)
		code = choose_tracker(backends, &wishes, error);
	if (!code)
		code = choose_reader(backends, &wishes, error);
	backends->poison = !delivery_without_uffd(backends->delivery) &&
			   probe_has_features(UFFD_FEATURE_POISON);
	return code;
}
