/* SPDX-License-Identifier: MIT */
/*
 * make.c - makes the boot image (boot.h): boot-maker FILE; or compiles a library: boot-maker FILE SCRIPT NAME. Part of the
 * build, and of nothing else.
 *
 * Runs what a program without a boot image would run at its start, collects garbage, and writes what the memory then
 * holds. Memory that nobody needs is cleared, so that it is in no program's image.
 *
 * The same sources give the same bytes: there is neither time nor randomness here. A program that starts from them draws its
 * own (js_engine_restore(), PRELUDE_BEGIN).
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "boot.h"
#include "js/api/host.h"
#include "js/libraries/libraries.h"
#include "js/modules/resolve.h"
#include "js/program/program.h"

/* There is none yet. */
const char boot_heap_start[sizeof(struct boot_header)];
const uint64_t boot_heap_bytes = 0;
#define LIBRARY(name) const char library_##name##_start[1], library_##name##_end[1];
LIBRARIES(LIBRARY)
LIBRARY(typescript)
#undef LIBRARY

/* In place of the C library's, whoever asks for them: the engine, the host's functions, a library. */
int clock_gettime(clockid_t clock, struct timespec *now)
{
	(void)clock;
	*now = (struct timespec){.tv_sec = 1};
	return 0;
}

ssize_t getrandom(void *buffer, size_t bytes, unsigned flags)
{
	(void)flags;
	memset(buffer, 1, bytes);
	return (ssize_t)bytes;
}

static void die(const char *what, const char *why)
{
	fprintf(stderr, "boot-maker: %s: %s\n", what, why);
	exit(1);
}

/* Is anything in this piece? */
static bool is_used(const char *piece)
{
	static const char zeros[BOOT_PIECE];

	return memcmp(piece, zeros, BOOT_PIECE) != 0;
}

static void write_heap(struct program *program, FILE *file)
{
	const char *base = thaw_base(program->heap);
	const struct js_small small = js_engine_small(program->engine);
	const uint32_t all = (uint32_t)(((size_t)small.memory_pages << 16) / BOOT_PIECE);
	struct boot_header header = {.magic = "TBOO",
				     .memory_pages = small.memory_pages,
				     .stack_pointer = small.stack_pointer,
				     .enter = program->blob.enter};
	static const char padding[16];
	size_t length;

	for (uint32_t i = 0; i < all; i++)
		header.count += is_used(base + (size_t)i * BOOT_PIECE);
	fwrite(&header, sizeof(header), 1, file);
	for (uint32_t i = 0; i < all; i++)
		if (is_used(base + (size_t)i * BOOT_PIECE))
			fwrite(&i, sizeof(i), 1, file);
	length = sizeof(header) + 4 * (size_t)header.count;
	fwrite(padding, boot_pieces_at(header.count) - length, 1, file);
	for (uint32_t i = 0; i < all; i++)
		if (is_used(base + (size_t)i * BOOT_PIECE))
			fwrite(base + (size_t)i * BOOT_PIECE, BOOT_PIECE, 1, file);
}

/* A library, compiled. */
static void write_code(struct program *program, const char *path, const char *name, FILE *file)
{
	size_t bytes, made_bytes = 0;
	char *text = resolve_read_file(path, &bytes);
	void *made = text ? js_compile(program->engine, text, bytes, name, &made_bytes) : NULL;

	if (!made)
		die(path,
		    text ? js_exception_text(program->engine, js_take_exception(program->engine))
			 : strerror(errno));
	fwrite(made, made_bytes, 1, file);
	free(made);
	free(text);
}

int main(int count, char **arguments)
{
	static struct program program;
	const struct thaw_options options = {
		.address = JS_HEAP_ADDRESS,
		.max_bytes = JS_HEAP_MAX_BYTES,
		.guard_bytes = JS_HEAP_GUARD_BYTES,
	};
	struct js_host host = host_for(&program);
	struct thaw_error error;
	FILE *file;

	if (count != 2 && count != 4)
		die("usage", "boot-maker FILE [SCRIPT NAME]");
	if (thaw_open(&options, &program.heap, &error) ||
	    js_engine_create(program.heap, &host, &program.engine, &error))
		die("cannot make the VM", error.text);
	program.blob.enter = host_install_prelude(program.engine);
	if (!program.blob.enter)
		die("the prelude failed",
		    js_trapped(program.engine)
			    ? js_trapped(program.engine)
			    : js_exception_text(program.engine, js_take_exception(program.engine)));
	js_gc(program.engine);
	js_clear_free(program.engine);
	file = fopen(arguments[1], "wb");
	if (!file)
		die(arguments[1], strerror(errno));
	if (count == 4)
		write_code(&program, arguments[2], arguments[3], file);
	else
		write_heap(&program, file);
	if (ferror(file) | fclose(file))
		die(arguments[1], "cannot be written");
	js_engine_free(program.engine); /* the sanitizers look for what is left */
	thaw_close(program.heap);
	return 0;
}
