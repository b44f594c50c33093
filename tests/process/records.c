// SPDX-License-Identifier: GPL-2.0-only
/*
 * records - what was encoded is decoded, and no cut or damaged record is read outside of its bytes.
 *
 * Each record that is read lies directly before memory without access: one byte too far ends the test.
 */
#define _GNU_SOURCE
#include <sys/mman.h>

#include "kselftest_harness.h"
#include "process/record.h"
#include "support.h"

#define ROOM 65536u

/* Memory whose end is followed by a page that nobody may read. */
struct fence {
	uint8_t *start, *end;
};

static struct fence fence_create(void)
{
	struct fence fence;

	fence.start =
		mmap(NULL, ROOM + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fence.start == MAP_FAILED || mprotect(fence.start + ROOM, 4096, PROT_NONE))
		support_die("mmap");
	fence.end = fence.start + ROOM;
	return fence;
}

/* A reader of a copy that ends at the fence. */
static struct record_reader fence_reader(const struct fence *fence, const void *data, size_t bytes)
{
	uint8_t *at = fence->end - bytes;

	memcpy(at, data, bytes);
	return (struct record_reader){.at = at, .end = fence->end};
}

/* Everything that can be written, in sections, one of them of no tag that the reader knows. */
static struct record_writer sample(void)
{
	struct record_writer writer = {0};
	size_t section = record_section_begin(&writer, RECORD_COMMON);

	record_put(&writer, 0x0123456789abcdefull);
	record_put_text(&writer, "a text");
	record_put_text(&writer, NULL);
	record_section_end(&writer, section);
	section = record_section_begin(&writer, 4711);
	record_put_bytes(&writer, "unknown", 7);
	record_section_end(&writer, section);
	section = record_section_begin(&writer, RECORD_THREADS);
	record_put(&writer, 3);
	for (unsigned i = 0; i < 3; i++) {
		record_put(&writer, i);
		record_put_bytes(&writer, &i, sizeof(i));
	}
	record_section_end(&writer, section);
	return writer;
}

/* Reads a sample; true: all of it was there, and as it was written. */
static bool sample_reads(struct record_reader *reader)
{
	struct record_reader section;
	bool same;
	char *text, *empty;
	uint64_t count;

	record_take_section(reader, RECORD_COMMON, &section);
	same = record_take(&section) == 0x0123456789abcdefull;
	text = record_take_text(&section);
	empty = record_take_text(&section);
	same = same && text && empty && !strcmp(text, "a text") && !*empty && !section.failed;
	free(text);
	free(empty);
	record_take_section(reader, RECORD_THREADS, &section);
	count = record_take_count(&section, 16);
	same = same && count == 3;
	for (uint64_t i = 0; i < count; i++) {
		unsigned piece;

		same = same && record_take_up_to(&section, 2) == i;
		same = record_take_exactly(&section, &piece, sizeof(piece)) && piece == i && same;
	}
	return same && !section.failed && !reader->failed && reader->at == reader->end &&
	       section.at == section.end;
}

TEST(what_was_written_is_read)
{
	struct record_writer writer = sample();
	struct fence fence = fence_create();
	struct record_reader reader = fence_reader(&fence, writer.data, writer.bytes);

	ASSERT_FALSE(writer.failed);
	EXPECT_TRUE(sample_reads(&reader));
	free(writer.data);
}

TEST(every_cut_is_noticed)
{
	struct record_writer writer = sample();
	struct fence fence = fence_create();

	for (size_t bytes = 0; bytes < writer.bytes; bytes++) {
		struct record_reader reader = fence_reader(&fence, writer.data, bytes);

		EXPECT_FALSE(sample_reads(&reader));
	}
	free(writer.data);
}

TEST(no_flipped_bit_reads_outside)
{
	struct record_writer writer = sample();
	struct fence fence = fence_create();

	for (size_t bit = 0; bit < writer.bytes * 8; bit++) {
		struct record_reader reader = fence_reader(&fence, writer.data, writer.bytes);
		uint8_t *flipped = fence.end - writer.bytes + bit / 8;

		*flipped ^= (uint8_t)(1u << bit % 8);
		sample_reads(&reader);
		EXPECT_LE(reader.at, fence.end);
	}
	free(writer.data);
}

