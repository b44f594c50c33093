// SPDX-License-Identifier: GPL-2.0-only
/*
 * once_in_a_file.h - a program prints OURS into a file that others write to, too, and is killed; what the file has then is
 * found by its next life, which prints the rest. The same for both kinds of programs (tests/policy/already_written.c has more).
 */
#ifndef TESTS_ONCE_IN_A_FILE_H
#define TESTS_ONCE_IN_A_FILE_H

#include "support.h"

#define ONCE_BEFORE "before\n"
#define ONCE_OURS "one\ntwo\nthree\n"

static const struct {
	const char *found, *wanted;
} once_examples[] = {
	{ONCE_BEFORE, ONCE_BEFORE ONCE_OURS},
	{ONCE_BEFORE "one\ntw", ONCE_BEFORE ONCE_OURS},
	{ONCE_BEFORE ONCE_OURS "Killed\n", ONCE_BEFORE ONCE_OURS "Killed\n"},
	{ONCE_BEFORE "one\nother\ntwo\nthree\n", ONCE_BEFORE "one\nother\ntwo\nthree\n"},
	{ONCE_BEFORE "one\nother\n", ONCE_BEFORE "one\nother\ntwo\nthree\n"},
	{ONCE_BEFORE "other\n", ONCE_BEFORE "other\n" ONCE_OURS},
};

SUPPORT bool once_comes_to(const char *path, const char *wanted)
{
	double end = support_deadline(20);
	char text[256];

	do {
		FILE *file = fopen(path, "re");

		text[file ? fread(text, 1, sizeof(text) - 1, file) : 0] = '\0';
		if (file)
			fclose(file);
		if (!strcmp(text, wanted))
			return true;
		support_sleep(0.002);
	} while (support_seconds() < end);
	printf("# it has '%s', not '%s'\n", text, wanted);
	return false;
}

/* `command` appends to the file, lives on, and ends with 0 when it is started again. */
SUPPORT bool once_holds(const char *command, const char *path, const char *image)
{
	const char *const arguments[] = {"/bin/sh", "-c", command, NULL};
	bool fine = true;

	for (size_t i = 0; i < sizeof(once_examples) / sizeof(once_examples[0]); i++) {
		struct program program;

		unlink(image);
		support_write(path, ONCE_BEFORE);
		program = program_start(arguments);
		fine = once_comes_to(path, ONCE_BEFORE ONCE_OURS) && fine;
		program_kill(&program);
		program_free(&program);
		support_write(path, once_examples[i].found);
		program = program_start(arguments);
		if (program_finish(&program, 20)) {
			printf("# it failed: %s\n", program.errors);
			fine = false;
		}
		program_free(&program);
		fine = once_comes_to(path, once_examples[i].wanted) && fine;
	}
	return fine;
}

#endif
