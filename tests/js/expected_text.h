/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * expected_text.h - a program of tests/programs that says at its end, in a comment, what it is right to print: compared line by
 * line, since the first difference is the one to look at.
 */
#ifndef TESTS_JS_EXPECTED_TEXT_H
#define TESTS_JS_EXPECTED_TEXT_H

#include "support.h"

/* The text between the marks of the comment; malloc'ed. */
SUPPORT char *expected_text(const char *path)
{
	static const char begin[] = "/* expected\n";
	size_t bytes = (size_t)support_size(path);
	char *text = calloc(1, bytes + 1), *start, *end, *result;
	int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (!text || fd < 0 || read(fd, text, bytes) != (ssize_t)bytes)
		support_die(path);
	close(fd);
	start = strstr(text, begin);
	end = start ? strstr(start, "*/") : NULL;
	if (!end)
		support_die("the end of what a program has to print");
	start += strlen(begin);
	result = strndup(start, (size_t)(end - start));
	free(text);
	return result;
}

/* `said` moves behind what was expected, which is changed. */
#define EXPECT_LINES(expected, said)                                     \
	do {                                                             \
		char *want;                                              \
                                                                         \
		for (char *line = strtok_r(expected, "\n", &want); line; \
		     line = strtok_r(NULL, "\n", &want)) {               \
			size_t length = strcspn(said, "\n");             \
			char *got = strndup(said, length);               \
                                                                         \
			EXPECT_STREQ(line, got);                         \
			free(got);                                       \
			said += length + (said[length] == '\n');         \
		}                                                        \
	} while (0)

#endif
