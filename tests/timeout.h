/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * timeout.h - included before every test: the harness ends a test after 30 seconds, which is too
 * few for a gibibyte on a busy disk, and for everything under a sanitizer. A test that hangs is
 * still found. The build says how long (TEST_SECONDS), and tests/patience.h how many times as long, which
 * also goes for tests that name their time. When the time has passed, it is asked again: the
 * machine may have become busy meanwhile.
 */
#ifndef TESTS_TIMEOUT_H
#define TESTS_TIMEOUT_H

#define _GNU_SOURCE
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "patience.h"

static struct sigaction test_limit; /* what the harness does when the time has passed */
static unsigned test_limit_seconds;
static time_t test_limit_from;

static time_t test_limit_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec;
}

static void test_limit_reached(int signo, siginfo_t *info, void *context)
{
	time_t left = test_limit_from + (time_t)test_limit_seconds * test_patience_now();

	left -= test_limit_now();
	if (left > 0)
		alarm((unsigned)left);
	else
		test_limit.sa_sigaction(signo, info, context);
}

/* The harness sets its time limit with it, when the test begins, and ends it with 0. */
static inline unsigned test_alarm(unsigned seconds)
{
	/* The harness waits for the test in one call, and takes its interruption for its end. */
	struct sigaction action = {.sa_sigaction = test_limit_reached,
				   .sa_flags = SA_SIGINFO | SA_RESTART};

	if (seconds && !sigaction(SIGALRM, NULL, &test_limit) && test_limit.sa_flags & SA_SIGINFO) {
		test_limit_seconds = seconds;
		test_limit_from = test_limit_now();
		sigaction(SIGALRM, &action, NULL);
	}
	return alarm(seconds * test_patience_now());
}
#define alarm test_alarm

#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT TEST_SECONDS

#endif
