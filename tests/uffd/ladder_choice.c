// SPDX-License-Identifier: GPL-2.0-only
/*
 * Each back end is chosen where the better ones are lacking, or when it is asked for; what cannot be had
 * is refused in one line that says why; and running out of descriptors is an error, not a reason to be
 * slow.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compat.h"
#include "kmod.h"
#include "probe.h"

static struct backends backends;
static struct thaw_error error;

static void ask_for(const char *delivery, const char *tracker, const char *backing,
		    const char *without)
{
	setenv("THAW_DELIVERY", delivery, 1);
	setenv("THAW_TRACKER", tracker, 1);
	setenv("THAW_BACKING", backing, 1);
	setenv("THAW_WITHOUT", without, 1);
}

/* The environment is that of each test alone: a process of its own. */
static int choose(const char *delivery, const char *tracker, const char *backing,
		  const char *without)
{
	int code;

	ask_for(delivery, tracker, backing, without);
	error = (struct thaw_error){0};
	code = probe_choose(&backends, false, &error);
	if (code)
		printf("# %d: %s\n", code, error.text);
	return code;
}

/* In whatever way, a userfaultfd can be had. */
static bool have(enum question door)
{
	return !probe_ask(door);
}
static bool have_any(void)
{
	return have(ASK_PRIVILEGED) || have(ASK_DEVICE) || have(ASK_USER_MODE);
}

/* Asked without the library: the module is loaded, and for this user. */
static bool module_is_here(void)
{
	struct thaw_kmod_create create = {.version = THAW_KMOD_VERSION, .max_bytes = 65536};
	int fd = open(THAW_KMOD_DEVICE, O_RDWR | O_CLOEXEC);
	bool here = fd >= 0 && !ioctl(fd, THAW_KMOD_CREATE, &create);

	if (fd >= 0)
		close(fd);
	return here;
}

static bool one_line_with(const char *word)
{
	return strstr(error.text, word) && !strchr(error.text, '\n');
}

/*
 * What the other tests rest on, most of which are skipped where something is lacking: what this kernel
 * and these privileges give, asked without the library, is what is chosen.
 */
TEST(the_best_that_is_here)
{
	struct uffdio_api api = {.api = UFFD_API};
	struct io_uring_params params = {0};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), ring;
	enum delivery wanted = fd < 0 ? DELIVERY_SIGNAL : DELIVERY_UFFD;
	bool writes;

	if (fd < 0)
		fd = open("/dev/userfaultfd", O_RDWR | O_CLOEXEC);
	if (fd >= 0 &&
	    wanted != DELIVERY_UFFD) { /* it makes one, and has to be there for that only */
		int made = ioctl(fd, USERFAULTFD_IOC_NEW, O_CLOEXEC | O_NONBLOCK);

		close(fd);
		fd = made;
		wanted = fd < 0 ? DELIVERY_SIGNAL : DELIVERY_UFFD;
	}
	if (fd < 0) {
		fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
		wanted = fd < 0 ? DELIVERY_SIGNAL : DELIVERY_UFFD_USER;
	}
	if (fd >= 0) {
		ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
		close(fd);
	}
	ASSERT_EQ(0, choose("", "", "", "kmod"));
	EXPECT_EQ(wanted, backends.delivery);
	writes = api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP;
	EXPECT_EQ(!writes				 ? TRACKER_MPROTECT
		  : api.features & UFFD_FEATURE_WP_ASYNC ? TRACKER_WP_ASYNC
							 : TRACKER_WP_SYNC,
		  backends.tracker);
	EXPECT_EQ(!!(api.features & UFFD_FEATURE_POISON), backends.poison);
	ring = (int)syscall(SYS_io_uring_setup, 4, &params);
	EXPECT_EQ(ring < 0 ? READER_THREADS : READER_URING, backends.reader);
	if (ring >= 0)
		close(ring);
}

