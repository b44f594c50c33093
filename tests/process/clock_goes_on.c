// SPDX-License-Identifier: GPL-2.0-only
/*
 * clock_goes_on - the monotonic clock of a program that is restored never goes back: after a reboot it goes on where it
 * was, in a time namespace; where none may be made, that is told.
 *
 * Another boot is one with another name, and one whose clocks are behind: those of a machine that has been running
 * for as long as the test wants, which time namespaces play here, too.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <sched.h>

#include "base/clock.h"
#include "kselftest_harness.h"
#include "process/process.h"
#include "support.h"

#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

#define SECOND 1000000000ull
#define HOUR (3600 * SECOND)
/* Nothing here takes that long; offsets are hours. */
#define SOON (600 * SECOND)

static struct clocks clocks_now(void)
{
	struct clocks clocks = {
		.monotonic_ns = clock_ns(CLOCK_MONOTONIC),
		.boottime_ns = clock_ns(CLOCK_BOOTTIME),
		.realtime_ns = clock_ns(CLOCK_REALTIME),
	};
	FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");

	if (!file || fscanf(file, "%39s", clocks.boot_id) != 1)
		support_die("boot_id");
	fclose(file);
	return clocks;
}

static bool namespaces_here(void)
{
	pid_t pid = fork();
	int status;

	if (!pid)
		_exit(unshare(CLONE_NEWTIME) ? 1 : 0);
	waitpid(pid, &status, 0);
	return !status;
}

static struct process process; /* whose restorer is the child */

/* The clocks of a child that is started now. */
static struct clocks clocks_of_child(void)
{
	struct clocks clocks;
	int line[2], status;
	pid_t pid;

	if (pipe(line))
		support_die("pipe");
	pid = fork();
	if (!pid) {
		if (*process.clock_offsets && clocks_enter(process.clock_offsets))
			_exit(2);
		clocks = clocks_now();
		_exit(write(line[1], &clocks, sizeof(clocks)) != sizeof(clocks));
	}
	if (waitpid(pid, &status, 0) != pid || status ||
	    read(line[0], &clocks, sizeof(clocks)) != sizeof(clocks))
		support_die("child");
	close(line[0]);
	close(line[1]);
	return clocks;
}

/* In a process of its own: namespaces stay. */
#define IN_A_PROCESS(...)                                    \
	do {                                                 \
		pid_t pid_ = fork();                         \
		int status_;                                 \
		if (!pid_) {                                 \
			__VA_ARGS__;                         \
			_exit(0);                            \
		}                                            \
		ASSERT_EQ(waitpid(pid_, &status_, 0), pid_); \
		EXPECT_EQ(status_, 0);                       \
	} while (0)

static void must(bool holds, const char *what)
{
	if (holds)
		return;
	fprintf(stderr, "# %s\n", what);
	_exit(1);
}

static void prepare(const struct clocks *then)
{
	struct thaw_error error = {0};

	must(!clocks_prepare(&process, then, &error), error.text);
}

static void same_boot(void)
{
	struct clocks then = clocks_now(), now;
	char before[64] = "", after[64] = "";

	must(readlink("/proc/self/ns/time_for_children", before, sizeof(before) - 1) > 0, "link");
	prepare(&then);
	must(readlink("/proc/self/ns/time_for_children", after, sizeof(after) - 1) > 0, "link");
	must(!strcmp(before, after) && !*process.clock_offsets, "a namespace was made for nothing");
	now = clocks_of_child();
	must(now.monotonic_ns >= then.monotonic_ns, "the clock has gone back");
}

TEST(the_same_boot_needs_nothing)
{
	IN_A_PROCESS(same_boot());
}

static void *nothing(void *arg)
{
	return arg;
}

/* The child's clocks go on from those, and this process's stay what they are; nor is it kept from making threads. */
static void goes_on(const struct clocks *then)
{
	struct clocks before = clocks_now(), now, after;
	pthread_t thread;

	prepare(then);
	must(!pthread_create(&thread, NULL, nothing, NULL) && !pthread_join(thread, NULL),
	     "no thread can be made");
	now = clocks_of_child();
	after = clocks_now();
	must(now.monotonic_ns >= then->monotonic_ns, "monotonic has gone back");
	must(now.monotonic_ns < then->monotonic_ns + SOON, "monotonic has gone too far");
	must(now.boottime_ns >= then->boottime_ns, "boottime has gone back");
	must(now.boottime_ns < then->boottime_ns + SOON, "boottime has gone too far");
	must(after.monotonic_ns - before.monotonic_ns < SOON, "the clock of others has changed");
	must(now.realtime_ns - before.realtime_ns < SOON, "the time of day has changed");
}

