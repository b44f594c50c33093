// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a stranger chose is printed, never obeyed: the engine's name, paths and values in an image, and names
 * of files, with control characters in them, reach no terminal as such; in every command, and as JSON too.
 */
#define _GNU_SOURCE

#include "kselftest_harness.h"
#include "base/failure.h"
#include "support.h"
#include "thaw.h"
#include "thaw_image.h"

/* A title for the window, a colour, a C1 control as UTF-8, one as a byte, and another direction. */
#define HOSTILE                          \
	"\x1b]0;owned\a\x1b[31m\xc2\x9b" \
	"2J\x9b"                         \
	"5m\xe2\x80\xae"

FIXTURE(printed_text)
{
	char *directory, *image, *script;
	struct program program;
};
FIXTURE_SETUP(printed_text)
{
	self->directory = support_directory();
	self->image = support_format("%s/x.thaw", self->directory);
	self->script = support_format("%s/" HOSTILE ".js", self->directory);
}
FIXTURE_TEARDOWN(printed_text)
{
	program_free(&self->program);
	free(self->image);
	free(self->script);
	support_remove(self->directory);
}

/* The first byte that a terminal would obey; NULL: there is none. */
static const char *obeyed(const char *text)
{
	const unsigned char *at = (const unsigned char *)text;

	for (; *at; at++) {
		if ((*at < 0x20 && *at != '\n') || *at == 0x7f)
			return (const char *)at;
		if (*at == 0xc2 && at[1] < 0xa0)
			return (const char *)at;
		if (!strncmp((const char *)at, "\xe2\x80\xae", 3))
			return (const char *)at;
		/* A continuation that continues nothing. */
		if (*at >= 0x80 && *at < 0xa0 && at != (const unsigned char *)text && at[-1] < 0x80)
			return (const char *)at;
	}
	return NULL;
}

#define EXPECT_HARMLESS(program)                                              \
	do {                                                                  \
		EXPECT_EQ(NULL, obeyed((program).output))                     \
		{                                                             \
			TH_LOG("%d: %s", __LINE__, obeyed((program).output)); \
		}                                                             \
		EXPECT_EQ(NULL, obeyed((program).errors))                     \
		{                                                             \
			TH_LOG("%d: %s", __LINE__, obeyed((program).errors)); \
		}                                                             \
		program_free(&(program));                                     \
	} while (0)

TEST(text_is_escaped_whole)
{
	static const struct {
		const char *text, *escaped;
	} cases[] = {
		{"", ""},
		{"plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 text",
		 "plain \xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80 text"},
		{"a\nb\tc", "a\\nb\\tc"},
		{"\x01\x1b\x7f", "\\x01\\x1b\\x7f"},
		{"\xc2\x80\xc2\x9f\xc2\xa0", "\\u0080\\u009f\xc2\xa0"},
		{"\x80\xff\xc2", "\\x80\\xff\\xc2"},
		{"\xe2\x80\xae\xe2\x81\xa6\xe2\x80\xa8", "\\u202e\\u2066\\u2028"},
		{"\xed\xa0\x80", "\\xed\\xa0\\x80"},		       /* a surrogate */
		{"\xc0\x9b\xe0\x82\x9b", "\\xc0\\x9b\\xe0\\x82\\x9b"}, /* too long */
	};
	char escaped[64];

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		EXPECT_EQ(strlen(cases[i].escaped),
			  thaw_escape(cases[i].text, escaped, sizeof(escaped)));
		EXPECT_STREQ(cases[i].escaped, escaped);
	}
}

TEST(what_does_not_fit_is_cut_between_characters)
{
	char escaped[8];

	EXPECT_EQ(8, thaw_escape("\x1b\x1b", escaped, 8));
	EXPECT_STREQ("\\x1b", escaped);
	EXPECT_EQ(4, thaw_escape("a\xe2\x82\xac", escaped, 4));
	EXPECT_STREQ("a", escaped);
	/* Nothing behind what was cut. */
	EXPECT_EQ(6, thaw_escape("\x1b"
				 "bc",
				 escaped, 4));
	EXPECT_STREQ("", escaped);
	EXPECT_EQ(4, thaw_escape("\x1b", NULL, 0));
}

