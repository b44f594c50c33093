/* SPDX-License-Identifier: MIT */
/*
 * blob.c - the bytes of the state blob.
 *
 * Owns its format and nothing else; called by runtime.c and checkpoints.c, on the owner's thread.
 * Must never trust a byte of what it decodes: the image's checksums catch accidents, not malice,
 * so every length is checked before it is used and every value against what it can be. (The heap
 * itself is confined by the sandbox, engine.h.)
 *
 * All integers little-endian, no padding:
 *
 *	offset	bytes
 *	0	4	magic "TJSV"
 *	4	4	version of this layout, and of the protocol between host and prelude
 *	8	4	stack pointer
 *	12	4	memory pages (64 KiB)
 *	16	4	handle of the prelude's entry function
 *	20	4	flags
 *	24	4	exit code (signed)
 *	28	4	handlers of on("checkpoint")
 *	32	8	restores
 *	40	8	program clock, milliseconds, an IEEE double
 *	48	8	script: bytes
 *	56	8	script: mtime, nanoseconds
 *	64	16	script: XXH3-128
 *	80	4	script: bytes of its path, 0: there is none
 *	84	4	host functions: how many names
 *	88	16	branch: the line of the history that effects are numbered in
 *	104	16	... and the image that it is the line of
 *	120	...	the path, without a terminator
 *		...	each name: one byte of length, then the name
 *
 * Where something was printed that nobody has read yet (flag 16), the names are followed by
 *
 *	0	8	bytes of all the pieces
 *	8	...	pieces (base/output_pieces.h)
 *
 * Taken in the middle of a turn (flag 8), what follows is
 *
 *	0	20	build-id of the program that can continue it
 *	20	4	step of the turn
 *	24	4	arguments of its call: how many, at most 4
 *	28	4 * 4	their handles
 *	44	4	handle of what the main module threw, or 0
 *	48	4	1: gc() was called
 *	52	4	rejections: how many
 *	56	8	stack: bytes, a multiple of 8
 *	64	12 * n	rejections: promise, reason (0: handled later), 1 if handled
 *		...	the VM's stack, from the stack pointer to its (fixed) top
 *		32	MAC of all of the blob before it (key.h)
 */
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <endian.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/output_pieces.h"
#include "base/failure.h"
#include "blob.h"

/* Part of what the engine is in images: see ENGINE_STATE in vm/engine.mk. */
#define BLOB_VERSION ENGINE_STATE
#define BLOB_FIXED_BYTES 120u
#define BLOB_PATH_MAX 4096u
#define BLOB_NAMES_MAX 1024u
#define BLOB_NAME_MAX 127u
#define BLOB_TURN_BYTES 64u
#define BLOB_REJECTION_BYTES 12u

static const char blob_magic[4] = {'T', 'J', 'S', 'V'};

static void put32(uint8_t **at, uint32_t value)
{
	value = htole32(value);
	memcpy(*at, &value, 4);
	*at += 4;
}

static void put64(uint8_t **at, uint64_t value)
{
	value = htole64(value);
	memcpy(*at, &value, 8);
	*at += 8;
}

static uint32_t get32(const uint8_t **at)
{
	uint32_t value;

	memcpy(&value, *at, 4);
	*at += 4;
	return le32toh(value);
}

static uint64_t get64(const uint8_t **at)
{
	uint64_t value;

	memcpy(&value, *at, 8);
	*at += 8;
	return le64toh(value);
}

static size_t turn_bytes(const struct js_turn *turn)
{
	return BLOB_TURN_BYTES + turn->rejection_count * BLOB_REJECTION_BYTES + turn->stack_bytes +
	       JS_BLOB_MAC_BYTES;
}

/* All but the MAC. */
static void encode_turn(const struct js_turn *turn, uint8_t *at)
{
	memcpy(at, turn->build_id, sizeof(turn->build_id));
	at += sizeof(turn->build_id);
	put32(&at, turn->step);
	put32(&at, turn->argument_count);
	for (unsigned i = 0; i < JS_TURN_ARGUMENTS; i++)
		put32(&at, i < turn->argument_count ? turn->arguments[i] : 0);
	put32(&at, turn->main_failure);
	put32(&at, turn->collect);
	put32(&at, turn->rejection_count);
	put64(&at, turn->stack_bytes);
	for (unsigned i = 0; i < turn->rejection_count; i++) {
		put32(&at, turn->rejections[i].promise);
		put32(&at, turn->rejections[i].reason);
		put32(&at, turn->rejections[i].handled);
	}
	memcpy(at, turn->stack, turn->stack_bytes);
}