/* The module is better than all of that, where it is loaded and open to this user. */
TEST(the_module_is_better)
{
	bool here = module_is_here();

	ASSERT_EQ(0, choose("", "", "", ""));
	EXPECT_EQ(here, backends.delivery == DELIVERY_KMOD);
	EXPECT_EQ(here, backends.tracker == TRACKER_KMOD);
	EXPECT_EQ(here, backends.backing == BACKING_KMOD);
	if (here)
		EXPECT_TRUE(backends.poison);
}

TEST(no_userfaultfd_at_all)
{
	ASSERT_EQ(0, choose("", "", "", "userfaultfd,kmod"));
	EXPECT_EQ(DELIVERY_SIGNAL, backends.delivery);
	EXPECT_EQ(TRACKER_MPROTECT, backends.tracker);
	EXPECT_EQ(BACKING_MEMFD, backends.backing);
	EXPECT_FALSE(backends.poison);
	EXPECT_NE(NULL, strstr(backends.why, "userfaultfd is not available"))
	TH_LOG("%s", backends.why);
}

TEST(neither_userfaultfd_nor_memory_to_share)
{
	ASSERT_EQ(0, choose("", "", "", "userfaultfd,memfd,kmod"));
	EXPECT_EQ(DELIVERY_EAGER, backends.delivery);
	EXPECT_EQ(TRACKER_MPROTECT, backends.tracker);
	EXPECT_EQ(BACKING_ANONYMOUS, backends.backing);
	EXPECT_NE(NULL, strstr(backends.why, "memfd")) TH_LOG("%s", backends.why);
}

/* Memory that may not be shared leaves one way. */
TEST(anonymous_memory_without_userfaultfd)
{
	ASSERT_EQ(0, choose("", "", "anonymous", "userfaultfd"));
	EXPECT_EQ(DELIVERY_EAGER, backends.delivery);
	EXPECT_EQ(BACKING_ANONYMOUS, backends.backing);
}

/* A memfd serves one delivery. */
TEST(a_memfd_is_for_sigsegv)
{
	ASSERT_EQ(0, choose("", "", "memfd", ""));
	EXPECT_EQ(DELIVERY_SIGNAL, backends.delivery);
	EXPECT_EQ(TRACKER_MPROTECT, backends.tracker);
	EXPECT_EQ(BACKING_MEMFD, backends.backing);
	EXPECT_STREQ("THAW_BACKING=memfd", backends.why);
}

TEST(user_mode_alone)
{
	if (!have(ASK_USER_MODE))
		SKIP(return, "no UFFD_USER_MODE_ONLY");
	ASSERT_EQ(0, choose("", "", "", "privileged-userfaultfd,dev-userfaultfd,kmod"));
	EXPECT_EQ(DELIVERY_UFFD_USER, backends.delivery);
	EXPECT_NE('\0', backends.why[0]);
}

TEST(without_write_protection_faults_still_come_from_userfaultfd)
{
	if (!have_any())
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, choose("", "", "", "wp,kmod"));
	EXPECT_GE(DELIVERY_UFFD_USER, backends.delivery);
	EXPECT_EQ(TRACKER_MPROTECT, backends.tracker);
}

TEST(without_what_wp_async_needs)
{
	if (choose("", "wp-sync", "", "wp-async"))
		SKIP(return, "%s", error.text);
	ASSERT_EQ(0, choose("", "", "", "wp-async,kmod"));
	EXPECT_EQ(TRACKER_WP_SYNC, backends.tracker);
}

TEST(without_pagemap_scan)
{
	if (choose("", "wp-sync", "", "pagemap-scan"))
		SKIP(return, "%s", error.text);
	ASSERT_EQ(0, choose("", "", "", "pagemap-scan,kmod"));
	EXPECT_EQ(TRACKER_WP_SYNC, backends.tracker);
}

TEST(without_poison)
{
	ASSERT_EQ(0, choose("", "", "", "poison"));
	EXPECT_FALSE(backends.poison);
}

