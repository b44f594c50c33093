// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw diff at the level of pages: what it says, to people and to programs. (tests/image/image_pages.c asks
 * whether it is right.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "../../vm/cli/page_changes.h"
#include "image_model.h"
#include "support.h"

static struct thaw_error error;

/* Of each page a letter, '.': as it is, 'z': zero. */
static int generation(struct image *image, const char *pages)
{
	struct thaw_generation made = {.heap_bytes = strlen(pages) * PAGE};
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	for (unsigned page = 0; !code && pages[page]; page++) {
		char bytes[PAGE];
		bool stored;

		memset(bytes, pages[page] == 'z' ? 0 : pages[page], sizeof(bytes));
		if (pages[page] != '.')
			code = commit_page(commit, page, bytes, &stored, &error);
	}
	return code ? code : commit_finish(commit, &made, NULL, 0, &error);
}

/* What is said, in a buffer that the next call uses again. */
static const char *told(uint64_t from, uint64_t to, bool as_json, int wanted)
{
	static char *text;
	size_t bytes;
	struct thaw_image *image;
	FILE *out;
	int code;

	free(text);
	out = open_memstream(&text, &bytes);
	code = thaw_image_open(model_path, &image, &error);
	if (!code)
		code = page_changes_list(image, model_path, (uint64_t[]){from, to}, as_json, out,
					 &error);
	thaw_image_close(image);
	fclose(out);
	if (code != wanted)
		fprintf(stderr, "# %d: %s\n", code, error.text);
	return code == wanted ? text : "another code";
}

TEST(runs_and_sums)
{
	struct image_options options = model_options();
	struct image *image;

	model_setup("changes");
	ASSERT_EQ(0, image_open(&options, &image, NULL, &error));
	ASSERT_EQ(0, generation(image, "aaaaaaaa........"));
	ASSERT_EQ(0, generation(image, "..bbbzz.....ccc.................d"));
	EXPECT_STREQ("~ pages 2-4: 12.0 KiB at 8.0 KiB\n"
		     "- pages 5-6: 8.0 KiB at 20.0 KiB\n"
		     "+ pages 12-14: 12.0 KiB at 48.0 KiB\n"
		     "+ page 32: 4.0 KiB at 128 KiB\n"
		     "pages: 4 appeared, 2 vanished, 3 changed (36.0 KiB)\n",
		     told(1, 2, false, 0));
	EXPECT_STREQ("pages: 0 appeared, 0 vanished, 0 changed (0 B)\n", told(2, 2, false, 0));
	EXPECT_STREQ(",\"from\":2,\"to\":1,\"pageBytes\":4096,\"runs\":["
		     "{\"change\":\"changed\",\"firstPage\":2,\"pages\":3},"
		     "{\"change\":\"appeared\",\"firstPage\":5,\"pages\":2},"
		     "{\"change\":\"vanished\",\"firstPage\":12,\"pages\":3},"
		     "{\"change\":\"vanished\",\"firstPage\":32,\"pages\":1}],"
		     "\"appeared\":2,\"vanished\":4,\"changed\":3,\"lost\":0}\n",
		     strstr(told(2, 1, true, 0), ",\"from\""));
	EXPECT_STREQ("", told(1, 7, false, THAW_ENOGEN));
	image_close(image);
	model_teardown();
}

TEST(what_is_lost)
{
	struct image_options options = model_options();
	uint32_t mark = 0;
	struct image *image;
	uint64_t at;
	int fd;

	model_setup("lost");
	ASSERT_EQ(0, image_open(&options, &image, NULL, &error));
	ASSERT_EQ(0, generation(image, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"));
	ASSERT_EQ(0, generation(image, "...................b............"));
	image_close(image);
	/* The last leaf in the file is of pages 16 to 31, in the second one. */
	fd = open(model_path, O_RDONLY | O_CLOEXEC);
	for (at = model_file_bytes() / 8 * 8 - 32; at && mark != 0x646f6e54; at -= 8) {
		uint32_t node[2] = {0};

		ASSERT_EQ(sizeof(node), pread(fd, node, sizeof(node), (off_t)at));
		mark = node[1] & 0xff ? 0 : node[0];
	}
	close(fd);
	support_flip(model_path, at + 8 + 60, 1);
	EXPECT_STREQ("? pages 16-31: 64.0 KiB at 64.0 KiB\n"
		     "pages: 0 appeared, 0 vanished, 0 changed, 16 lost (64.0 KiB)\n",
		     told(1, 2, false, THAW_EDAMAGED));
	EXPECT_NE(NULL, strstr(error.text, "the index of pages 16-31"));
	model_teardown();
}

TEST_HARNESS_MAIN
