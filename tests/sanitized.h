/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * sanitized.h - included before every test when it is built with a sanitizer: what takes seconds
 * otherwise takes a minute then, and the harness's 30 seconds would end it.
 */
#ifndef TESTS_SANITIZED_H
#define TESTS_SANITIZED_H

#define _GNU_SOURCE
#include "kselftest_harness.h"

#undef TEST_TIMEOUT_DEFAULT
#define TEST_TIMEOUT_DEFAULT 300

#endif
