/* SPDX-License-Identifier: MIT */
/*
 * state.c - the state of a guest that is a process, as a whole: the sections of its record (record.h), in order.
 *
 *	RECORD_COMMON	finished, exit code, restores, address of the stub's memory, branch (guest_common),
 *			the command
 *	the parts	each by its own file; a program that has ended has none
 *
 * Any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/failure.h"
#include "process/output/output.h"

static void encode_common(const struct process_state *state, struct record_writer *writer)
{
	size_t begun = record_section_begin(writer, RECORD_COMMON);

	record_put(writer, state->finished);
	record_put(writer, (uint64_t)state->exit_code);
	record_put(writer, state->restores);
	record_put(writer, state->stub);
	for (unsigned i = 0; i < 4; i++)
		record_put(writer, state->branch[i]);
	record_put(writer, (uint64_t)state->argument_count);
	for (int i = 0; i < state->argument_count; i++)
		record_put_text(writer, state->arguments[i]);
	record_section_end(writer, begun);
}

int process_state_encode(const struct process_state *state, void **data, size_t *bytes)
{
	struct record_writer writer = {0};
	size_t begun;

	encode_common(state, &writer);
#define PART(tag, encode)                                     \
	do {                                                  \
		begun = record_section_begin(&writer, (tag)); \
		encode;                                       \
		record_section_end(&writer, begun);           \
	} while (0)
	if (!state->finished) {
		PART(RECORD_IDENTITY, identity_encode(state->identity, &writer));
		PART(RECORD_MAPPINGS, mappings_encode(&state->mappings, &writer));
		PART(RECORD_THREADS, threads_encode(state->threads, state->thread_count, &writer));
		PART(RECORD_KERNEL, kernel_facts_encode(&state->kernel, &writer));
		PART(RECORD_DESCRIPTORS, descriptors_encode(state->descriptors, &writer));
		PART(RECORD_CLOCKS, clocks_encode(&state->clocks, &writer));
	}
	if (state->output)
		PART(RECORD_OUTPUT, output_saved_encode(state->output, &writer));
#undef PART
	if (writer.failed) {
		free(writer.data);
		return -ENOMEM;
	}
	*data = writer.data;
	*bytes = writer.bytes;
	return 0;
}

static bool decode_arguments(struct process_state *state, struct record_reader *reader)
{
	uint64_t count = record_take_count(reader, sizeof(uint64_t));

	state->arguments = calloc(count + 1, sizeof(*state->arguments));
	if (!state->arguments)
		return false;
	for (uint64_t i = 0; i < count; i++) {
		state->arguments[i] = record_take_text(reader);
		if (!state->arguments[i])
			return false;
		state->argument_count++;
	}
	return count > 0;
}

static bool decode_common(struct process_state *state, struct record_reader *reader)
{
	struct record_reader section;

	if (!record_take_section(reader, RECORD_COMMON, &section))
		return false;
	state->finished = record_take_up_to(&section, 1);
	state->exit_code = (int)record_take_up_to(&section, 255);
	state->restores = record_take(&section);
	state->stub = record_take(&section);
	for (unsigned i = 0; i < 4; i++)
		state->branch[i] = record_take(&section);
	return decode_arguments(state, &section) && !section.failed;
}

static bool decode_parts(struct process_state *state, struct record_reader *reader)
{
	struct record_reader section;

#define PART(tag, decode)                                                                         \
	do {                                                                                      \
		if (!record_take_section(reader, (tag), &section) || !(decode) || section.failed) \
			return false;                                                             \
	} while (0)
	PART(RECORD_IDENTITY, identity_decode(&state->identity, &section));
	PART(RECORD_MAPPINGS, mappings_decode(&state->mappings, &section));
	PART(RECORD_THREADS, threads_decode(&state->threads, &state->thread_count, &section));
	PART(RECORD_KERNEL, kernel_facts_decode(&state->kernel, &section));
	PART(RECORD_DESCRIPTORS, descriptors_decode(&state->descriptors, &section));
	PART(RECORD_CLOCKS, clocks_decode(&state->clocks, &section));
#undef PART
	return state->thread_count > 0;
}

/* Images that hold no output have no such section. */
static bool decode_output(struct process_state *state, struct record_reader *reader)
{
	struct record_reader section;

	if (!record_take_section(reader, RECORD_OUTPUT, &section))
		return true;
	state->output = calloc(1, sizeof(*state->output));
	return state->output && output_saved_decode(state->output, &section);
}

int process_state_decode(struct process_state *state, const void *data, size_t bytes,
			 struct thaw_error *error)
{
	struct record_reader reader = {.at = data, .end = (const uint8_t *)data + bytes};

	*state = (struct process_state){0};
	if (decode_common(state, &reader) && (state->finished || decode_parts(state, &reader)) &&
	    decode_output(state, &reader) && !reader.failed)
		return 0;
	process_state_free(state);
	return failure(error, THAW_EDAMAGED,
		       "the state of the program cannot be one: thaw verify tells more");
}

void process_state_free(struct process_state *state)
{
	for (int i = 0; i < state->argument_count; i++)
		free(state->arguments[i]);
	free(state->arguments);
	identity_free(state->identity);
	mappings_free(&state->mappings);
	threads_free(state->threads, state->thread_count);
	kernel_facts_free(&state->kernel);
	descriptors_free(state->descriptors);
	clocks_free(&state->clocks);
	if (state->output)
		output_saved_free(state->output);
	free(state->output);
	*state = (struct process_state){0};
}