void *js_blob_encode(const struct js_blob *blob, size_t *bytes)
{
	size_t path_bytes = blob->script.path ? strlen(blob->script.path) : 0;
	size_t total = BLOB_FIXED_BYTES + path_bytes;
	uint64_t clock_bits;
	uint8_t *data, *at;

	for (unsigned i = 0; i < blob->name_count; i++)
		total += 1 + strlen(blob->names[i]);
	if (blob->flags & JS_BLOB_OUTPUT)
		total += 8 + blob->output_bytes;
	if (blob->flags & JS_BLOB_MID_TURN)
		total += turn_bytes(&blob->turn);
	data = malloc(total);
	if (!data)
		return NULL;
	at = data;
	memcpy(at, blob_magic, 4);
	at += 4;
	put32(&at, BLOB_VERSION);
	put32(&at, blob->small.stack_pointer);
	put32(&at, blob->small.memory_pages);
	put32(&at, blob->enter);
	put32(&at, blob->flags);
	put32(&at, (uint32_t)blob->exit_code);
	put32(&at, blob->listeners);
	put64(&at, blob->restores);
	memcpy(&clock_bits, &blob->clock_ms, 8);
	put64(&at, clock_bits);
	put64(&at, blob->script.bytes);
	put64(&at, (uint64_t)blob->script.mtime_ns);
	memcpy(at, blob->script.hash, 16);
	at += 16;
	put32(&at, (uint32_t)path_bytes);
	put32(&at, blob->name_count);
	memcpy(at, blob->branch, sizeof(blob->branch));
	at += sizeof(blob->branch);
	memcpy(at, blob->home, sizeof(blob->home));
	at += sizeof(blob->home);
	if (path_bytes)
		memcpy(at, blob->script.path, path_bytes);
	at += path_bytes;
	for (unsigned i = 0; i < blob->name_count; i++) {
		size_t length = strlen(blob->names[i]);

		*at++ = (uint8_t)length;
		memcpy(at, blob->names[i], length);
		at += length;
	}
	if (blob->flags & JS_BLOB_OUTPUT) {
		put64(&at, blob->output_bytes);
		memcpy(at, blob->output, blob->output_bytes);
		at += blob->output_bytes;
	}
	if (blob->flags & JS_BLOB_MID_TURN)
		encode_turn(&blob->turn, at);
	*bytes = total;
	return data;
}

static char *copy_text(const uint8_t *text, size_t bytes)
{
	char *copy;

	if (memchr(text, 0, bytes))
		return NULL;
	copy = malloc(bytes + 1);
	if (copy) {
		memcpy(copy, text, bytes);
		copy[bytes] = 0;
	}
	return copy;
}

static int decode_names(struct js_blob *blob, const uint8_t **from, const uint8_t *end,
			unsigned count)
{
	const uint8_t *at = *from;

	if (count > BLOB_NAMES_MAX)
		return THAW_EDAMAGED;
	blob->names = calloc(count ? count : 1, sizeof(*blob->names));
	if (!blob->names)
		return -ENOMEM;
	while (blob->name_count < count) {
		size_t length;

		if (at == end)
			return THAW_EDAMAGED;
		length = *at++;
		if (!length || length > BLOB_NAME_MAX || length > (size_t)(end - at))
			return THAW_EDAMAGED;
		blob->names[blob->name_count] = copy_text(at, length);
		if (!blob->names[blob->name_count])
			return THAW_EDAMAGED;
		blob->name_count++;
		at += length;
	}
	*from = at;
	return 0;
}

/* 0, or the address of a value inside the heap. */
static bool handle_is_possible(const struct js_blob *blob, js_value handle)
{
	return handle % 8 == 0 && handle <= (uint64_t)blob->small.memory_pages * 65536 - 16;
}

