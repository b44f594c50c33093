/* SPDX-License-Identifier: MIT */
/*
 * record.h - the state of a process guest as bytes: what is encoded in one process and decoded in another.
 *
 * Little endian; numbers of 8 bytes; byte strings with their length before them; sections with a tag and a length,
 * so that one that is not known can be passed over, and none reads into the next. The first failure sticks: whoever
 * writes or reads looks once, at the end. A reader trusts nothing: lengths are checked against what is left, and
 * counts against what they would need (record_take_count).
 */
#ifndef VM_PROCESS_RECORD_H
#define VM_PROCESS_RECORD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct record_writer { /* {0} is empty */
	uint8_t *data; /* malloc'ed; the caller frees */
	size_t bytes, room;
	bool failed; /* no memory */
};

void record_put(struct record_writer *writer, uint64_t number);
void record_put_bytes(struct record_writer *writer, const void *data, size_t bytes);
void record_put_text(struct record_writer *writer, const char *text); /* NULL: as if empty */
/* section_begin() returns what section_end() wants. */
size_t record_section_begin(struct record_writer *writer, uint32_t tag);
void record_section_end(struct record_writer *writer, size_t begun);

struct record_reader {
	const uint8_t *at, *end;
	bool failed; /* something cannot be; everything read after that is 0 */
};

uint64_t record_take(struct record_reader *reader);
/* A number up to `most`. */
uint64_t record_take_up_to(struct record_reader *reader, uint64_t most);
/* How many things of at least `least_bytes` each follow: never more than there is room for. */
uint64_t record_take_count(struct record_reader *reader, size_t least_bytes);
/* Borrowed from the record. */
const void *record_take_bytes(struct record_reader *reader, size_t *bytes);
/* Exactly so many. */
bool record_take_exactly(struct record_reader *reader, void *to, size_t bytes);
/* malloc'ed and terminated; a text with a zero in it fails. NULL: failed (also without memory). */
char *record_take_text(struct record_reader *reader);
/*
 * The next section with this tag, passing over others. `section` reads only that, and fails on its own. False: there is
 * none; `reader` stays where it was, and `section` has failed.
 */
bool record_take_section(struct record_reader *reader, uint32_t tag, struct record_reader *section);

/* The sections of a state. */
enum record_tag {
	RECORD_COMMON = 1,  /* guest.c: what the policy keeps, the command, exit code */
	RECORD_IDENTITY,    /* identity.c */
	RECORD_MAPPINGS,    /* mappings.c */
	RECORD_THREADS,	    /* threads.c */
	RECORD_KERNEL,	    /* kernel_facts.c */
	RECORD_DESCRIPTORS, /* descriptors.c */
	RECORD_CLOCKS,	    /* clocks.c */
	RECORD_OUTPUT,	    /* output/streams.c; may be missing */
};

#endif
