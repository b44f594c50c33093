// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_compressed.c - images whose pages are compressed, each generation in its own way: they hold what was stored,
 * whatever is done to them; what is damaged or was forged is told, and never other contents; and blocks of which little
 * is in use are packed anew. And images of older formats.
 */
#include "kselftest_harness.h"

#include "by_path.h"
#include "image/format.h"
#include "image/store.h"
#include "image_model.h"
#include "support.h"

static struct thaw_error error, fallback;
static struct history history;
static struct model model;

static const unsigned ways[] = {THAW_COMPRESS_NONE, THAW_COMPRESS_LZ4, THAW_COMPRESS_ZSTD(1),
				THAW_COMPRESS_ZSTD(3), THAW_COMPRESS_ZSTD(19)};
#define WAYS (sizeof(ways) / sizeof(ways[0]))

static void change(unsigned pages)
{
	model.state++;
	for (unsigned i = 0; i < pages; i++)
		model.version[random_below(MODEL_PAGES)] = random_below(8) ? (uint32_t)random_next()
									   : 0;
}

/* Some generations, each by another writer. How many are listed, or -1. */
static int history_make(unsigned generations)
{
	memset(&history, 0, sizeof(history));
	memset(&model, 0, sizeof(model));
	for (unsigned i = 0; i < generations; i++) {
		struct image_options options = model_options();
		struct image *image;
		int code;

		options.compress = ways[i % WAYS];
		if (image_open(&options, &image, &fallback, &error))
			return -1;
		change(i ? 1 + random_below(200) : 2000);
		if (i % 3 == 1)
			model_abort_somewhere(&model, image);
		code = model_commit(image, &model, &error);
		if (!code && !space_is_exact(image))
			code = -1;
		image_close(image);
		if (code)
			return -1;
		history_add(&history, &model);
		history_retain(&history, options.retain);
	}
	return (int)history.count;
}

