/* SPDX-License-Identifier: MIT */
/*
 * fuzz_process.c - fuzz target: the state of a guest that is a process. The input is such a state, without its MAC:
 * described as thaw inspect does; decoded, encoded again, and that once more, which must be the same bytes.
 *
 * Nothing is restored from it: what has no right MAC is not continued (tests/process). But what reads images without
 * the key shows it, so nothing of it may be believed: neither lengths nor counts, nor that mappings are in order.
 *
 * The first input is the state of a real program, captured here.
 */
#define _GNU_SOURCE
#include <string.h>

#include "../../vm/process/describe.h"
#include "fuzz.h"

#define MAX_BYTES (96u << 10)
#define HEAD 16u /* of a section: tag, length */

static uint8_t *encode(const struct process_state *state, size_t *bytes)
{
	void *data;

	if (process_state_encode(state, &data, bytes))
		fuzz_fail("no memory to encode a state");
	return data;
}

/* ---- As who looks at an image sees it */

#define ADDRESS_PAGES (1ull << 35)

static uint64_t pages_seen;

static void see_part(void *arg, const struct area *area, uint64_t first, uint64_t pages)
{
	(void)arg;
	if (!pages || (area && (first < area->start / 4096 || first + pages > area->end / 4096)))
		fuzz_fail("pages beyond their area");
	pages_seen += pages;
}

static void see(const uint8_t *data, size_t size)
{
	struct description description;
	struct thaw_error error;
	uint64_t end = 0;

	if (description_decode(data, size, &description, &error))
		return;
	for (size_t i = 0; i < description.area_count; i++) {
		const struct area *area = &description.areas[i];

		if (area->start < end || area->end <= area->start)
			fuzz_fail("areas are in no order");
		end = area->end;
		if (!area_short_name(area)[0])
			fuzz_fail("an area has no name");
	}
	pages_seen = 0;
	description_split(&description, 4096, 0, ADDRESS_PAGES, see_part, NULL);
	if (pages_seen != ADDRESS_PAGES)
		fuzz_fail("pages are lost");
	description_free(&description);
}

static void one(const uint8_t *input, size_t size)
{
	uint8_t *copy = malloc(size + !size), *first,
		*second; /* so that one byte too far is seen */
	size_t first_bytes, second_bytes, count;
	struct process_state state;
	struct thaw_range *ranges;
	struct thaw_error error;
	int code;

	if (!copy)
		fuzz_fail("no memory");
	memcpy(copy, input, size);
	see(copy, size);
	code = process_state_decode(&state, copy, size, &error);
	free(copy);
	if (code)
		return;
	if (!mappings_ranges(&state.mappings, &ranges, &count))
		free(ranges);
	first = encode(&state, &first_bytes);
	process_state_free(&state);
	if (process_state_decode(&state, first, first_bytes, &error))
		fuzz_fail("what was encoded cannot be decoded: %s", error.text);
	second = encode(&state, &second_bytes);
	process_state_free(&state);
	if (first_bytes != second_bytes || memcmp(first, second, first_bytes))
		fuzz_fail("a state was decoded into another one");
	free(first);
	free(second);
}

/* ---- The first inputs */

static int capture(struct process *process, struct process_state *state, struct thaw_error *error)
{
	int code = mappings_capture(process, &state->mappings, error);

	if (!code)
		code = threads_capture(process, error);
	if (!code)
		code = kernel_facts_capture(process, &state->kernel, error);
	if (!code)
		code = identity_capture(process, &state->mappings, &state->identity, error);
	if (!code)
		code = descriptors_capture(process, &state->descriptors, error);
	if (!code)
		code = clocks_capture(process, &state->mappings, &state->clocks, error);
	return code;
}

/* A program that has just started. 0: there can be none here. */
static size_t seed_running(uint8_t *bytes)
{
	char *arguments[] = {"sleep", "1000", NULL};
	struct process process = {0};
	struct process_state state = {.arguments = arguments, .argument_count = 2};
	struct thaw_error error = {0};
	size_t size = 0;
	uint8_t *data;
	int code = process_spawn(&process, arguments, environ, &error);

	if (!code)
		code = capture(&process, &state, &error);
	if (code) {
		fprintf(stderr, "fuzz: process: no state of a program to begin with: %s\n",
			error.text);
	} else {
		state.threads = process.threads;
		state.thread_count = process.thread_count;
		state.stub = process.stub;
		data = encode(&state, &size);
		if (size > MAX_BYTES)
			fuzz_fail("a state of %zu bytes is too long for a seed", size);
		memcpy(bytes, data, size);
		free(data);
	}
	state.threads = NULL; /* the process's */
	state.arguments = NULL;
	state.argument_count = 0;
	state.thread_count = 0;
	process_state_free(&state);
	mappings_forget(&process);
	process_close(&process);
	return size;
}

