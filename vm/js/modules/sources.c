// SPDX-License-Identifier: MIT
/*
 * sources.c - a list in the heap of the files that modules were loaded from; struct heap_note has its
 * address. Written on the VM's side stack, while a module is loaded; read by the runtime when a program is
 * restored. Owner's thread. Must never trust what the heap contains: an impossible block is not read, and
 * nothing in it is used but as a path, a size and a hash.
 *
 * The block, little-endian, no padding, each entry behind the one before:
 *
 *	offset	bytes
 *	0	4	bytes of the path, without a terminator
 *	4	8	bytes of the file
 *	12	8	mtime, nanoseconds
 *	20	16	XXH3-128
 *	36	...	the path
 */
#include "sources.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "js/engine/state.h"

#define ENTRY_BYTES 36u
#define PATH_BYTES_MAX 4096u
#define BLOCK_BYTES_FIRST 1024u
#define BLOCK_BYTES_MAX (16u << 20)

static struct heap_note *note_of(const struct js_engine *engine)
{
	return vm_at(engine, engine->note);
}

/* Can there be a block with these numbers? */
static bool block_is_possible(const struct js_engine *engine)
{
	const struct heap_note *note = note_of(engine);

	return note->sources && note->sources_used <= note->sources_room &&
	       note->sources_room <= BLOCK_BYTES_MAX &&
	       (u64)note->sources + note->sources_room <= engine->wasm.w2c_memory.size;
}

static size_t encode(const struct js_source *source, uint8_t entry[ENTRY_BYTES + PATH_BYTES_MAX])
{
	u32 path_bytes = (u32)strlen(source->path);

	memcpy(entry, &path_bytes, 4);
	memcpy(entry + 4, &source->bytes, 8);
	memcpy(entry + 12, &source->mtime_ns, 8);
	memcpy(entry + 20, source->hash, 16);
	memcpy(entry + ENTRY_BYTES, source->path, path_bytes);
	return ENTRY_BYTES + path_bytes;
}

/* The length of the entry at `at`; 0: it is impossible. */
static u32 entry_bytes(const uint8_t *at, u32 left)
{
	u32 path_bytes;

	if (left < ENTRY_BYTES)
		return 0;
	memcpy(&path_bytes, at, 4);
	return path_bytes && path_bytes <= PATH_BYTES_MAX && path_bytes <= left - ENTRY_BYTES
		       ? ENTRY_BYTES + path_bytes
		       : 0;
}

/*
 * Is the same file with the same contents in the list already, imported with another query for
 * example?
 */
static bool is_there(const struct js_engine *engine, const uint8_t *entry, size_t bytes)
{
	const struct heap_note *note = note_of(engine);
	const uint8_t *block = vm_at(engine, note->sources);

	for (u32 at = 0, length; at < note->sources_used; at += length) {
		length = entry_bytes(block + at, note->sources_used - at);
		if (!length)
			return false;
		if (length == bytes && !memcmp(block + at, entry, bytes))
			return true;
	}
	return false;
}

static bool make_room(struct js_engine *engine, u32 bytes)
{
	struct heap_note *note = note_of(engine);
	u32 room = note->sources_room, block;

	if (bytes <= note->sources_room - note->sources_used)
		return true;
	while (room - note->sources_used < bytes)
		room = room ? 2 * room : BLOCK_BYTES_FIRST;
	block = room <= BLOCK_BYTES_MAX ? VM(engine, malloc, room) : 0;
	if (!block)
		return false;
	memcpy(vm_at(engine, block), vm_at(engine, note->sources), note->sources_used);
	VM(engine, free, note->sources);
	note->sources = block;
	note->sources_room = room;
	return true;
}

struct remembering {
	struct js_engine *engine;
	const struct js_source *source;
};

static void run_remember(void *arg)
{
	struct remembering *remembering = arg;
	struct js_engine *engine = remembering->engine;
	struct heap_note *note = note_of(engine);
	uint8_t entry[ENTRY_BYTES + PATH_BYTES_MAX];
	size_t bytes;

	if (strlen(remembering->source->path) > PATH_BYTES_MAX || !*remembering->source->path)
		return;
	if (!block_is_possible(engine)) /* there is none yet, or it is impossible */
		note->sources = note->sources_used = note->sources_room = 0;
	bytes = encode(remembering->source, entry);
	if (is_there(engine, entry, bytes) || !make_room(engine, (u32)bytes))
		return;
	memcpy(vm_at(engine, note->sources + note->sources_used), entry, bytes);
	note->sources_used += (u32)bytes;
}

void js_source_remember(struct js_engine *engine, const struct js_source *source)
{
	struct remembering remembering = {engine, source};

	engine_enter(engine, run_remember, &remembering);
}

uint32_t sources_mark(const struct js_engine *engine)
{
	return note_of(engine)->sources_used;
}

void sources_forget(struct js_engine *engine, uint32_t mark)
{
	if (note_of(engine)->sources_used > mark)
		note_of(engine)->sources_used = mark;
}

static bool decode(const uint8_t *entry, u32 length, char path[PATH_BYTES_MAX + 1],
		   struct js_source *source)
{
	u32 path_bytes = length - ENTRY_BYTES;

	memcpy(&source->bytes, entry + 4, 8);
	memcpy(&source->mtime_ns, entry + 12, 8);
	memcpy(source->hash, entry + 20, 16);
	memcpy(path, entry + ENTRY_BYTES, path_bytes);
	path[path_bytes] = '\0';
	source->path = path;
	return path[0] == '/' && strlen(path) == path_bytes;
}

int js_sources(const struct js_engine *engine,
	       void (*visit)(void *arg, const struct js_source *source), void *arg)
{
	const struct heap_note *note = note_of(engine);
	u32 used = note->sources_used;
	char path[PATH_BYTES_MAX + 1];
	struct js_source source;
	uint8_t *copy;
	int code = 0;

	if (!note->sources || !used)
		return 0;
	if (!block_is_possible(engine))
		return THAW_EDAMAGED;
	/* A copy: neither system calls nor the callee may get memory of the heap (engine.h). */
	copy = malloc(used);
	if (!copy)
		return -ENOMEM;
	memcpy(copy, vm_at(engine, note->sources), used);
	for (u32 at = 0, length; at < used && !code; at += length) {
		length = entry_bytes(copy + at, used - at);
		if (length && decode(copy + at, length, path, &source))
			visit(arg, &source);
		else
			code = THAW_EDAMAGED;
	}
	free(copy);
	return code;
}
