/* SPDX-License-Identifier: MIT */
/*
 * typescript.c - modules in TypeScript (.ts, .mts): a library that is part of the binary takes the types away
 * (libraries/typescript.js), in an engine of its own, with a heap that has no image.
 *
 * Owns that engine, from the first file of a turn to the turn's end: a program that was restored has what was
 * compiled, and needs none. Called on the owner's thread while a module is loaded, from a host function of the
 * program's engine. The library gets text and gives text: it can reach nothing of the program. Must end, whatever
 * the text is: loops are counted.
 */
#include "typescript.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "js/engine/engine.h"
#include "js/libraries/libraries.h"
#include "module_name.h"

/* Polls, each after 10,000 loop edges or calls: 30 times what a dense source of that size takes. */
#define POLLS_MIN 10000
#define BYTES_PER_POLL 8

static struct {
	struct thaw *heap;
	struct js_engine *engine;
	js_value strip;
	uint64_t polls_left;
} stripper;

/* ---- Names ---- */

/* What is not even tried. */
static bool is_refused(const char *name)
{
	return module_ends_with(name, ".cts") || module_ends_with(name, ".tsx");
}

bool typescript_is(const char *name)
{
	return module_ends_with(name, ".ts") || module_ends_with(name, ".mts") || is_refused(name);
}

/* ---- The engine ---- */

static bool out_of_polls(void *arg)
{
	(void)arg;
	return !stripper.polls_left || !--stripper.polls_left;
}

/* What the library evaluates to is called as CommonJS would, and has `strip` among its exports. */
static js_value load_library(struct js_engine *engine)
{
	js_value wrapper =
		js_eval_compiled(engine, library_typescript_start,
				 (size_t)(library_typescript_end - library_typescript_start));
	js_value arguments[2] = {js_object(engine), js_undefined(engine)}, exports = 0, strip = 0;

	if (wrapper && arguments[0] && js_set(engine, arguments[0], "exports", js_object(engine)))
		exports = js_call(engine, wrapper, 0, 2, arguments);
	if (exports)
		strip = js_get(engine, exports, "strip");
	js_free(engine, exports);
	js_free(engine, arguments[0]);
	js_free(engine, arguments[1]);
	js_free(engine, wrapper);
	return strip;
}

/* What went wrong in the engine itself. */
static int explain(const char *name, struct thaw_error *error)
{
	char *text;

	if (!stripper.polls_left)
		return failure(error, -ETIME, "%s: its types take too long to be erased", name);
	text = js_exception_text(stripper.engine, js_take_exception(stripper.engine));
	failure(error, -EIO, "%s: its types cannot be erased: %s", name, text);
	free(text);
	return error->code;
}

static int open_stripper(const char *name, struct thaw_error *error)
{
	const struct thaw_options options = {
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
		.engine = js_engine_identity,
	};
	const struct js_host host = {.interrupt = out_of_polls};
	int code;

	if (stripper.engine)
		return 0;
	code = thaw_open(&options, &stripper.heap, error);
	if (!code)
		code = js_engine_create(stripper.heap, &host, &stripper.engine, error);
	if (!code) {
		stripper.strip = load_library(stripper.engine);
		if (!stripper.strip)
			code = explain(name, error);
	}
	if (code)
		typescript_close();
	return code;
}

void typescript_close(void)
{
	if (stripper.engine)
		js_engine_free(stripper.engine);
	stripper.engine = NULL;
	stripper.strip = 0;
	if (stripper.heap)
		thaw_close(stripper.heap);
	stripper.heap = NULL;
}

/* ---- A file ---- */

static unsigned number_at(struct js_engine *engine, js_value list, uint32_t index)
{
	js_value value = js_get_index(engine, list, index);
	double number = value ? js_to_number(engine, value) : 0;

	js_free(engine, value);
	return number >= 1 && number < 4e9 ? (unsigned)number : 1;
}

/* `list`: [text], or [message, line, column] of what is wrong with it. */
static char *result_of(const char *name, js_value list, size_t *bytes, struct thaw_error *error)
{
	struct js_engine *engine = stripper.engine;
	js_value first = js_get_index(engine, list, 0), length = js_get(engine, list, "length");
	bool refused = length && js_to_number(engine, length) > 1;
	char *text = first ? js_to_string(engine, first, bytes) : NULL;

	js_free(engine, length);
	js_free(engine, first);
	if (!text)
		failure(error, -ENOMEM, "%s: out of memory", name);
	if (!text || !refused)
		return text;
	failure(error, -EILSEQ, "%s:%u:%u: TypeScript: %s%s", name, number_at(engine, list, 1),
		number_at(engine, list, 2), text,
		strstr(text, "erased")
			? " (tsc --erasableSyntaxOnly finds all such places; or bundle it: esbuild FILE.ts --bundle --format=esm --outfile=FILE.js)"
			: "");
	free(text);
	return NULL;
}

static char *refuse(const char *name, struct thaw_error *error)
{
	if (module_ends_with(name, ".cts"))
		failure(error, -EILSEQ,
			"%s: a CommonJS file cannot be a module here: rename it to .mts, or bundle it (esbuild FILE.cts --bundle --format=esm --outfile=FILE.js)",
			name);
	else
		failure(error, -EILSEQ,
			"%s: JSX has to be compiled first: esbuild FILE.tsx --bundle --format=esm --outfile=FILE.js",
			name);
	return NULL;
}

char *typescript_strip(const char *name, char *text, size_t *bytes, struct thaw_error *error)
{
	js_value source, list = 0;
	char *stripped = NULL;

	if (is_refused(name)) {
		free(text);
		return refuse(name, error);
	}
	stripper.polls_left = POLLS_MIN + *bytes / BYTES_PER_POLL;
	if (open_stripper(name, error)) {
		free(text);
		return NULL;
	}
	source = js_string(stripper.engine, text, *bytes);
	free(text);
	if (source)
		list = js_call(stripper.engine, stripper.strip, 0, 1, &source);
	js_free(stripper.engine, source);
	if (list) {
		stripped = result_of(name, list, bytes, error);
		js_free(stripper.engine, list);
	} else {
		explain(name, error);
		typescript_close(); /* it may have trapped */
	}
	return stripped;
}