/* ... and so is what went wrong, which says so. */
TEST(an_error_that_does_not_fit_says_so)
{
	const size_t room = sizeof(((struct thaw_error *)0)->text);
	struct thaw_error error;
	char path[1024], text[8] = "abcdefg";

	for (unsigned shift = 0; shift < 3; shift++) {
		memset(path, 'x', sizeof(path));
		for (unsigned i = shift; i + 3 < sizeof(path); i += 3)
			memcpy(path + i, "\xe2\x82\xac", 3);
		path[sizeof(path) - 1] = '\0';
		ASSERT_NE(0, thaw_image_tag(path, "a", 0, 0, &error));
		EXPECT_LT(room - 8, strlen(error.text));
		EXPECT_STREQ("\xe2\x82\xac...", error.text + strlen(error.text) - 6);
		ASSERT_EQ(-EIO, failure(&error, -EIO, "%s", path));
		EXPECT_LT(room - 8, strlen(error.text));
		EXPECT_STREQ("\xe2\x82\xac...", error.text + strlen(error.text) - 6);
	}
	text_cut(text, sizeof(text), 7);
	EXPECT_STREQ("abcdefg", text);
	text_cut(text, sizeof(text), 8);
	EXPECT_STREQ("abcd...", text);
}

TEST_F(printed_text, of_the_engine_that_made_an_image)
{
	struct thaw_options options = {
		.image = self->image,
		.flags = THAW_CREATE,
		.max_bytes = 1 << 20,
		.engine = HOSTILE,
	};
	struct thaw_error error;
	struct thaw *heap;

	ASSERT_EQ(0, thaw_open(&options, &heap, &error));
	ASSERT_EQ(0, thaw_resize(heap, 1 << 16));
	memset(thaw_base(heap), 1, 1 << 16);
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, "", 0, NULL));
	thaw_close(heap);
	support_write(self->script, "");

	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("inspect", self->image)));
	EXPECT_NE(NULL, strstr(self->program.output, "\\x1b]0;owned"));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("inspect", "--json", self->image)));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(76,
		  program_run(&self->program, NULL, THAW("run", "-i", self->image, self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "\\x1b]0;owned"));
	EXPECT_HARMLESS(self->program);
	EXPECT_NE(0, program_run(&self->program, NULL, THAW("export", self->image)));
	EXPECT_HARMLESS(self->program);
	EXPECT_NE(0, program_run(&self->program, "1\n", THAW("repl", self->image)));
	EXPECT_HARMLESS(self->program);
}

TEST_F(printed_text, of_scripts_and_images_with_such_names)
{
	char *image = support_format("%.*s.thaw", (int)strlen(self->script) - 3, self->script);
	char *other = support_format("%s/other.js", self->directory);

	support_write(self->script, "setInterval(() => {}, 1e6); (await import('thaw')).exit(0)");
	support_write(other, "");
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "-v", self->script)));
	EXPECT_HARMLESS(self->program);
	support_write(self->script, "another");
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", "-v", self->script)));
	EXPECT_NE(NULL, strstr(self->program.errors, "\\x1b]0;owned"));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(76, program_run(&self->program, NULL, THAW("run", "-i", image, other)));
	EXPECT_NE(NULL, strstr(self->program.errors, "holds the program"));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("inspect", image)));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("map", image)));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("export", image)));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(66, program_run(&self->program, NULL, THAW("log", self->script, "-" HOSTILE)) == 9
			      ? 66
			      : 0);
	EXPECT_HARMLESS(self->program);
	EXPECT_NE(0, program_run(&self->program, NULL, THAW("tag", image, HOSTILE)));
	EXPECT_HARMLESS(self->program);
	EXPECT_NE(0, program_run(&self->program, NULL, THAW("run", "--at", HOSTILE, self->script)));
	EXPECT_HARMLESS(self->program);
	free(image);
	free(other);
}

TEST_F(printed_text, of_the_values_of_a_program)
{
	char *before = support_format("globalThis['%s'] = '%s'; globalThis.f = 1", "\\x1b[31m\\x9b",
				      "\\x1b[31m\\x9b");

	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("-i", self->image, "-e", before)));
	program_free(&self->program);
	EXPECT_EQ(
		0,
		program_run(
			&self->program, NULL,
			THAW("-i", self->image, "-e",
			     "globalThis['\\x1b[32m\\x9b'] = '\\x1b[31m'; globalThis['\\x1b[31m\\x9b\\u202e'] = 2")));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("diff", self->image, "1", "2")));
	EXPECT_NE(NULL, strstr(self->program.output, "[32m"));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0,
		  program_run(&self->program, NULL, THAW("diff", "--json", self->image, "1", "2")));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("export", self->image)));
	EXPECT_NE(NULL, strstr(self->program.output, "[32m"));
	EXPECT_HARMLESS(self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL,
				 THAW("export", "--format", "heapsnapshot", self->image)));
	EXPECT_HARMLESS(self->program);
	free(before);
}

TEST_HARNESS_MAIN
