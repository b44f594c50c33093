// SPDX-License-Identifier: GPL-2.0-only
/*
 * daemons_killed.c - the cluster of scripts/ceph keeps each object whose PUT was acknowledged, whichever of its daemons is
 * killed or stopped meanwhile, and serves again: what the other tests of this room begin with. curl is the client.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "ceph/cluster.h"

#define CURL                                                                                            \
	"curl -sS --fail --max-time 60 --aws-sigv4 aws:amz:us-east-1:s3 "                               \
	"-u \"$AWS_ACCESS_KEY_ID:$AWS_SECRET_ACCESS_KEY\" -H 'x-amz-content-sha256: UNSIGNED-PAYLOAD' " \
	"\"$AWS_ENDPOINT_URL/$PLACE/%u\" "
#define EACH 8 /* objects that are acknowledged before, and again after */

FIXTURE(daemons)
{
	pid_t writer;
	int acknowledged; /* the numbers of the objects, in order */
};
FIXTURE_VARIANT(daemons)
{
	const char *fault, *end;
};
FIXTURE_VARIANT_ADD(daemons, gateway_killed){"kill radosgw", "restart radosgw"};
FIXTURE_VARIANT_ADD(daemons, osd_killed){"kill osd", "restart osd"};
FIXTURE_VARIANT_ADD(daemons, monitor_killed){"kill mon", "restart mon"};
FIXTURE_VARIANT_ADD(daemons, osd_stopped){"kill osd STOP", "kill osd CONT"};

static int run(const char *format, ...)
{
	char *command = NULL;
	va_list arguments;
	int status;

	va_start(arguments, format);
	if (vasprintf(&command, format, arguments) < 0)
		abort();
	va_end(arguments);
	status = system(command);
	free(command);
	return status;
}

/* Puts one object after the other, each until it is acknowledged. */
static void write_objects(int acknowledged)
{
	for (unsigned n = 0;; n++) {
		while (run("echo object %u | " CURL "-X PUT --data-binary @- 2>/dev/null", n, n))
			usleep(20000); /* connections are refused */
		if (write(acknowledged, &n, sizeof(n)) != sizeof(n))
			_exit(1);
	}
}

FIXTURE_SETUP(daemons)
{
	char place[600];
	int ends[2];

	if (!cluster_there())
		SKIP(exit(KSFT_SKIP), "needs a cluster: make check-ceph");
	cluster_place(place, sizeof(place));
	setenv("PLACE", place + strlen("s3://"), 1);
	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	self->acknowledged = ends[0];
	self->writer = fork();
	ASSERT_GE(self->writer, 0);
	if (!self->writer) {
		setpgid(0, 0);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_objects(ends[1]);
	}
	setpgid(self->writer, self->writer);
	close(ends[1]);
}
/* Whatever came of it, the next one finds all of them. */
FIXTURE_TEARDOWN(daemons)
{
	kill(-self->writer, SIGKILL);
	waitpid(self->writer, NULL, 0);
	close(self->acknowledged);
	cluster_order("mend");
}

TEST_F(daemons, acknowledged_objects_stay)
{
	unsigned number, count = 0;
	char said[64], wanted[64];

	for (; count < EACH; count++)
		ASSERT_EQ(sizeof(number), read(self->acknowledged, &number, sizeof(number)));
	ASSERT_EQ(0, cluster_order(variant->fault));
	ASSERT_EQ(0, cluster_order(variant->end));
	for (; count < 2 * EACH; count++)
		ASSERT_EQ(sizeof(number), read(self->acknowledged, &number, sizeof(number)));
	ASSERT_EQ(2 * EACH - 1, number);
	for (unsigned n = 0; n < count; n++) {
		char *command = support_format(CURL, n);
		FILE *object = popen(command, "r");

		snprintf(wanted, sizeof(wanted), "object %u\n", n);
		ASSERT_NE(NULL, fgets(said, sizeof(said), object))
		{
			TH_LOG("object %u is gone", n);
		}
		EXPECT_EQ(0, pclose(object));
		EXPECT_STREQ(wanted, said);
		free(command);
	}
}

TEST_HARNESS_MAIN