/* Each that is asked for is what one gets, or the line says what is missing. */
TEST(every_backend_is_forced)
{
	static const char *const deliveries[] = {"kmod", "userfaultfd", "user-mode", "sigsegv",
						 "eager"};
	static const char *const trackers[] = {"kmod", "wp-async", "wp-sync", "mprotect"};

	for (int delivery = DELIVERY_KMOD; delivery <= DELIVERY_EAGER; delivery++) {
		int code = choose(deliveries[delivery], "", "", "");

		EXPECT_EQ(code ? THAW_EKERNEL : 0, code);
		EXPECT_TRUE(code ? one_line_with(deliveries[delivery])
				 : delivery == (int)backends.delivery);
		if (!code && delivery > DELIVERY_UFFD)
			EXPECT_TRUE(!strncmp(backends.why, "THAW_DELIVERY=", 14));
		EXPECT_STREQ(deliveries[delivery], delivery_name((enum delivery)delivery));
	}
	for (int tracker = TRACKER_KMOD; tracker <= TRACKER_MPROTECT; tracker++) {
		int code = choose("", trackers[tracker], "", "");

		EXPECT_EQ(code ? THAW_EKERNEL : 0, code);
		EXPECT_TRUE(code ? one_line_with(trackers[tracker])
				 : tracker == (int)backends.tracker);
		EXPECT_STREQ(trackers[tracker], tracker_name((enum tracker_kind)tracker));
	}
	/* What every kernel that is tested has. */
	EXPECT_EQ(0, choose("sigsegv", "", "", ""));
	EXPECT_EQ(0, choose("sigsegv", "mprotect", "memfd", ""));
	EXPECT_EQ(0, choose("eager", "mprotect", "anonymous", ""));
	EXPECT_EQ(0, choose("", "mprotect", "", ""));
}

TEST(a_forced_backend_that_is_not_here)
{
	EXPECT_EQ(THAW_EKERNEL, choose("userfaultfd", "", "", "userfaultfd"));
	EXPECT_TRUE(one_line_with("userfaultfd"));
	EXPECT_EQ(THAW_EKERNEL, choose("user-mode", "", "", "user-mode"));
	EXPECT_TRUE(one_line_with("5.11"));
	EXPECT_EQ(THAW_EKERNEL, choose("sigsegv", "", "", "userfaultfd,memfd"));
	EXPECT_TRUE(one_line_with("memfd"));
	EXPECT_EQ(THAW_EKERNEL, choose("", "wp-sync", "", "userfaultfd"));
	EXPECT_TRUE(one_line_with("userfaultfd is not available"));
	EXPECT_EQ(THAW_EKERNEL, choose("", "", "memfd", "memfd"));
	EXPECT_TRUE(one_line_with("THAW_BACKING=memfd"));
}

/* One thing with three names: each of them gives all of it, or says why it cannot be had. */
TEST(the_module_is_all_three)
{
	static const char *const asked[][3] = {
		{"kmod", "", ""}, {"", "kmod", ""}, {"", "", "kmod"}, {"kmod", "kmod", "kmod"}};
	int expected = module_is_here() ? 0 : THAW_EKERNEL;

	for (unsigned i = 0; i < sizeof(asked) / sizeof(asked[0]); i++) {
		ASSERT_EQ(expected, choose(asked[i][0], asked[i][1], asked[i][2], ""));
		if (expected) {
			EXPECT_TRUE(one_line_with("=kmod, but it is not available ("));
		} else {
			EXPECT_EQ(DELIVERY_KMOD, backends.delivery);
			EXPECT_EQ(TRACKER_KMOD, backends.tracker);
			EXPECT_EQ(BACKING_KMOD, backends.backing);
		}
	}
	if (access(THAW_KMOD_DEVICE, F_OK))
		EXPECT_TRUE(one_line_with(
			"ENOENT: there is no /dev/thaw: the module thaw is not loaded"));
}