/* Lengths from hell: all that a number can say, where a length is expected. */
TEST(no_length_reads_outside)
{
	static const uint64_t lengths[] = {1,
					   8,
					   16,
					   0x7fffffffffffffff,
					   0x8000000000000000,
					   0xfffffffffffffff0,
					   0xffffffffffffffff};
	struct fence fence = fence_create();

	for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
		struct record_writer writer = {0};
		struct record_reader reader, section;
		size_t bytes;
		uint8_t byte;

		record_put(&writer, lengths[i]);
		reader = fence_reader(&fence, writer.data, writer.bytes);
		EXPECT_EQ(record_take_bytes(&reader, &bytes), NULL);
		EXPECT_EQ(bytes, 0);
		EXPECT_TRUE(reader.failed);
		reader = fence_reader(&fence, writer.data, writer.bytes);
		EXPECT_EQ(record_take_text(&reader), NULL);
		reader = fence_reader(&fence, writer.data, writer.bytes);
		EXPECT_FALSE(record_take_exactly(&reader, &byte, 1));
		reader = fence_reader(&fence, writer.data, writer.bytes);
		EXPECT_EQ(record_take_count(&reader, 1), 0);
		EXPECT_TRUE(reader.failed);

		free(writer.data);
		writer = (struct record_writer){0};
		record_put(&writer, RECORD_COMMON);
		record_put(&writer, lengths[i]);
		reader = fence_reader(&fence, writer.data, writer.bytes);
		EXPECT_FALSE(record_take_section(&reader, RECORD_COMMON, &section));
		EXPECT_TRUE(section.failed);
		EXPECT_TRUE(reader.failed);
		free(writer.data);
	}
}

TEST(a_failure_sticks)
{
	struct record_writer writer = {0};
	struct record_reader reader;
	struct fence fence = fence_create();

	record_put(&writer, 9);
	record_put(&writer, 5);
	reader = fence_reader(&fence, writer.data, writer.bytes);
	EXPECT_EQ(record_take_up_to(&reader, 8), 0);
	EXPECT_EQ(record_take(&reader), 0);
	EXPECT_TRUE(reader.failed);
	free(writer.data);
}

TEST(a_text_has_no_zero_in_it)
{
	struct record_writer writer = {0};
	struct record_reader reader;
	struct fence fence = fence_create();

	record_put_bytes(&writer, "a\0b", 3);
	reader = fence_reader(&fence, writer.data, writer.bytes);
	EXPECT_EQ(record_take_text(&reader), NULL);
	EXPECT_TRUE(reader.failed);
	free(writer.data);
}

TEST(a_section_that_is_not_there_moves_nothing)
{
	struct record_writer writer = sample();
	struct fence fence = fence_create();
	struct record_reader reader = fence_reader(&fence, writer.data, writer.bytes), section;

	EXPECT_FALSE(record_take_section(&reader, RECORD_CLOCKS, &section));
	EXPECT_TRUE(section.failed);
	EXPECT_FALSE(reader.failed);
	EXPECT_TRUE(sample_reads(&reader));
	free(writer.data);
}

/* Sections within a section end with it. */
TEST(no_section_reads_into_the_next)
{
	struct record_writer writer = {0};
	struct record_reader reader, section;
	struct fence fence = fence_create();
	size_t begun = record_section_begin(&writer, RECORD_COMMON);

	record_put(&writer, 1);
	record_section_end(&writer, begun);
	begun = record_section_begin(&writer, RECORD_IDENTITY);
	record_put(&writer, 2);
	record_section_end(&writer, begun);
	reader = fence_reader(&fence, writer.data, writer.bytes);
	ASSERT_TRUE(record_take_section(&reader, RECORD_COMMON, &section));
	EXPECT_EQ(record_take(&section), 1);
	EXPECT_EQ(record_take(&section), 0);
	EXPECT_TRUE(section.failed);
	EXPECT_FALSE(reader.failed);
	ASSERT_TRUE(record_take_section(&reader, RECORD_IDENTITY, &section));
	EXPECT_EQ(record_take(&section), 2);
	free(writer.data);
}

TEST_HARNESS_MAIN
