// SPDX-License-Identifier: GPL-2.0-only
/*
 * mapping_shapes.c - mappings of which a capture finds by their numbers alone that they are as before (PROCMAP_QUERY) are
 * what /proc/PID/maps says of them: whatever the program has mapped, unmapped or named in between.
 */
#define _GNU_SOURCE
#include <sys/prctl.h>

#include "kselftest_harness.h"
#include "process/continued.h"

#define MEMORY 0x500000000000ull /* of eight pages */
#define FILE_AT 0x500000100000ull
#define BYTES 4096ull

static void guest_role_mapped(void)
{
	int fd = open("/proc/self/exe", O_RDONLY);

	if (mmap((void *)MEMORY, 8 * BYTES, PROT_READ | PROT_WRITE,
		 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ||
	    mmap((void *)FILE_AT, 4 * BYTES, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0) ==
		    MAP_FAILED ||
	    dup2(fd, 100) != 100)
		_exit(50);
	guest_capture_here();
}

static const struct guest_role guest_roles[] = {{"mapped", guest_role_mapped}, {NULL, NULL}};

FIXTURE(mapping_shapes)
{
	struct continued guest;
};

static struct record_writer capture(struct continued *guest)
{
	struct mappings mappings;
	struct record_writer writer = {0};

	if (!mappings_capture(&guest->process, &mappings, &guest->error))
		mappings_encode(&mappings, &writer);
	mappings_free(&mappings);
	return writer;
}

FIXTURE_SETUP(mapping_shapes)
{
	if (continued_refusal())
		SKIP(return, "%s", continued_refusal());
	ASSERT_EQ(0, continued_start(&self->guest, "mapped"));
	ASSERT_EQ(0, process_stop(&self->guest.process, &self->guest.error));
	for (int i = 0; i < 3; i++)
		free(capture(&self->guest).data);
	if (!self->guest.process.space->last.shaped)
		SKIP(return, "this kernel tells no mappings as numbers (Linux 6.11)");
}

FIXTURE_TEARDOWN(mapping_shapes)
{
	if (!continued_refusal())
		continued_free(&self->guest);
}

enum { WRONG, SAME, CHANGED };

/* What a capture finds, and is it what it finds without having seen any before? */
static int compare(FIXTURE_DATA(mapping_shapes) * self)
{
	struct record_writer one, other;
	int how;

	self->guest.process.space->last.text[0] = '!'; /* as long as it is not read again */
	one = capture(&self->guest);
	how = self->guest.process.space->last.text[0] == '!' ? SAME : CHANGED;
	mappings_forget(&self->guest.process);
	other = capture(&self->guest);
	if (!one.bytes || one.bytes != other.bytes || memcmp(one.data, other.data, one.bytes))
		how = WRONG;
	free(one.data);
	free(other.data);
	/* Flags are read in the first. */
	free(capture(&self->guest).data);
	return how;
}

static int64_t call(FIXTURE_DATA(mapping_shapes) * self, int64_t number, uint64_t a, uint64_t b,
		    uint64_t c, uint64_t d, uint64_t e, uint64_t f)
{
	return remote_call(&self->guest.process.remote, 0, number, a, b, c, d, e, f);
}

TEST_F(mapping_shapes, what_is_the_same_is_not_read_again)
{
	EXPECT_EQ(SAME, compare(self));
	EXPECT_EQ(SAME, compare(self));
}

TEST_F(mapping_shapes, protection_and_ends_are_seen)
{
	ASSERT_EQ(0, call(self, SYS_mprotect, MEMORY + BYTES, BYTES, PROT_READ, 0, 0, 0));
	EXPECT_EQ(CHANGED, compare(self));
	ASSERT_EQ(0, call(self, SYS_mprotect, MEMORY + 2 * BYTES, BYTES, PROT_READ, 0, 0, 0));
	EXPECT_EQ(CHANGED, compare(self));
	ASSERT_EQ(0, call(self, SYS_munmap, MEMORY + 7 * BYTES, BYTES, 0, 0, 0, 0));
	EXPECT_EQ(CHANGED, compare(self));
}

TEST_F(mapping_shapes, another_piece_of_a_file_in_the_same_place_is_seen)
{
	ASSERT_EQ((int64_t)FILE_AT, call(self, SYS_mmap, FILE_AT, 4 * BYTES, PROT_READ,
					 MAP_PRIVATE | MAP_FIXED, 100, BYTES));
	EXPECT_EQ(CHANGED, compare(self));
	ASSERT_EQ((int64_t)FILE_AT, call(self, SYS_mmap, FILE_AT, 4 * BYTES, PROT_READ,
					 MAP_SHARED | MAP_FIXED, 100, BYTES));
	EXPECT_EQ(CHANGED, compare(self));
	ASSERT_EQ((int64_t)FILE_AT, call(self, SYS_mmap, FILE_AT, 4 * BYTES, PROT_READ,
					 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, ~0ull, 0));
	EXPECT_EQ(CHANGED, compare(self));
}

TEST_F(mapping_shapes, names_of_memory_are_seen)
{
	uint64_t name = remote_string(&self->guest.process.remote, "another");

	if (call(self, SYS_prctl, 0x53564d41 /* PR_SET_VMA */, 0, MEMORY, 8 * BYTES, name, 0))
		SKIP(return, "this kernel has no names for memory (CONFIG_ANON_VMA_NAME)");
	EXPECT_EQ(CHANGED, compare(self));
	ASSERT_EQ(0, call(self, SYS_prctl, 0x53564d41, 0, MEMORY, 8 * BYTES, 0, 0));
	EXPECT_EQ(CHANGED, compare(self));
}

TEST_HARNESS_MAIN