static void behind(void)
{
	struct clocks then = clocks_now();

	then.monotonic_ns += 1000 * HOUR + 123456789;
	then.boottime_ns += 1001 * HOUR + 999999999;
	goes_on(&then);
	/* Once more, from a later generation of that guest, and from an older one. */
	then.monotonic_ns += 5 * HOUR;
	goes_on(&then);
	then = clocks_now();
	then.monotonic_ns += HOUR;
	then.boottime_ns += HOUR;
	strcpy(then.boot_id, "another");
	goes_on(&then);
}

TEST(another_boot_whose_clock_is_behind)
{
	if (!namespaces_here())
		SKIP(return, "no time namespace may be made here");
	IN_A_PROCESS(behind());
}

static void ahead(void)
{
	struct clocks then = clocks_now();

	strcpy(then.boot_id, "another");
	must(then.monotonic_ns > 2 * SECOND, "this machine has just started");
	then.monotonic_ns = SECOND;
	then.boottime_ns = SECOND + 1;
	goes_on(&then);
}

TEST(another_boot_whose_clock_is_ahead)
{
	if (!namespaces_here())
		SKIP(return, "no time namespace may be made here");
	IN_A_PROCESS(ahead());
}

/* The supervisor is in a namespace itself, as in a container. */
static void inside(void)
{
	struct clocks then = clocks_now();
	int status;
	pid_t pid;

	then.monotonic_ns += 50 * HOUR;
	then.boottime_ns += 50 * HOUR;
	prepare(&then);
	pid = fork();
	if (!pid) {
		must(!clocks_enter(process.clock_offsets), "cannot be entered");
		behind();
		ahead();
		_exit(0);
	}
	must(waitpid(pid, &status, 0) == pid && !status, "not from within");
}

TEST(from_within_a_namespace)
{
	if (!namespaces_here())
		SKIP(return, "no time namespace may be made here");
	IN_A_PROCESS(inside());
}

static void without_privileges(void)
{
	struct clocks then = clocks_now();
	struct thaw_error error = {0};

	must(!setgid(65534) && !setuid(65534), "setuid");
	strcpy(then.boot_id, "another");
	must(!clocks_prepare(&process, &then, &error), "forward is fine");
	then.monotonic_ns += HOUR;
	must(clocks_prepare(&process, &then, &error) == THAW_EKERNEL, "back is not");
	must(strstr(error.text, "CAP_SYS_TIME") && strstr(error.text, "behind"), error.text);
}

TEST(without_privileges_it_only_goes_forward)
{
	if (getuid())
		SKIP(return, "only root becomes somebody else");
	IN_A_PROCESS(without_privileges());
}

/* The memory of a generation is newer than its clocks, as where nothing but them had changed at first. */
TEST(clocks_of_an_instant_before_are_advanced)
{
	struct clocks here = clocks_now(), other = here;

	clocks_advance(&here, here.realtime_ns + HOUR);
	EXPECT_LT(here.monotonic_ns, other.monotonic_ns + SOON); /* this one goes on by itself */
	strcpy(other.boot_id, "another");
	here = other;
	clocks_advance(&other, other.realtime_ns + HOUR);
	EXPECT_EQ(other.monotonic_ns, here.monotonic_ns + HOUR);
	EXPECT_EQ(other.boottime_ns, here.boottime_ns + HOUR);
	here = other;
	clocks_advance(&other, other.realtime_ns - HOUR); /* the clock of the day was set back */
	EXPECT_EQ(other.monotonic_ns, here.monotonic_ns);
}

TEST(their_record)
{
	struct clocks clocks = clocks_now(), decoded;
	struct record_writer writer = {0};
	struct record_reader reader;
	uint8_t vdso[] = "a vdso";

	clocks.vdso = vdso;
	clocks.vdso_bytes = sizeof(vdso);
	clocks_encode(&clocks, &writer);
	ASSERT_FALSE(writer.failed);
	reader = (struct record_reader){.at = writer.data, .end = writer.data + writer.bytes};
	ASSERT_TRUE(clocks_decode(&decoded, &reader));
	EXPECT_EQ(reader.at, reader.end);
	EXPECT_STREQ(decoded.boot_id, clocks.boot_id);
	EXPECT_EQ(decoded.monotonic_ns, clocks.monotonic_ns);
	EXPECT_EQ(decoded.boottime_ns, clocks.boottime_ns);
	EXPECT_EQ(decoded.realtime_ns, clocks.realtime_ns);
	ASSERT_EQ(decoded.vdso_bytes, sizeof(vdso));
	EXPECT_EQ(memcmp(decoded.vdso, vdso, sizeof(vdso)), 0);
	clocks_free(&decoded);
	for (size_t bytes = 0; bytes < writer.bytes; bytes++) {
		uint8_t *cut = malloc(bytes + !bytes);

		memcpy(cut, writer.data, bytes);
		reader = (struct record_reader){.at = cut, .end = cut + bytes};
		EXPECT_FALSE(clocks_decode(&decoded, &reader));
		EXPECT_EQ(decoded.vdso, NULL);
		free(cut);
	}
	free(writer.data);
}

TEST_HARNESS_MAIN
