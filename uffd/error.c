/* SPDX-License-Identifier: MIT */
/*
 * error.c - the texts of the library's error codes and of the reasons of a generation. No state;
 * any thread.
 */
#define _GNU_SOURCE /* strerrordesc_np */
#include "error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int error_set(struct thaw_error *error, int code, const char *format, ...)
{
	char line[4 * sizeof(error->text)];
	va_list arguments;
	size_t end;

	if (!error)
		return code;
	error->code = code;
	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	/* Paths and engines may come from others, and the text is going to be printed. */
	if (thaw_escape(line, error->text, sizeof(error->text)) < sizeof(error->text))
		return code;
	end = strlen(error->text) - 3;
	while ((error->text[end] & 0xc0) == 0x80) /* inside of a character */
		end--;
	strcpy(error->text + end, "...");
	return code;
}

const char *thaw_strerror(int code)
{
	const char *text;

	switch (code) {
	case 0:
		return "success";
	case THAW_EDAMAGED:
		return "the image is damaged";
	case THAW_EFOREIGN:
		return "not a Thaw image";
	case THAW_EFORMAT:
		return "a Thaw image of another format";
	case THAW_EENGINE:
		return "a Thaw image of another engine";
	case THAW_EINUSE:
		return "the image is in use";
	case THAW_EKERNEL:
		return "this kernel or these privileges lack what is needed";
	case THAW_EOWNER:
		return "the image belongs to another user";
	case THAW_EKEY:
		return "the image's contents cannot be authenticated";
	case THAW_ENOGEN:
		return "no such generation in the image";
	case THAW_EGONE:
		return "the image's file was removed or renamed while it was in use";
	case THAW_EREPLACED:
		return "another file was put in the image's place while it was in use";
	case THAW_EOVERWRITTEN:
		return "the image's file was shortened or overwritten while it was in use";
	default:
		text = strerrordesc_np(code < 0 ? -code : code);
		return text ? text : "unknown error";
	}
}

const char *thaw_reason_name(uint32_t reason)
{
	switch (reason) {
	case THAW_REASON_TIMER:
		return "timer";
	case THAW_REASON_EXIT:
		return "exit";
	case THAW_REASON_SIGNAL:
		return "signal";
	case THAW_REASON_REQUEST:
		return "request";
	case THAW_REASON_OUTPUT:
		return "output";
	case THAW_REASON_ROLLBACK:
		return "rollback";
	case THAW_REASON_UPGRADE:
		return "upgrade";
	default:
		return "unknown";
	}
}
