/* SPDX-License-Identifier: MIT */
/*
 * fuzz_snapshot.c - fuzz target: a VM's snapshot as bytes (vm/embed/snapshot_codec.h). The input is a control byte, and
 * bytes, of memory or of a file, to be opened by themselves or over a base; the checksums of their header and frames are made
 * right first, if the control says so, so that what is behind them is looked at. What opens is written again, and that opens as the same.
 *
 * Or (MODEL) the input is a list of writes over the base: what comes of them goes into bytes, whole and as a delta, and back.
 */
#define _GNU_SOURCE
#define XXH_INLINE_ALL
#include <xxhash.h>

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../../vm/embed/snapshot_codec.h"
#include "../../vm/embed/snapshot_format.h"
#include "fuzz.h"

#define ENGINE "engine 1"
#define MAX_BYTES (48u << 10)
#define BASE_PAGES 32u
#define HEAP_MOST (8u << 20)
#define STATE_MOST (4u << 20)

enum {
	FIX = 1,   /* checksums */
	DELTA = 2, /* over the base */
	ASIDE = 4, /* of a file */
	MODEL = 8,
};

struct writing {
	uint16_t page, at, bytes;
	uint8_t value, step;
};

static struct snapshot_contents base;

static struct snapshot_contents ended(struct thaw_frozen *frozen, const void *state, size_t bytes)
{
	struct thaw_error error;

	if (thaw_frozen_end(frozen, state, bytes, &error))
		fuzz_fail("%s", error.text);
	return (struct snapshot_contents){.engine = ENGINE, .frozen = frozen};
}

static void base_need(void)
{
	struct thaw_frozen *frozen;
	uint32_t words[SNAPSHOT_PAGE / 4];
	uint64_t random = 1;

	if (base.frozen)
		return;
	if (thaw_frozen_begin(BASE_PAGES * SNAPSHOT_PAGE, &frozen, NULL))
		fuzz_fail("no memory");
	for (unsigned page = 0; page < BASE_PAGES; page += 2) {
		for (unsigned i = 0; i < SNAPSHOT_PAGE / 4; i++)
			words[i] = (uint32_t)fuzz_below(&random, 20) * 8;
		if (thaw_frozen_write(frozen, page * SNAPSHOT_PAGE, words, sizeof(words), NULL))
			fuzz_fail("no memory");
	}
	base = ended(frozen, "a state", 7);
}

/* ---- What is right about bytes that are changed at will ---- */