static int decode_rejections(struct js_blob *blob, const uint8_t *at, unsigned count)
{
	struct js_rejection *rejections = calloc(count ? count : 1, sizeof(*rejections));

	if (!rejections)
		return -ENOMEM;
	blob->turn.rejections = rejections;
	blob->turn.rejection_count = count;
	for (unsigned i = 0; i < count; i++) {
		uint32_t handled;

		rejections[i].promise = get32(&at);
		rejections[i].reason = get32(&at);
		handled = get32(&at);
		rejections[i].handled = handled;
		if (handled > 1 || !handle_is_possible(blob, rejections[i].promise) ||
		    !handle_is_possible(blob, rejections[i].reason))
			return THAW_EDAMAGED;
	}
	return 0;
}

/* Everything behind the names, up to `end`. The caller checks the MAC. */
static int decode_turn(struct js_blob *blob, const uint8_t *at, const uint8_t *end)
{
	struct js_turn *turn = &blob->turn;
	uint32_t step, collect, rejections;
	uint64_t stack_bytes;

	if ((size_t)(end - at) < BLOB_TURN_BYTES + JS_BLOB_MAC_BYTES)
		return THAW_EDAMAGED;
	memcpy(turn->build_id, at, sizeof(turn->build_id));
	at += sizeof(turn->build_id);
	step = get32(&at);
	turn->argument_count = get32(&at);
	for (unsigned i = 0; i < JS_TURN_ARGUMENTS; i++) {
		turn->arguments[i] = get32(&at);
		if (!handle_is_possible(blob, turn->arguments[i]))
			return THAW_EDAMAGED;
	}
	turn->main_failure = get32(&at);
	collect = get32(&at);
	rejections = get32(&at);
	stack_bytes = get64(&at);
	if (step < JS_TURN_CALL || step > JS_TURN_JOB || turn->argument_count > JS_TURN_ARGUMENTS ||
	    collect > 1 || !handle_is_possible(blob, turn->main_failure))
		return THAW_EDAMAGED;
	turn->step = (enum js_turn_step)step;
	turn->collect = collect;
	if (rejections > (size_t)(end - at) / BLOB_REJECTION_BYTES ||
	    (size_t)(end - at) - rejections * BLOB_REJECTION_BYTES < JS_BLOB_MAC_BYTES ||
	    stack_bytes !=
		    (size_t)(end - at) - rejections * BLOB_REJECTION_BYTES - JS_BLOB_MAC_BYTES)
		return THAW_EDAMAGED;
	turn->stack = at + rejections * BLOB_REJECTION_BYTES;
	turn->stack_bytes = stack_bytes;
	return decode_rejections(blob, at, rejections);
}

static int decode_output(struct js_blob *blob, const uint8_t **from, const uint8_t *end)
{
	const uint8_t *at = *from;
	uint64_t bytes;

	if (end - at < 8)
		return THAW_EDAMAGED;
	bytes = get64(&at);
	if (!bytes || bytes > (size_t)(end - at))
		return THAW_EDAMAGED;
	blob->output = at;
	blob->output_bytes = bytes;
	at += bytes;
	if (!output_pieces_valid(blob->output, at))
		return THAW_EDAMAGED;
	*from = at;
	return 0;
}

