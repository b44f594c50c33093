// SPDX-License-Identifier: GPL-2.0-only
/*
 * failed_starts.c - a program that fails before its first generation, or is killed before that is in the store, leaves an epoch there and no
 * image: whoever comes next, here or elsewhere, begins in the same place.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "replicated.h"
#include "store/place.h"

FIXTURE(failed_start)
{
	struct replicated program;
	struct place *place;
};
FIXTURE_SETUP(failed_start)
{
	char *lacks = replicated_begin(&self->program);

	if (lacks)
		SKIP(return, "%s", lacks);
}
FIXTURE_TEARDOWN(failed_start)
{
	place_close(self->place);
	replicated_end(&self->program);
}

static bool is_sealed(const struct replication_status *status)
{
	return status->epoch;
}

/* It has begun an epoch, and no image is left of it. */
static bool fails(struct replicated *program)
{
	if (program_open(program, 0, 0) || !program_becomes(program, is_sealed))
		return false;
	replicate_close(program->replication);
	program->replication = NULL;
	thaw_mirror_close(program->mirror);
	program->mirror = NULL;
	thaw_discard(program->heap);
	program->heap = NULL;
	return access(program->image, F_OK) == -1;
}

/* That many generations more, which the store has then. */
static int goes_on_there(struct replicated *program, unsigned generations, int64_t wanted)
{
	int code = program_open(program, 0, 0);

	if (!code)
		code = program_goes_on(program, generations) == wanted ? 0 : -EIO;
	return code ? code : program_wait_acknowledged(program);
}

TEST_F(failed_start, the_next_program_begins_in_the_same_place)
{
	struct replicated *program = &self->program;
	struct place_options how = {.place = program->server.place,
				    .cache = program->image,
				    .program = "failed_starts"};

	for (unsigned i = 0; i < 2; i++)
		ASSERT_TRUE(fails(program)) TH_LOG("%s", program->error.text);
	ASSERT_EQ(0, goes_on_there(program, 3, 3)) TH_LOG("%s", program->error.text);
	program_close(program);
	EXPECT_EQ(3, program_in_store(program));
	ASSERT_EQ(0, goes_on_there(program, 2, 5)) TH_LOG("%s", program->error.text);
	program_close(program);
	EXPECT_EQ(5, program_in_store(program));
	/* The file is the store's image, and not one that is put aside. */
	how.flags = PLACE_KEEP;
	EXPECT_EQ(0, place_open(&how, &self->place, &program->error))
	TH_LOG("%s", program->error.text);
}

/* Nothing but its epoch is there: its machine is lost. */
TEST_F(failed_start, another_machine_begins_in_the_same_place)
{
	struct replicated *program = &self->program;
	char *other = support_format("%s/other.thaw", program->directory);
	struct place_options how = {
		.place = program->server.place, .cache = other, .program = "failed_starts"};
	struct replicate_options replicate = {
		.place = program->server.place, .image = other, .program = "failed_starts"};
	struct thaw_error *error = &program->error;

	ASSERT_TRUE(fails(program));
	ASSERT_EQ(0, place_open(&how, &self->place, error)) TH_LOG("%s", error->text);
	replicate.s3 = place_store(self->place);
	replicate.claim = place_claim(self->place);
	ASSERT_EQ(0, place_fill(self->place, error));
	program->heap = replica_heap(other, THAW_CREATE, error);
	ASSERT_NE(NULL, program->heap) TH_LOG("%s", error->text);
	ASSERT_EQ(0, replicate_open(&replicate, &program->replication, error));
	ASSERT_EQ(0, thaw_resize(program->heap, HEAP_BYTES));
	ASSERT_EQ(0, thaw_mirror_open(program->heap, 0, &program->mirror, error));
	ASSERT_EQ(0, replicate_start(program->replication, program->mirror, error));
	ASSERT_EQ(4, program_goes_on(program, 4));
	ASSERT_EQ(0, program_wait_acknowledged(program)) TH_LOG("%s", error->text);
	program_close(program);
	EXPECT_EQ(4, program_in_store(program));
	free(other);
}

TEST_HARNESS_MAIN
