// SPDX-License-Identifier: GPL-2.0-only
/*
 * already_written.c - what is to be printed after a kill is compared with what a file has: nothing is printed twice that
 * is there, nothing is left out that is not, whoever else wrote there, and however the file is opened.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>

#include "../../vm/base/already_written.h"
#include "support.h"

#define OURS "one\ntwo\nthree\n"

struct example {
	const char *what, *found, *rest; /* what the file has; what is printed then */
};

static const struct example examples[] = {
	{"nothing", "", OURS},
	{"all", OURS, ""},
	{"a part, of whole lines", "one\n", "two\nthree\n"},
	{"a part", "one\ntw", "o\nthree\n"},
	{"all, and what came behind", OURS "Killed\n", ""},
	{"a part, and what came behind", "one\nKilled\n", "two\nthree\n"},
	{"what came before", "a child's\n" OURS, ""},
	{"what came between", "one\na child's\ntwo\n\nthree\n", ""},
	{"what came between, and a part", "one\na child's\ntwo\nKilled\n", "three\n"},
	{"lines of thaw's own between", "one\nthaw: a word\nthaw: another\ntwo\nthaw: more\nthr",
	 "ee\n"},
	{"another's alone", "other\nlines\n", OURS},
	{"another's that begins alike", "on\nlines\n", OURS},
	{"another's whose second line begins alike", "one\ntwofold\n", "two\nthree\n"},
	{"in another order", "two\none\n", "two\nthree\n"},
	{"the last line alone", "three\n", OURS},
};

FIXTURE(already)
{
	char *directory, *path;
	int fd;
	struct file_place place;
};
FIXTURE_SETUP(already)
{
	self->directory = support_directory();
	self->path = support_format("%s/file", self->directory);
	self->fd = -1;
}
FIXTURE_TEARDOWN(already)
{
	close(self->fd);
	free(self->path);
	support_remove(self->directory);
}

/* The place is behind what was there before; then the file has `found`, too, and is opened with `flags`. */
static bool has(FIXTURE_DATA(already) * self, const char *before, const char *found, int flags)
{
	char *all = support_format("%s%s", before, found);
	bool fine;

	support_write(self->path, before);
	close(self->fd);
	self->fd = open(self->path, O_WRONLY | O_APPEND | O_CLOEXEC);
	fine = self->fd >= 0 && file_place(self->fd, &self->place) &&
	       self->place.at == strlen(before);
	close(self->fd);
	support_write(self->path, all);
	self->fd = open(self->path, O_WRONLY | O_CLOEXEC | flags);
	free(all);
	return fine && self->fd >= 0;
}

TEST_F(already, what_a_file_has_is_not_printed_again)
{
	for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
		const struct example *example = &examples[i];
		size_t bytes;

		ASSERT_TRUE(has(self, "before\nthis\n", example->found, O_APPEND));
		bytes = already_written(self->fd, self->place, OURS, strlen(OURS));
		ASSERT_LE(bytes, strlen(OURS));
		EXPECT_STREQ(example->rest, OURS + bytes)
		TH_LOG("%s", example->what);
	}
}

/* What is written there goes over the bytes that were found: they do not count. */
TEST_F(already, what_lies_behind_the_next_byte_does_not_count)
{
	ASSERT_TRUE(has(self, "before\n", OURS, 0));
	EXPECT_EQ(0, already_written(self->fd, self->place, OURS, strlen(OURS)));
	ASSERT_EQ(11, lseek(self->fd, 11, SEEK_SET));
	EXPECT_EQ(4, already_written(self->fd, self->place, OURS, strlen(OURS)));
	ASSERT_EQ(0, lseek(self->fd, 0, SEEK_SET));
	EXPECT_EQ(0, already_written(self->fd, self->place, OURS, strlen(OURS)));
}

TEST_F(already, another_file_has_nothing)
{
	ASSERT_TRUE(has(self, "before\n", OURS, O_APPEND));
	EXPECT_EQ(strlen(OURS), already_written(self->fd, self->place, OURS, strlen(OURS)));
	self->place.inode++;
	EXPECT_EQ(0, already_written(self->fd, self->place, OURS, strlen(OURS)));
	self->place.inode--;
	close(self->fd);
	self->fd = open("/dev/null", O_WRONLY | O_APPEND);
	EXPECT_EQ(0, already_written(self->fd, self->place, OURS, strlen(OURS)));
}

/* SIGKILL ends a write at a page of the file; what others append begins there. */
TEST_F(already, a_long_line_that_was_cut_at_a_page_goes_on_there)
{
	static char line[20001], found[9000];

	memset(line, 'x', 20000);
	line[19999] = '\n';
	memset(found, 'x', 8192 - 7);
	strcpy(found + 8192 - 7, "Killed\n");
	ASSERT_TRUE(has(self, "before\n", found, O_APPEND));
	EXPECT_EQ(8192 - 7, already_written(self->fd, self->place, line, 20000));
	strcpy(found + 8192 - 8, "Killed\n");
	ASSERT_TRUE(has(self, "before\n", found, O_APPEND));
	EXPECT_EQ(4096 - 7, already_written(self->fd, self->place, line, 20000));
}

/* Much of ours, with as much of others' between its lines. */
TEST_F(already, many_lines_are_found_among_others)
{
	const unsigned count = 4000;
	char *ours = calloc(count, 32), *found = calloc(count, 64);
	size_t bytes = 0, at = 0;

	for (unsigned i = 0; i < count; i++) {
		bytes += (size_t)sprintf(ours + bytes, "line %u\n", i);
		at += (size_t)sprintf(found + at, "line %u\nother %u\n", i, i);
	}
	ASSERT_TRUE(has(self, "", found, O_APPEND));
	EXPECT_EQ(bytes, already_written(self->fd, self->place, ours, bytes));
	free(ours);
	free(found);
}

TEST_HARNESS_MAIN