TEST(the_module_is_denied)
{
	EXPECT_EQ(THAW_EKERNEL, choose("", "kmod", "", "kmod"));
	EXPECT_TRUE(one_line_with("THAW_TRACKER=kmod"));
	EXPECT_TRUE(one_line_with("THAW_WITHOUT says so"));
	ASSERT_EQ(0, choose("", "", "", "kmod"));
	EXPECT_NE(DELIVERY_KMOD, backends.delivery);
	EXPECT_NE(TRACKER_KMOD, backends.tracker);
	EXPECT_NE(BACKING_KMOD, backends.backing);
}

/* What others ask for is not given with the module's memory. */
TEST(beside_the_module)
{
	ASSERT_EQ(0, choose("", "mprotect", "", ""));
	EXPECT_NE(DELIVERY_KMOD, backends.delivery);
	EXPECT_NE(BACKING_KMOD, backends.backing);
	ASSERT_EQ(0, choose("", "", "anonymous", ""));
	EXPECT_EQ(BACKING_ANONYMOUS, backends.backing);
	EXPECT_NE(TRACKER_KMOD, backends.tracker);
}

TEST(a_forced_tracker_that_is_not_here)
{
	if (!have_any())
		SKIP(return, "no userfaultfd");
	EXPECT_EQ(THAW_EKERNEL, choose("", "wp-async", "", "wp-async"));
	EXPECT_TRUE(one_line_with("THAW_TRACKER=wp-async"));
	EXPECT_EQ(THAW_EKERNEL, choose("", "wp-sync", "", "wp"));
	EXPECT_TRUE(one_line_with("write-protect"));
}

TEST(what_contradicts_itself)
{
	EXPECT_EQ(-EINVAL, choose("sigsegv", "wp-async", "", ""));
	EXPECT_TRUE(one_line_with("contradicts"));
	EXPECT_EQ(-EINVAL, choose("eager", "wp-sync", "", ""));
	EXPECT_EQ(-EINVAL, choose("sigsegv", "", "anonymous", ""));
	EXPECT_EQ(-EINVAL, choose("eager", "", "memfd", ""));
	EXPECT_EQ(-EINVAL, choose("userfaultfd", "", "memfd", ""));
	EXPECT_EQ(-EINVAL, choose("", "wp-sync", "memfd", ""));
	EXPECT_TRUE(one_line_with("contradicts"));
	EXPECT_EQ(-EINVAL, choose("kmod", "wp-async", "", ""));
	EXPECT_TRUE(one_line_with("THAW_DELIVERY=kmod contradicts THAW_TRACKER=wp-async"));
	EXPECT_EQ(-EINVAL, choose("userfaultfd", "kmod", "", ""));
	EXPECT_TRUE(one_line_with("THAW_TRACKER=kmod contradicts THAW_DELIVERY=userfaultfd"));
	EXPECT_EQ(-EINVAL, choose("", "mprotect", "kmod", ""));
	EXPECT_TRUE(one_line_with("THAW_BACKING=kmod contradicts THAW_TRACKER=mprotect"));
	EXPECT_EQ(-EINVAL, choose("kmod", "kmod", "anonymous", ""));
	EXPECT_TRUE(one_line_with("THAW_DELIVERY=kmod contradicts THAW_BACKING=anonymous"));
	EXPECT_EQ(-EINVAL, choose("eager", "", "kmod", ""));
	EXPECT_TRUE(one_line_with("contradicts"));
}

TEST(words_that_are_none)
{
	EXPECT_EQ(-EINVAL, choose("magic", "", "", ""));
	EXPECT_TRUE(one_line_with("kmod, userfaultfd, user-mode, sigsegv, eager"));
	EXPECT_EQ(-EINVAL, choose("", "magic", "", ""));
	EXPECT_TRUE(one_line_with("kmod, wp-async, wp-sync, mprotect"));
	EXPECT_EQ(-EINVAL, choose("", "", "magic", ""));
	EXPECT_TRUE(one_line_with("kmod, anonymous, memfd"));
	EXPECT_EQ(-EINVAL, choose("", "", "", "wp,magic"));
	EXPECT_TRUE(one_line_with("magic"));
	EXPECT_EQ(0, choose("", "", "", ",wp,"));
}