static void fix(uint8_t *bytes, size_t size)
{
	struct disk_snapshot header;
	struct disk_snapshot_frame frame;
	size_t table, body, at;
	XXH3_state_t state;

	if (size < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	memcpy(header.magic, SNAPSHOT_MAGIC, sizeof(header.magic));
	header.version = SNAPSHOT_VERSION;
	memset(header.engine, 0, sizeof(header.engine));
	strcpy(header.engine, ENGINE);
	if (header.runs > size / 8 || header.frames > size / 16)
		return;
	table = sizeof(header) + header.runs * sizeof(struct disk_snapshot_run);
	body = at = table + header.frames * sizeof(frame);
	if (body > size)
		return;
	for (uint32_t i = 0; i < header.frames; i++, at += frame.bytes) {
		memcpy(&frame, bytes + table + i * sizeof(frame), sizeof(frame));
		if (i + 1 == header.frames || frame.bytes > size - at)
			frame.bytes = (uint32_t)(size - at);
		frame.checksum = XXH3_64bits(bytes + at, frame.bytes);
		memcpy(bytes + table + i * sizeof(frame), &frame, sizeof(frame));
	}
	XXH3_64bits_reset(&state);
	XXH3_64bits_update(&state, &header, offsetof(struct disk_snapshot, checksum));
	XXH3_64bits_update(&state, bytes + sizeof(header), body - sizeof(header));
	header.checksum = XXH3_64bits_digest(&state);
	memcpy(bytes, &header, sizeof(header));
}

/* ---- And back ---- */

static void must_be(struct snapshot_contents *is, struct snapshot_contents *wanted)
{
	uint64_t pages = thaw_frozen_bytes(wanted->frozen) / SNAPSHOT_PAGE;
	uint8_t found[SNAPSHOT_PAGE], right[SNAPSHOT_PAGE], ids[2][16];
	uint64_t sum[2];

	if (thaw_frozen_bytes(is->frozen) / SNAPSHOT_PAGE != pages)
		fuzz_fail("a heap of another size came back");
	for (uint64_t i = 0; i < pages; i++)
		if (thaw_frozen_read(is->frozen, i * SNAPSHOT_PAGE, found, sizeof(found), NULL) ||
		    thaw_frozen_read(wanted->frozen, i * SNAPSHOT_PAGE, right, sizeof(right),
				     NULL) ||
		    memcmp(found, right, sizeof(right)))
			fuzz_fail("page %llu came back as another", (unsigned long long)i);
	if (thaw_frozen_sum(is->frozen, sum, NULL) || !is->summed ||
	    memcmp(sum, is->sum, sizeof(sum)))
		fuzz_fail("the sum is not that of the contents");
	if (snapshot_summed(wanted, NULL))
		fuzz_fail("no sum");
	snapshot_id(is, ids[0]);
	snapshot_id(wanted, ids[1]);
	if (memcmp(ids[0], ids[1], sizeof(ids[0])))
		fuzz_fail("another id came back");
}

static void there_and_back(struct snapshot_contents *contents, struct snapshot_contents *since)
{
	struct snapshot_source source = {0};
	struct snapshot_contents back;
	struct thaw_error error;
	size_t bytes;
	void *data;

	if (snapshot_encode(contents, since, &data, &bytes, &error))
		fuzz_fail("%s", error.text);
	source.data = data;
	source.bytes = bytes;
	if (snapshot_decode(&source, ENGINE, 0, since, &back, &error))
		fuzz_fail("%s", error.text);
	must_be(&back, contents);
	thaw_frozen_drop(back.frozen);
	free(data);
}

static void model(const uint8_t *bytes, size_t size, bool over)
{
	uint8_t data[4096];
	struct snapshot_contents made;
	struct thaw_frozen *frozen;
	struct writing writing = {0};
	uint64_t heap_bytes;

	if (size >= sizeof(writing))
		memcpy(&writing, bytes, sizeof(writing));
	heap_bytes = (1 + writing.page % 8) * (uint64_t)SNAPSHOT_UNIT;
	if (over ? thaw_frozen_begin_over(base.frozen, heap_bytes, &frozen, NULL)
		 : thaw_frozen_begin(heap_bytes, &frozen, NULL))
		fuzz_fail("no memory");
	for (size_t at = sizeof(writing); at + sizeof(writing) <= size; at += sizeof(writing)) {
		uint64_t offset;

		memcpy(&writing, bytes + at, sizeof(writing));
		offset = (writing.page * (uint64_t)SNAPSHOT_PAGE + writing.at) % heap_bytes;
		writing.bytes %= sizeof(data);
		if (writing.bytes > heap_bytes - offset)
			writing.bytes = (uint16_t)(heap_bytes - offset);
		for (unsigned i = 0; i < writing.bytes; i++)
			data[i] = (uint8_t)(writing.value + i * writing.step);
		if (thaw_frozen_write(frozen, offset, data, writing.bytes, NULL))
			fuzz_fail("no memory");
	}
	made = ended(frozen, bytes, size < 40 ? size : 40);
	there_and_back(&made, &base);
	there_and_back(&made, NULL);
	made.summed = false;
	there_and_back(&made, NULL);
	thaw_frozen_drop(frozen);
}

static void open_bytes(uint8_t *bytes, size_t size, uint8_t flags)
{
	struct snapshot_source source = {.data = bytes, .bytes = size};
	struct snapshot_contents made, *over = flags & DELTA ? &base : NULL;
	struct snapshot_info info;
	struct thaw_error error;

	if (flags & ASIDE) {
		source = (struct snapshot_source){
			.bytes = size, .offset = 3, .fd = memfd_create("bytes", MFD_CLOEXEC)};
		if (source.fd < 0 || pwrite(source.fd, bytes, size, 3) != (ssize_t)size)
			fuzz_fail("no file in memory");
	}
	if (!snapshot_describe(&source, &info, &error) && info.heap_bytes <= HEAP_MOST &&
	    info.state_bytes <= STATE_MOST &&
	    !snapshot_decode(&source, ENGINE, HEAP_MOST, over, &made, &error)) {
		there_and_back(&made, NULL);
		there_and_back(&made, &base);
		thaw_frozen_drop(made.frozen);
	}
	if (flags & ASIDE)
		close(source.fd);
}

static void one(const uint8_t *input, size_t size)
{
	uint8_t *bytes;

	if (!size)
		return;
	base_need();
	/* What lies behind is to be found by who reads it. */
	bytes = malloc(size);
	if (!bytes)
		fuzz_fail("no memory");
	memcpy(bytes, input + 1, size - 1);
	if (*input & MODEL) {
		model(bytes, size - 1, *input & DELTA);
	} else {
		if (*input & FIX)
			fix(bytes, size - 1);
		open_bytes(bytes, size - 1, *input);
	}
	free(bytes);
}

/* ---- The first inputs, and changes ---- */

static size_t seed_bytes(uint8_t *bytes, uint8_t flags)
{
	struct snapshot_contents made;
	struct thaw_frozen *frozen;
	uint64_t random = 3;
	size_t size;
	void *data;

	if (thaw_frozen_begin_over(base.frozen, 3 * SNAPSHOT_UNIT, &frozen, NULL))
		fuzz_fail("no memory");
	for (unsigned i = 0; i < 20; i++)
		if (thaw_frozen_write(frozen, fuzz_below(&random, 3 * SNAPSHOT_UNIT - 8), "changed",
				      8, NULL))
			fuzz_fail("no memory");
	made = ended(frozen, "a state, later", 14);
	if (snapshot_encode(&made, flags & DELTA ? &base : NULL, &data, &size, NULL) ||
	    size >= MAX_BYTES)
		fuzz_fail("no seed");
	thaw_frozen_drop(frozen);
	*bytes = flags;
	memcpy(bytes + 1, data, size);
	free(data);
	return 1 + size;
}

static size_t seed(unsigned number, uint8_t *bytes)
{
	static const uint8_t flags[] = {
		0, DELTA, FIX, FIX | DELTA, FIX | DELTA | ASIDE, FIX | ASIDE, MODEL, MODEL | DELTA};
	uint64_t random = number;

	base_need();
	if (number >= sizeof(flags))
		return 0;
	if (!(flags[number] & MODEL))
		return seed_bytes(bytes, flags[number]);
	*bytes = flags[number];
	for (unsigned i = 1; i <= 200; i++)
		bytes[i] = (uint8_t)fuzz_next(&random);
	return 201;
}

__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max);