/* Everything behind magic and version. */
static int decode_body(struct js_blob *blob, const uint8_t *at, const uint8_t *end)
{
	uint32_t path_bytes, names;
	uint64_t clock_bits, heap_bytes;
	int code;

	blob->small.stack_pointer = get32(&at);
	blob->small.memory_pages = get32(&at);
	blob->enter = get32(&at);
	blob->flags = get32(&at);
	blob->exit_code = (int32_t)get32(&at);
	blob->listeners = get32(&at);
	blob->restores = get64(&at);
	clock_bits = get64(&at);
	memcpy(&blob->clock_ms, &clock_bits, 8);
	blob->script.bytes = get64(&at);
	blob->script.mtime_ns = (int64_t)get64(&at);
	memcpy(blob->script.hash, at, 16);
	at += 16;
	path_bytes = get32(&at);
	names = get32(&at);
	memcpy(blob->branch, at, sizeof(blob->branch));
	at += sizeof(blob->branch);
	memcpy(blob->home, at, sizeof(blob->home));
	at += sizeof(blob->home);

	heap_bytes = (uint64_t)blob->small.memory_pages * 65536;
	if (!heap_bytes || heap_bytes > JS_HEAP_MAX_BYTES ||
	    blob->small.stack_pointer >= heap_bytes)
		return THAW_EDAMAGED;
	if (!blob->enter || blob->enter % 8 || blob->enter > heap_bytes - 16)
		return THAW_EDAMAGED;
	if (blob->flags & ~JS_BLOB_FLAGS || !isfinite(blob->clock_ms) || blob->clock_ms < 0)
		return THAW_EDAMAGED;
	if (blob->exit_code < 0 || blob->exit_code > 255)
		return THAW_EDAMAGED;
	if (path_bytes > BLOB_PATH_MAX || path_bytes > (size_t)(end - at))
		return THAW_EDAMAGED;
	if (path_bytes) {
		blob->script.path = copy_text(at, path_bytes);
		if (!blob->script.path)
			return THAW_EDAMAGED;
	}
	at += path_bytes;
	code = decode_names(blob, &at, end, names);
	if (!code && blob->flags & JS_BLOB_OUTPUT)
		code = decode_output(blob, &at, end);
	if (code)
		return code;
	if (blob->flags & JS_BLOB_MID_TURN)
		return decode_turn(blob, at, end);
	return at == end ? 0 : THAW_EDAMAGED;
}

int js_blob_decode(const void *data, size_t bytes, struct js_blob *blob, struct thaw_error *error)
{
	const uint8_t *at = data;
	uint32_t version;
	int code;

	memset(blob, 0, sizeof(*blob));
	if (!data || bytes < BLOB_FIXED_BYTES || memcmp(at, blob_magic, 4))
		return failure(
			error, THAW_EDAMAGED,
			"the generation's state (%zu bytes) is not that of a JavaScript program",
			bytes);
	at += 4;
	version = get32(&at);
	if (version != BLOB_VERSION)
		return failure(
			error, THAW_EENGINE,
			"the image's state has version %u, this build knows version %u: use the build that made it",
			version, BLOB_VERSION);
	code = decode_body(blob, at, (const uint8_t *)data + bytes);
	if (code) {
		js_blob_clear(blob);
		return failure(
			error, code,
			code == -ENOMEM
				? "out of memory"
				: "the generation's state holds a value that cannot be: thaw verify tells more");
	}
	return 0;
}

int js_blob_name_bindings(struct js_blob *blob, const struct js_host_binding *bindings)
{
	unsigned count = 0;

	while (bindings[count].name)
		count++;
	blob->names = calloc(count ? count : 1, sizeof(*blob->names));
	if (!blob->names)
		return -ENOMEM;
	for (; blob->name_count < count; blob->name_count++) {
		blob->names[blob->name_count] = strdup(bindings[blob->name_count].name);
		if (!blob->names[blob->name_count])
			return -ENOMEM;
	}
	return 0;
}

int js_blob_check_bindings(const struct js_blob *blob, const struct js_host_binding *bindings,
			   struct thaw_error *error)
{
	char missing[256] = "";
	size_t length = 0;

	for (unsigned i = 0; i < blob->name_count; i++) {
		const struct js_host_binding *binding = bindings;

		while (binding->name && strcmp(binding->name, blob->names[i]))
			binding++;
		if (!binding->name && length < sizeof(missing))
			length += (size_t)snprintf(missing + length, sizeof(missing) - length,
						   "%s%s", length ? ", " : "", blob->names[i]);
	}
	if (!length)
		return 0;
	return failure(error, THAW_EENGINE,
		       "the program in the image needs host functions that this build lacks: %s",
		       missing);
}

void js_blob_clear(struct js_blob *blob)
{
	for (unsigned i = 0; i < blob->name_count; i++)
		free(blob->names[i]);
	free(blob->names);
	free(blob->script.path);
	free((void *)blob->turn.rejections);
	memset(blob, 0, sizeof(*blob));
}

void js_source_hash(const void *source, size_t bytes, uint8_t hash[16])
{
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(source, bytes));
	memcpy(hash, canonical.digest, 16);
}
