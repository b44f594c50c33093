/* SPDX-License-Identifier: MIT */
/*
 * expression.h - which expression an error is about.
 */
#ifndef VM_JS_SOURCE_EXPRESSION_H
#define VM_JS_SOURCE_EXPRESSION_H

#include <stddef.h>

struct expression_place {
	unsigned line, column; /* from 1; in bytes */
};
/*
 * The engine's message of an error that it made at this place of a text, with the expression that it is about:
 * "x.y is not a function". malloc'ed; NULL: the text does not tell. `place`, unless it is NULL: where it ends.
 */
char *expression_message(const char *text, size_t bytes, unsigned line, unsigned column,
			 const char *message, struct expression_place *place);

#endif
