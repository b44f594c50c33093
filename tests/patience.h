/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * patience.h - how much longer than usual the tests wait before they call something a hang. No test
 * passes or fails by how long something took.
 */
#ifndef TESTS_PATIENCE_H
#define TESTS_PATIENCE_H

#include <stdlib.h>
#include <unistd.h>

/*
 * THAW_TEST_PATIENCE=20: for a machine that is some twenty times slower, such as an emulated one, where
 * some tests do less, too. 1 to 1000.
 */
__attribute__((unused)) static unsigned test_patience(void)
{
	const char *text = getenv("THAW_TEST_PATIENCE");
	long patience = text ? strtol(text, NULL, 10) : 1;

	return patience < 1 ? 1 : patience > 1000 ? 1000 : (unsigned)patience;
}

/*
 * And now, with others who use its processors and its disk. The load is an average over a minute, so
 * what has just begun is in it with less than it is: it counts twice.
 */
__attribute__((unused)) static unsigned test_patience_now(void)
{
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	double load;

	if (getloadavg(&load, 1) != 1 || processors < 1)
		return test_patience();
	load = 2 * load / (double)processors;
	return (unsigned)(test_patience() * (1 + (load > 100 ? 100 : load)));
}

#endif
