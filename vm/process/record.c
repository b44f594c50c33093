/* SPDX-License-Identifier: MIT */
/*
 * record.c - the state of a process guest as bytes (record.h).
 *
 *	number		8 bytes, little endian
 *	bytes, text	a number: how many; the bytes, a text without a terminator
 *	section		a number: its tag; a number: how many bytes; those
 *
 * Nothing is aligned. No state of its own: any thread, for a writer or reader of its own.
 */
#define _GNU_SOURCE
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "process/record.h"

#define NUMBER_BYTES sizeof(uint64_t)

/* ---- Writing */

/* Where so many bytes more belong; NULL: no memory, now or before. */
static uint8_t *writer_room(struct record_writer *writer, size_t bytes)
{
	uint8_t *at;

	if (writer->failed || bytes > SIZE_MAX / 4 - writer->bytes) {
		writer->failed = true;
		return NULL;
	}
	if (writer->bytes + bytes > writer->room) {
		size_t room = (writer->bytes + bytes) * 2 + 256;
		uint8_t *data = realloc(writer->data, room);

		if (!data) {
			writer->failed = true;
			return NULL;
		}
		writer->data = data;
		writer->room = room;
	}
	at = writer->data + writer->bytes;
	writer->bytes += bytes;
	return at;
}

void record_put(struct record_writer *writer, uint64_t number)
{
	uint8_t *at = writer_room(writer, NUMBER_BYTES);

	number = htole64(number);
	if (at)
		memcpy(at, &number, NUMBER_BYTES);
}

void record_put_bytes(struct record_writer *writer, const void *data, size_t bytes)
{
	uint8_t *at;

	record_put(writer, bytes);
	at = writer_room(writer, bytes);
	if (at && bytes)
		memcpy(at, data, bytes);
}

void record_put_text(struct record_writer *writer, const char *text)
{
	record_put_bytes(writer, text, text ? strlen(text) : 0);
}

size_t record_section_begin(struct record_writer *writer, uint32_t tag)
{
	record_put(writer, tag);
	record_put(writer, 0);
	return writer->bytes;
}

void record_section_end(struct record_writer *writer, size_t begun)
{
	uint64_t bytes;

	if (writer->failed)
		return;
	bytes = htole64(writer->bytes - begun);
	memcpy(writer->data + begun - NUMBER_BYTES, &bytes, NUMBER_BYTES);
}

/* ---- Reading */

static size_t reader_left(const struct record_reader *reader)
{
	return reader->failed ? 0 : (size_t)(reader->end - reader->at);
}

uint64_t record_take(struct record_reader *reader)
{
	uint64_t number;

	if (reader_left(reader) < NUMBER_BYTES) {
		reader->failed = true;
		return 0;
	}
	memcpy(&number, reader->at, NUMBER_BYTES);
	reader->at += NUMBER_BYTES;
	return le64toh(number);
}

uint64_t record_take_up_to(struct record_reader *reader, uint64_t most)
{
	uint64_t number = record_take(reader);

	if (number <= most)
		return number;
	reader->failed = true;
	return 0;
}

uint64_t record_take_count(struct record_reader *reader, size_t least_bytes)
{
	uint64_t count = record_take(reader);

	if (count <= reader_left(reader) / (least_bytes ? least_bytes : 1))
		return count;
	reader->failed = true;
	return 0;
}

const void *record_take_bytes(struct record_reader *reader, size_t *bytes)
{
	const uint8_t *data;

	*bytes = (size_t)record_take_count(reader, 1);
	if (reader->failed)
		return NULL;
	data = reader->at;
	reader->at += *bytes;
	return data;
}

bool record_take_exactly(struct record_reader *reader, void *to, size_t bytes)
{
	size_t there;
	const void *data = record_take_bytes(reader, &there);

	if (!reader->failed && there == bytes) {
		if (bytes)
			memcpy(to, data, bytes);
		return true;
	}
	reader->failed = true;
	if (bytes)
		memset(to, 0, bytes);
	return false;
}

char *record_take_text(struct record_reader *reader)
{
	size_t bytes;
	const void *data = record_take_bytes(reader, &bytes);
	char *text = NULL;

	if (!reader->failed && (!bytes || !memchr(data, 0, bytes)))
		text = malloc(bytes + 1);
	if (!text) {
		reader->failed = true;
		return NULL;
	}
	if (bytes)
		memcpy(text, data, bytes);
	text[bytes] = 0;
	return text;
}

bool record_take_section(struct record_reader *reader, uint32_t tag, struct record_reader *section)
{
	struct record_reader at = *reader;

	*section = (struct record_reader){.failed = true};
	while (reader_left(&at)) {
		uint64_t found = record_take(&at);
		size_t bytes;
		const uint8_t *data = record_take_bytes(&at, &bytes);

		if (at.failed)
			break;
		if (found != tag)
			continue;
		*section = (struct record_reader){.at = data, .end = data + bytes};
		*reader = at;
		return true;
	}
	reader->failed |= at.failed;
	return false;
}
