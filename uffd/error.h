/* SPDX-License-Identifier: MIT */
/*
 * error.h - filling a struct thaw_error; every message of the library is made through this one
 * function.
 */
#ifndef UFFD_ERROR_H
#define UFFD_ERROR_H

#include "thaw.h"

/*
 * Set code and text (printf style; the text should name what, where, why, what to do) and return
 * `code`, so that `return error_set(error, -EIO, ...)` reads well. A NULL error is allowed.
 */
int error_set(struct thaw_error *error, int code, const char *format, ...)
	__attribute__((format(printf, 3, 4)));

#endif