static size_t seed_finished(uint8_t *bytes)
{
	char *arguments[] = {"false", NULL};
	const struct process_state state = {
		.arguments = arguments, .argument_count = 1, .finished = true, .exit_code = 1};
	size_t size;
	uint8_t *data = encode(&state, &size);

	memcpy(bytes, data, size);
	free(data);
	return size;
}

/* The last one, if it cannot be had, is left out. */
static size_t seed(unsigned number, uint8_t *bytes)
{
	if (number == 0)
		return seed_finished(bytes);
	return number == 1 ? seed_running(bytes) : 0;
}

/* ---- Changes */

static uint64_t get64(const uint8_t *at)
{
	uint64_t value;

	memcpy(&value, at, 8);
	return value;
}

static uint64_t hurting_value(uint64_t *random, uint64_t old)
{
	const uint64_t values[] = {0,
				   1,
				   2,
				   old + 1,
				   old - 1,
				   old * 2,
				   old / 2,
				   old ^ 1ull << fuzz_below(random, 64),
				   old + 4096,
				   old - 4096,
				   ~0ull,
				   ~0ull << fuzz_below(random, 64),
				   1ull << fuzz_below(random, 64),
				   0x7fffffffffffffff,
				   0x7ffffffff000,
				   0x800000000000,
				   0xffffffff,
				   0x80000000,
				   fuzz_below(random, 256),
				   fuzz_below(random, 65536),
				   fuzz_next(random)};

	return values[fuzz_below(random, sizeof(values) / sizeof(values[0]))];
}

/* A section of those one after the other: where it begins, with its head; `size`: there is none any more. */
static size_t section_after(const uint8_t *bytes, size_t size, size_t at)
{
	uint64_t length;

	if (size - at < HEAD)
		return size;
	length = get64(bytes + at + 8);
	return length > size - at - HEAD ? size : at + HEAD + length;
}

/* More or fewer bytes somewhere, and a section that is as long as it says. */
static size_t lengthen(uint8_t *bytes, size_t size, size_t max, uint64_t *random)
{
	size_t at = fuzz_below(random, size), count = 8 * (1 + fuzz_below(random, 4)), begun = 0;
	bool more = fuzz_below(random, 2);
	uint64_t length;

	for (size_t next; (next = section_after(bytes, size, begun)) <= at; begun = next)
		;
	if (at < begun + HEAD || size - begun < HEAD)
		return size;
	length = get64(bytes + begun + 8);
	if (more) {
		if (size + count > max)
			return size;
		memmove(bytes + at + count, bytes + at, size - at);
		for (size_t i = 0; i < count; i += 8) {
			uint64_t value = fuzz_below(random, 2) ? fuzz_below(random, 9)
							       : hurting_value(random, length);

			memcpy(bytes + at + i, &value, 8);
		}
		length += count;
	} else {
		if (count > size - at || count > length)
			return size;
		memmove(bytes + at, bytes + at + count, size - at - count);
		length -= count;
	}
	memcpy(bytes + begun + 8, &length, 8);
	return more ? size + count : size - count;
}

__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max);

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	unsigned changes = 1 + !fuzz_below(&random, 3);

	while (changes-- && size >= HEAD) {
		size_t at = fuzz_below(&random, size - 7);
		uint64_t value;

		switch (fuzz_below(&random, 8)) {
		case 0:
			size = lengthen(bytes, size, max, &random);
			break;
		case 1:
			if (LLVMFuzzerMutate)
				size = LLVMFuzzerMutate(bytes, size, max);
			break;
		case 2:
			bytes[at] ^= (uint8_t)(1u << fuzz_below(&random, 8));
			break;
		default: /* a small number, if one can be found: few of all bytes are lengths or counts */
			for (unsigned tries = 0; tries < 64 && get64(bytes + at) > 4096; tries++)
				at = fuzz_below(&random, size - 7);
			value = hurting_value(&random, get64(bytes + at));
			memcpy(bytes + at, &value, 8);
		}
	}
	return size;
}

const struct fuzz_target fuzz_process = {
	.name = "process",
	.max_bytes = MAX_BYTES,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
