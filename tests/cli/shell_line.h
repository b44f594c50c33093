/* SPDX-License-Identifier: GPL-2.0-only */
/* shell_line.h - what somebody types at a shell of this machine, in a test whose fixture has a `program`. */
#ifndef TESTS_CLI_SHELL_LINE_H
#define TESTS_CLI_SHELL_LINE_H

#include "support.h"

/* printf's arguments: a line, and how it has to end. */
#define SHELL(code, ...)                                                                    \
	do {                                                                                \
		char *line = support_format(__VA_ARGS__);                                   \
                                                                                            \
		program_free(&self->program);                                               \
		ASSERT_EQ(code, program_run(&self->program, NULL,                           \
					    (const char *[]){"/bin/sh", "-c", line, NULL})) \
		TH_LOG("%s: %s%s", line, self->program.output, self->program.errors);       \
		free(line);                                                                 \
	} while (0)

#endif
