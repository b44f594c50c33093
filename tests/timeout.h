/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * timeout.h - included before every test: the harness ends a test after 30 seconds, which is too
 * few for a gibibyte on a busy disk, and for everything under a sanitizer. A test that hangs is
 * still found. The build says how long (TEST_SECONDS).
 */
#ifndef TESTS_TIMEOUT_H
#define TESTS_TIMEOUT_H

#define _GNU_SOURCE
#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT TEST_SECONDS

#endif
