/* SPDX-License-Identifier: GPL-2.0-only */
/* cluster.h - the cluster that scripts/ceph has started for a test, and faults of its daemons. */
#ifndef TESTS_CEPH_CLUSTER_H
#define TESTS_CEPH_CLUSTER_H

#include <sys/random.h>

#include "support.h"

/* Is there one, which the environment names? */
SUPPORT bool cluster_there(void)
{
	return getenv("THAW_TEST_STORE") && getenv("AWS_ENDPOINT_URL") &&
	       !system(THAW_SOURCE "/scripts/ceph env >/dev/null 2>&1");
}

/* A place that nobody has. */
SUPPORT void cluster_place(char *place, size_t room)
{
	uint64_t number;

	if (getrandom(&number, sizeof(number), 0) != sizeof(number))
		support_die("getrandom");
	snprintf(place, room, "%s/c-%016llx", getenv("THAW_TEST_STORE"),
		 (unsigned long long)number);
}

/* "kill osd STOP", "restart radosgw": see scripts/ceph. Its exit code. */
SUPPORT int cluster_order(const char *order)
{
	char *command = support_format("%s/scripts/ceph %s >&2", THAW_SOURCE, order);
	int status = system(command);

	free(command);
	return status;
}

#endif
