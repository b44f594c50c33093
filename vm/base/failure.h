/* SPDX-License-Identifier: MIT */
/*
 * failure.h - how vm/ fills a struct thaw_error: one line that names what, where, why and what to
 * do.
 */
#ifndef VM_FAILURE_H
#define VM_FAILURE_H

#include <stdarg.h>
#include <stdio.h>

#include "text.h"
#include "thaw.h"

/* Returns `code`, so that `return failure(...)` reads as one thought. `error` may be NULL. */
__attribute__((format(printf, 3, 4))) static inline int failure(struct thaw_error *error, int code,
								const char *format, ...)
{
	char line[4 * sizeof(error->text)];
	va_list arguments;

	if (error) {
		error->code = code;
		va_start(arguments, format);
		vsnprintf(line, sizeof(line), format, arguments);
		va_end(arguments);
		text_cut(error->text, sizeof(error->text),
			 thaw_escape(line, error->text, sizeof(error->text)));
	}
	return code;
}

#endif