/* It says so; and with descriptors again, the same process has the best backend again. */
TEST(out_of_descriptors)
{
	struct rlimit before, none;
	enum delivery best;
	pid_t child;
	int status;

	/* What there is, without this process having asked. */
	child = fork();
	if (!child)
		_exit(choose("", "", "", "") ? 99 : (int)backends.delivery);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) != 99);
	best = (enum delivery)WEXITSTATUS(status);

	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	none = before;
	none.rlim_cur = (rlim_t)dup(0);
	close((int)none.rlim_cur);
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	/* A system call that is forbidden is so with no descriptors, too. */
	EXPECT_EQ(-EMFILE, choose("", "", "", ""));
	EXPECT_TRUE(one_line_with("ulimit -n"));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	ASSERT_EQ(0, choose("", "", "", ""));
	EXPECT_EQ(best, backends.delivery);
}

static int open_all(enum delivery delivery)
{
	uint64_t features = probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP)
				    ? UFFD_FEATURE_PAGEFAULT_FLAG_WP
				    : 0;
	int fd = probe_open_uffd(delivery, features);

	if (fd >= 0)
		close(fd);
	return fd < 0 ? fd : 0;
}

TEST(the_device_where_the_system_call_is_not_for_us)
{
	ask_for("userfaultfd", "", "", "privileged-userfaultfd");
	if (probe_ask(ASK_DEVICE))
		SKIP(return, "no /dev/userfaultfd: %s", thaw_strerror(probe_ask(ASK_DEVICE)));
	ASSERT_EQ(0, probe_choose(&backends, false, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(DELIVERY_UFFD, backends.delivery);
	EXPECT_EQ(0, open_all(backends.delivery));
}

static int sysctl_value(const char *path)
{
	FILE *file = fopen(path, "re");
	int value = -1;

	if (file) {
		if (fscanf(file, "%d", &value) != 1)
			value = -1;
		fclose(file);
	}
	return value;
}

TEST(an_ordinary_user)
{
	int allowed = sysctl_value("/proc/sys/vm/unprivileged_userfaultfd");
	enum delivery wanted = DELIVERY_SIGNAL;

	if (geteuid() == 0)
		ASSERT_EQ(0, setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534));
	if (!module_is_here()) { /* or it is, and its mode says: not for others */
		ASSERT_EQ(THAW_EKERNEL, choose("kmod", "", "", ""));
		if (!access(THAW_KMOD_DEVICE, F_OK))
			EXPECT_TRUE(one_line_with("EACCES: /dev/thaw is not for this user"));
	}
	ASSERT_EQ(0, choose("", "", "", "kmod"));
	if (allowed == 1 || !access("/dev/userfaultfd", R_OK | W_OK))
		wanted = DELIVERY_UFFD;
	else if (have(ASK_USER_MODE))
		wanted = DELIVERY_UFFD_USER;
	EXPECT_EQ(wanted, backends.delivery);
	if (backends.delivery <= DELIVERY_UFFD_USER)
		EXPECT_EQ(0, open_all(backends.delivery));
	if (backends.delivery == DELIVERY_UFFD_USER)
		EXPECT_NE(NULL, strstr(backends.why, "CAP_SYS_PTRACE")) TH_LOG("%s", backends.why);
}

/* As a container engine's does. */
TEST(a_filter_against_userfaultfd)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_userfaultfd, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(filter) / sizeof(filter[0]), filter};

	ASSERT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		SKIP(return, "no seccomp here: %s", strerror(errno));
	ASSERT_EQ(0, choose("", "", "", "dev-userfaultfd,kmod"));
	EXPECT_EQ(DELIVERY_SIGNAL, backends.delivery);
	EXPECT_NE(NULL, strstr(backends.why, "EPERM: a seccomp filter")) TH_LOG("%s", backends.why);
	EXPECT_EQ(THAW_EKERNEL, choose("userfaultfd", "", "", "dev-userfaultfd"));
	EXPECT_TRUE(one_line_with("EPERM: a seccomp filter"));
}

TEST_HARNESS_MAIN
