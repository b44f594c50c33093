/* SPDX-License-Identifier: GPL-2.0-only */
/* named_image.h - the fixture of generation_names.c and checkpoint_names.c: an image, and the names that are in it. */
#ifndef TESTS_NAMED_IMAGE_H
#define TESTS_NAMED_IMAGE_H

#include "image_model.h"

static struct history history;
static struct model model;
static struct thaw_error error, fallback;

FIXTURE(named)
{
	struct image_options options;
	struct image *image;
};
FIXTURE_SETUP(named)
{
	model_setup("named");
	history.count = 0;
	memset(&model, 0, sizeof(model));
	self->options = model_options();
	self->options.retain = 3;
	ASSERT_EQ(0, image_open(&self->options, &self->image, &fallback, &error));
}
FIXTURE_TEARDOWN(named)
{
	image_close(self->image);
	model_teardown();
}

/* "a=1 b=2": all the names, in order of their letters. */
static const char *names_now(void)
{
	static char text[512];
	struct thaw_name *names;
	int count = path_names(model_path, &names, &error), length = 0;

	*text = 0;
	for (char letter = 'a'; letter <= 'z'; letter++)
		for (int i = 0; i < count; i++)
			if (names[i].name[0] == letter)
				length += snprintf(text + length, sizeof(text) - (size_t)length,
						   "%s%s=%lu", length ? " " : "", names[i].name,
						   names[i].generation);
	if (count >= 0)
		free(names);
	return count < 0 ? error.text : text;
}

static const char *const bad_names[] = {
	"",
	"-",
	"-a",
	"1",
	"0123456789",
	"18446744073709551616",
	"a b",
	"a\n",
	"a\t",
	" ",
	"a,b",
	"a'b",
	"\"",
	"a\\b",
	"a*",
	"\x7f",
	"\xff",
	"\xc3\xbc",
	"a\x01",
	"(gone)",
	"a;b",
	"a=b",
	"a#b",
	"a%b",
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef", /* 64 */
	"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef and much more",
};

#endif