/* A field of 4 bytes: of the header, the runs or the table, mostly. */
static void hurt(uint8_t *bytes, size_t size, uint64_t *random)
{
	struct disk_snapshot header;
	uint64_t fields = size / 4;
	uint32_t value;
	size_t at;

	if (size < sizeof(header))
		return;
	memcpy(&header, bytes, sizeof(header));
	if (fuzz_below(random, 4))
		fields = 28 + 2ull * (header.runs % 512) + 4ull * (header.frames % 512);
	at = (fuzz_below(random, 6) ? 26 + fuzz_below(random, fields) : 3) * 4;
	if (at + 4 > size)
		return;
	memcpy(&value, bytes + at, 4);
	switch (fuzz_below(random, 6)) {
	case 0:
		value += (uint32_t)fuzz_below(random, 3) - 1;
		break;
	case 1:
		value ^= 1u << fuzz_below(random, 32);
		break;
	case 2:
		value = (uint32_t)fuzz_below(random, 48);
		break;
	case 3:
		value = (uint32_t)fuzz_below(random, 5) * SNAPSHOT_UNIT;
		break;
	case 4:
		value = 0u - (uint32_t)fuzz_below(random, 20);
		break;
	default:
		value = (uint32_t)fuzz_next(random);
	}
	memcpy(bytes + at, &value, 4);
}

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	unsigned changes = 1 + (unsigned)fuzz_below(&random, 3);

	if (!size)
		return 0;
	while (changes--) {
		switch (fuzz_below(&random, 8)) {
		case 0:
			*bytes = (uint8_t)fuzz_below(&random, 16) |
				 (fuzz_below(&random, 4) ? FIX : 0);
			break;
		case 1:
		case 2:
			if (LLVMFuzzerMutate && max > 1)
				size = 1 + LLVMFuzzerMutate(bytes + 1, size - 1, max - 1);
			else if (size > 1)
				bytes[1 + fuzz_below(&random, size - 1)] =
					(uint8_t)fuzz_next(&random);
			break;
		case 3:
			size -= fuzz_below(&random, size < 32 ? size : 32); /* never all */
			break;
		default:
			if (*bytes & MODEL && size > 1)
				bytes[1 + fuzz_below(&random, size - 1)] =
					(uint8_t)fuzz_next(&random);
			else
				hurt(bytes + 1, size - 1, &random);
		}
	}
	return size;
}

const struct fuzz_target fuzz_snapshot = {
	.name = "snapshot",
	.max_bytes = MAX_BYTES,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
