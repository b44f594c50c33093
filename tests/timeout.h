/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * timeout.h - included before every test: the harness ends a test after 30 seconds, which is too
 * few for a gibibyte on a busy disk, and for everything under a sanitizer. A test that hangs is
 * still found. The build says how long (TEST_SECONDS), and who runs it how much longer than that
 * (tests/patience.h), which also goes for tests that name their time.
 */
#ifndef TESTS_TIMEOUT_H
#define TESTS_TIMEOUT_H

#define _GNU_SOURCE
#include <unistd.h>

#include "patience.h"

static inline unsigned test_alarm(unsigned seconds)
{
	return alarm(seconds * test_patience());
}
/* The harness sets its time limit with it, when the test begins. */
#define alarm test_alarm

#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT TEST_SECONDS

#endif
