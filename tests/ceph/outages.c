// SPDX-License-Identifier: GPL-2.0-only
/*
 * outages.c - a service under `thaw exec --commit output` whose store's daemons are killed or stopped while 64 connections ask it,
 * and whose machine is lost afterwards. With --durable remote nothing is acknowledged meanwhile that is not there then; without,
 * the service goes on, says what the matter is, and has caught up when it ends.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "ceph/cluster.h"
#include "process/acknowledged.h"
#include "process/line_server.h"
#include "store/machines.h"

/* THAW_OUTAGE=60: how long a store is away that was stopped, after it is told. */
#define OUTAGE_SECONDS (getenv("THAW_OUTAGE") ? atof(getenv("THAW_OUTAGE")) : 1.0)

static struct machines machines;
static const struct service lines = {.kind = "lines", .protocol = LOAD_LINE};

FIXTURE(outage)
{
	struct acknowledged test;
	char *image;
};
FIXTURE_VARIANT(outage)
{
	const char *fault;
	bool told; /* it is long enough to be told */
};
FIXTURE_VARIANT_ADD(outage, gateway_killed){"kill radosgw", true};
FIXTURE_VARIANT_ADD(outage, gateway_stopped){"kill radosgw STOP", true};
FIXTURE_VARIANT_ADD(outage, osd_killed){"kill osd", true};
FIXTURE_VARIANT_ADD(outage, osd_stopped){"kill osd STOP", true};
FIXTURE_VARIANT_ADD(outage, monitor_killed){"kill mon", false};

FIXTURE_SETUP(outage)
{
	if (!cluster_there())
		SKIP(exit(KSFT_SKIP), "needs a cluster: make check-ceph");
	machines_begin(&machines);
	setenv("THAW_STORE_STALL", "3s", 1); /* what is stopped is told sooner */
	machines_go(&machines, 0);
}
FIXTURE_TEARDOWN(outage)
{
	acknowledged_end(&self->test);
	cluster_order("mend");
	machines_end(&machines);
	free(self->image);
}

static bool begin(FIXTURE_DATA(outage) * self, const char *image, const char *const *options)
{
	self->test = (struct acknowledged){
		.service = &lines, .image = image, .options = options, .commit_output = true};
	if (!acknowledged_begin(&self->test, (unsigned)getpid()))
		return false;
	acknowledged_start(&self->test);
	return acknowledged_load(&self->test, 60 * test_patience_now(), true);
}

/* What it says of its store. */
static bool is_told(struct acknowledged *test)
{
	double end = support_seconds() + 60 * test_patience_now();

	while (support_seconds() < end) {
		if (!acknowledged_load(test, 0.2, false))
			return false;
		if (test->program.errors && strstr(test->program.errors, machines.store.place))
			return true;
	}
	return false;
}

/* Away, and back. False, having said why. */
static bool outage(FIXTURE_DATA(outage) * self, const FIXTURE_VARIANT(outage) * variant,
		   bool goes_on)
{
	struct acknowledged *test = &self->test;
	uint64_t before;

	if (cluster_order(variant->fault))
		return acknowledged_failed(test, "no fault:");
	if (variant->told && !is_told(test))
		return acknowledged_failed(test, "it does not say that its store fails:");
	before = load_counts(test->load)->acknowledged;
	if (!acknowledged_load(test, OUTAGE_SECONDS, false))
		return acknowledged_failed(test, "while the store is away:");
	if (variant->told && goes_on != (load_counts(test->load)->acknowledged != before))
		return acknowledged_failed(test, goes_on ? "it does not go on:"
							 : "it acknowledges what is not stored:");
	if (cluster_order("mend"))
		return acknowledged_failed(test, "the store is not mended:");
	return acknowledged_load(test, 60 * test_patience_now(), true) ||
	       acknowledged_failed(test, "the store is back:");
}

/* Nothing is left of the machine that it was on. */
static void on_another_machine(struct acknowledged *test)
{
	machines_lose(&machines, (unsigned)test->life % 2);
	machines_go(&machines, (unsigned)test->life % 2);
}

TEST_F_TIMEOUT(outage, what_was_acknowledged_is_there, 600)
{
	static const char *const options[] = {"--durable", "remote", NULL};
	struct acknowledged *test = &self->test;

	ASSERT_TRUE(begin(self, machines.store.place, options));
	ASSERT_TRUE(outage(self, variant, false));
	ASSERT_TRUE(acknowledged_kill(test));
	test->prepare = on_another_machine;
	ASSERT_TRUE(acknowledged_audit(test));
	TH_LOG("%llu acknowledged", (unsigned long long)load_counts(test->load)->acknowledged);
}

TEST_F_TIMEOUT(outage, who_replicates_goes_on_and_catches_up, 600)
{
	const char *const options[] = {"--replicate", machines.store.place, NULL};
	struct acknowledged *test = &self->test;

	self->image = support_format("%s/image.thaw", machines.directory);
	ASSERT_TRUE(begin(self, self->image, options));
	ASSERT_TRUE(outage(self, variant, true));
	machines_terminate(&test->program);
	unlink(self->image);
	test->image = machines.store.place;
	test->options = NULL;
	test->prepare = on_another_machine;
	ASSERT_TRUE(acknowledged_audit(test));
	TH_LOG("%llu acknowledged", (unsigned long long)load_counts(test->load)->acknowledged);
}

TEST_HARNESS_MAIN
