// SPDX-License-Identifier: GPL-2.0-only
/*
 * power_cuts.c - what a service acknowledged under `thaw exec --commit output` is there after the power failed at a random
 * moment: its image is on an ext4 of the kernel, on a disk that loses what was not flushed (disk.h). What the clients had
 * been told before the cut has to be in what the next life makes of it; the service is checked as after kills
 * (tests/process/acknowledged.h). `make power-cuts`; needs root.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "disk.h"
#include "process/acknowledged.h"

#define DISK_BYTES ((size_t)512 << 20)

FIXTURE(power)
{
	char *directory, *image;
	struct disk *disk;
};
FIXTURE_VARIANT(power)
{
	struct service service;
};
FIXTURE_VARIANT_ADD(power, python){
	.service = {.program = "python3", .script = "acknowledges.py", .protocol = LOAD_LINE}};
FIXTURE_VARIANT_ADD(power, redis){
	.service = {.program = "redis-server", .protocol = LOAD_REDIS, .redis = true}};
FIXTURE_VARIANT_ADD(power,
		    node){.service = {"node", "acknowledges.js", "http", NULL, LOAD_HTTP, false}};
FIXTURE_SETUP(power)
{
	const char *why;

	self->directory = support_directory();
	self->disk = disk_open(self->directory, DISK_BYTES, &why);
	if (!self->disk)
		SKIP(return, "%s", why);
	self->image = support_format("%s/service.thaw", disk_path(self->disk));
}
FIXTURE_TEARDOWN(power)
{
	if (self->disk)
		disk_close(self->disk);
	free(self->image);
	support_remove(self->directory);
}

/* What reaches the clients after the cut has never been sent. */
static bool cut_power(struct acknowledged *test, struct disk *disk)
{
	disk_cut(disk, (unsigned)random());
	load_break(test->load);
	return acknowledged_kill(test) &&
	       (disk_power_on(disk) || acknowledged_failed(test, "the file system is damaged"));
}

static bool live(struct acknowledged *test, struct disk *disk)
{
	acknowledged_start(test);
	if (random() % 4 && !acknowledged_load(test, 60 * test_patience_now(), true))
		return acknowledged_failed(test, "nothing was acknowledged.");
	if (!acknowledged_load(test, (double)(random() % 400) / 1000, false))
		return acknowledged_failed(test, "the load:");
	return cut_power(test, disk);
}

TEST_F_TIMEOUT(power, failed_and_what_was_acknowledged_is_there, 7200)
{
	struct acknowledged test = {
		.service = &variant->service, .image = self->image, .commit_output = true};
	unsigned long long flushes, written, lost;
	unsigned seed = kills_seed();
	int cuts = kills_wanted(200);

	if (!kills_have(variant->service.program))
		SKIP(return, "there is no %s here", variant->service.program);
	ASSERT_TRUE(acknowledged_begin(&test, seed));
	for (int i = 0; i < cuts; i++) {
		ASSERT_TRUE(live(&test, self->disk));
	}
	ASSERT_TRUE(acknowledged_audit(&test));
	disk_count(self->disk, &flushes, &written, &lost);
	TH_LOG("%d cuts, %llu acknowledged, %llu found, %llu asked again; %llu flushes, of %llu sectors %llu lost; seed %u",
	       cuts, (unsigned long long)load_counts(test.load)->acknowledged,
	       (unsigned long long)load_counts(test.load)->total,
	       (unsigned long long)load_counts(test.load)->again, flushes, written, lost, seed);
	acknowledged_end(&test);
}

TEST_HARNESS_MAIN