TEST(every_generation_holds_what_was_stored)
{
	char *copy;

	model_setup("compressed");
	copy = support_format("%s/copy.thaw", model_directory);
	ASSERT_EQ(5, history_make(23))
	TH_LOG("%s", error.text);
	ASSERT_EQ(5, history_compare(&history));
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(0, thaw_image_clone(model_path, copy, 0, NULL, NULL, &error));
	ASSERT_EQ(0, thaw_image_verify(copy, NULL, NULL, &error));
	unlink(copy);
	ASSERT_EQ(0, thaw_image_repair(model_path, copy, NULL, NULL, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(0, rename(copy, model_path));
	ASSERT_EQ(5, history_compare(&history));
	for (unsigned i = 0; i < WAYS; i++) {
		struct thaw_image_info info;

		ASSERT_EQ(0, thaw_image_compact(model_path, THAW_COMPACT_COMPRESS(ways[i]), NULL,
						NULL, &error))
		TH_LOG("%s", error.text);
		ASSERT_EQ(5, history_compare(&history));
		ASSERT_EQ(0, path_info(model_path, true, &info, &error));
		ASSERT_EQ(!ways[i], !info.newest_compressed);
		ASSERT_EQ(!ways[i], info.newest_page_bytes == info.newest_pages * PAGE);
		ASSERT_EQ(0, thaw_image_compact(model_path, 0, NULL, NULL, &error));
		ASSERT_EQ(5, history_compare(&history));
		ASSERT_EQ(0, model_verify());
	}
	ASSERT_EQ(-EINVAL,
		  thaw_image_compact(model_path, THAW_COMPACT_COMPRESS(0x114), NULL, NULL, &error));
	free(copy);
	model_teardown();
}

static enum compared newest_compare(void)
{
	struct image_options options = {.path = model_path, .read_only = true};
	enum compared result;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return REFUSED;
	result = model_compare(image, history_find(&history, image_opened(image)->number), &error);
	image_close(image);
	return result;
}

/* In an image that consists of them, each flipped bit is told, or changes nothing. */
TEST(a_flipped_bit_is_told)
{
	unsigned told = 0;

	model_setup("flipped");
	ASSERT_EQ(5, history_make(5));
	for (unsigned way = 1; way < 4; way++) {
		uint64_t bytes;

		ASSERT_EQ(0, thaw_image_compact(model_path, THAW_COMPACT_COMPRESS(ways[way]), NULL,
						NULL, &error));
		bytes = model_file_bytes();
		for (unsigned i = 0; i < 60; i++) {
			uint64_t at = 8192 + (uint64_t)(random_next() % (bytes - 8192));
			uint8_t bit = (uint8_t)(1u << random_below(8));

			support_flip(model_path, at, bit);
			told += thaw_image_verify(model_path, NULL, NULL, &error) == THAW_EDAMAGED;
			ASSERT_NE(WRONG, newest_compare())
			TH_LOG("bit %#x at %lu", bit, at);
			support_flip(model_path, at, bit);
		}
		ASSERT_EQ(5, history_compare(&history));
	}
	TH_LOG("%u of 180 told", told);
	ASSERT_GE(told, 90);
	model_teardown();
}

/* Bytes that somebody else chose, in exact bounds: with room behind that nobody may write. */
TEST(what_cannot_be_decoded_is_damage)
{
	static uint8_t page[PAGE], stored[PAGE + 64], into[PAGE + 64], mutated[PAGE];
	struct extent_scratch scratch = {0};
	unsigned right = 0;

	for (unsigned round = 0; round < 6000; round++) {
		struct extent_codec codec;
		struct extent extent = {.encoding = EXTENT_RAW, .birth = 1};
		const void *bytes;
		uint32_t length;

		ASSERT_TRUE(extent_codec_of(ways[1 + round % 3], &codec));
		model_fill(page, 1, 1 + round / 64 * 4);
		extent.checksum = checksum_of(NULL, CHECKSUM_PAGE, page, PAGE);
		ASSERT_EQ(0, extent_encode(&scratch, &codec, NULL, 1, &extent, page, PAGE, stored,
					   &bytes));
		ASSERT_EQ(codec.encoding, extent_codec_again(&extent).encoding);
		ASSERT_EQ(codec.level, extent_codec_again(&extent).level);
		length = extent.bytes;
		memcpy(mutated, stored, PAGE);
		switch (random_below(5)) {
		case 0:
			extent.bytes = 1 + random_below(PAGE - 1);
			break;
		case 1:
			for (unsigned i = 0; i < length; i++)
				mutated[i] = (uint8_t)random_next();
			break;
		case 2:
			extent.encoding = extent.encoding == EXTENT_LZ4 ? EXTENT_ZSTD : EXTENT_LZ4;
			break;
		default:
			mutated[random_below(length)] ^= (uint8_t)(1u << random_below(8));
		}
		memset(into, 0xa5, sizeof(into));
		if (!extent_decode(&scratch, NULL, 1, &extent, mutated, into, PAGE)) {
			right++; /* a bit that means nothing */
			ASSERT_EQ(0, memcmp(into, page, PAGE));
		}
		for (unsigned i = PAGE; i < sizeof(into); i++)
			ASSERT_EQ(0xa5, into[i]);
	}
	ASSERT_LE(right, 600);
	extent_scratch_free(&scratch);
}

/* Where few pages of each block are written anew, and some older generations kept, the file does not grow for ever. */
#define MANY 12288u
TEST(sparse_blocks_are_packed_anew)
{
	struct image_options options = model_options();
	struct thaw_image_info info;
	uint64_t page[PAGE / 8], most = 0;
	struct image *image;
	bool rounds = false;

	model_setup("sparse");
	options.compress = THAW_COMPRESS_LZ4;
	options.retain = 2;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned step = 0; step < 60; step++) {
		struct thaw_generation generation = {.time_ns = 1, .heap_bytes = MANY * PAGE};
		struct commit *commit;
		bool stored;

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (unsigned i = 0; i < (step ? 1500 : MANY); i++) {
			unsigned number = step ? random_below(MANY) : i;

			for (unsigned word = 0; word < PAGE / 8; word++)
				page[word] = word < 100 ? random_next() : page[word - 100];
			ASSERT_EQ(0, commit_page(commit, number, page, &stored, &error));
		}
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error))
		TH_LOG("%s", error.text);
		rounds |= image->relocation.sparse && image->relocation.count;
		if (step > 40 && (image->space.blocks - image->space.free) * SPACE_BLOCK > most)
			most = (image->space.blocks - image->space.free) * SPACE_BLOCK;
	}
	ASSERT_TRUE(rounds);
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	TH_LOG("%lu KiB retained, at most %lu in use, a file of %lu", info.retained_bytes >> 10,
	       most >> 10, info.file_bytes >> 10);
	ASSERT_LE(most, info.retained_bytes + info.retained_bytes / 2 + (16u << 20));
	ASSERT_TRUE(space_is_exact(image));
	image_close(image);
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

