/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * patience.h - how much longer than usual the tests wait before they call something a hang:
 * THAW_TEST_PATIENCE=20 for a machine that is some twenty times slower, such as an emulated one.
 * No test passes or fails by how long something took.
 */
#ifndef TESTS_PATIENCE_H
#define TESTS_PATIENCE_H

#include <stdlib.h>

/* 1 to 1000. */
__attribute__((unused)) static unsigned test_patience(void)
{
	const char *text = getenv("THAW_TEST_PATIENCE");
	long patience = text ? strtol(text, NULL, 10) : 1;

	return patience < 1 ? 1 : patience > 1000 ? 1000 : (unsigned)patience;
}

#endif