/* ---- Older formats */

static void version_write(const char *name)
{
	char *text = support_format("%s/tests/image/versions/%s.txt", THAW_SOURCE, name), line[256];
	FILE *from = fopen(text, "r"), *to = fopen(model_path, "w");
	unsigned long at;
	int used;

	if (!from || !to)
		support_die(text);
	while (fgets(line, sizeof(line), from)) {
		if (line[0] == '#' || sscanf(line, "%lx %n", &at, &used) != 1)
			continue;
		fseek(to, (long)at, SEEK_SET);
		for (unsigned byte; sscanf(line + used, "%2x", &byte) == 1; used += 2)
			fputc((int)byte, to);
	}
	fclose(from);
	fclose(to);
	free(text);
}

static void old_page(char page[static PAGE], unsigned number, bool second)
{
	memset(page, 0, PAGE);
	if (second && number % 27 == 0)
		sprintf(page + number, "page %u of the second", number);
	else if (number % 9 == 0 && (!second || number != 9))
		sprintf(page + number, "page %u of the first", number);
}

/* How many pages of that generation are other ones; or -1. */
static int old_wrong(uint64_t generation, bool second)
{
	char wanted[PAGE], found[PAGE];
	const void *state;
	struct thaw_view *view;
	size_t bytes;
	int wrong = 0;

	if (path_view(model_path, generation, &view, &error))
		return -1;
	state = thaw_view_state(view, &bytes);
	wrong += bytes != (second ? 6 : 5) || memcmp(state, second ? "second" : "first", bytes);
	for (unsigned i = 0; i < 64; i++) {
		old_page(wanted, i, second);
		if (thaw_view_read(view, i * PAGE, found, PAGE, &error))
			wrong = -1000;
		wrong += memcmp(wanted, found, PAGE) != 0;
	}
	thaw_view_close(view);
	return wrong;
}

TEST(an_older_format_is_read_and_written_on)
{
	struct image_options options = model_options();
	struct thaw_generation generation = {.time_ns = 1, .heap_bytes = 64 * PAGE};
	struct thaw_image_info info;
	struct image *image;
	struct commit *commit;
	uint64_t page[PAGE / 8];
	bool stored;

	model_setup("older");
	version_write("d0000007");
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	ASSERT_EQ(0xd0000007u, info.format);
	ASSERT_EQ(0, old_wrong(1, false))
	TH_LOG("%s", error.text);
	ASSERT_EQ(0, old_wrong(2, true));
	/* Written on. */
	options.compress = THAW_COMPRESS_LZ4;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(2, image_opened(image)->number);
	model_fill(page, 0, 1);
	ASSERT_EQ(0, commit_begin(image, &commit, &error));
	ASSERT_EQ(0, commit_page(commit, 5, page, &stored, &error));
	ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &error));
	image_close(image);
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	ASSERT_EQ(FORMAT_VERSION, info.format);
	ASSERT_EQ(0, model_verify());
	ASSERT_EQ(0, old_wrong(1, false));
	ASSERT_EQ(0, old_wrong(2, true));
	/* And brought up as a whole. */
	version_write("d0000007");
	ASSERT_EQ(0, thaw_image_compact(model_path, 0, NULL, NULL, &error));
	ASSERT_EQ(0, path_info(model_path, true, &info, &error));
	ASSERT_EQ(FORMAT_VERSION, info.format);
	ASSERT_EQ(0, old_wrong(1, false));
	ASSERT_EQ(0, old_wrong(2, true));
	ASSERT_EQ(0, model_verify());
	model_teardown();
}

TEST_HARNESS_MAIN
