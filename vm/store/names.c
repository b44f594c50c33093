// SPDX-License-Identifier: MIT
/*
 * names.c - the names of a store's objects (format.h). A level of the index has what names consist of, and no names: so
 * nothing that it says refers to anything outside of the store.
 */
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>

#include "store/index.h"

static const char *const rooms[] = {
	[STORE_IN_DATA] = "data", [STORE_IN_HOT] = "hot", [STORE_IN_INDEX] = "index"};

void store_id_print(const uint8_t id[STORE_EPOCH_BYTES], char text[STORE_ID_TEXT])
{
	sodium_bin2hex(text, STORE_ID_TEXT, id, STORE_EPOCH_BYTES);
}

void store_record_name(uint64_t number, char name[STORE_NAME_BYTES])
{
	snprintf(name, STORE_NAME_BYTES, "log/%016" PRIx64, UINT64_MAX - 1 - number);
}

void store_object_name(const struct store_object *object, char name[STORE_NAME_BYTES])
{
	char epoch[STORE_ID_TEXT];

	if (object->kind == STORE_IN_RECORD) {
		store_record_name(object->record, name);
		return;
	}
	store_id_print(object->epoch, epoch);
	snprintf(name, STORE_NAME_BYTES, "%s/%016" PRIx64 "-%s-%08" PRIx32, rooms[object->kind],
		 object->record, epoch, object->part);
}

/* So many lower-case hex digits; moves behind them. */
static bool parse_hex(const char **at, unsigned digits, uint64_t *number)
{
	*number = 0;
	for (unsigned i = 0; i < digits; i++, ++*at) {
		const char *digit = **at ? strchr("0123456789abcdef", **at) : NULL;

		if (!digit)
			return false;
		*number = *number << 4 | (uint64_t)(digit - "0123456789abcdef");
	}
	return true;
}

bool store_id_parse(const char *text, uint8_t id[STORE_EPOCH_BYTES])
{
	uint64_t number;

	for (unsigned i = 0; i < STORE_EPOCH_BYTES; i++) {
		if (!parse_hex(&text, 2, &number))
			return false;
		id[i] = (uint8_t)number;
	}
	return true;
}

static bool parse_parts(const char *at, struct store_object *object)
{
	uint64_t number;

	if (!parse_hex(&at, 16, &object->record) || *at++ != '-')
		return false;
	if (!store_id_parse(at, object->epoch))
		return false;
	at += STORE_ID_TEXT - 1;
	if (*at++ != '-' || !parse_hex(&at, 8, &number))
		return false;
	object->part = (uint32_t)number;
	return !*at;
}

bool store_object_parse(const char *name, struct store_object *object)
{
	uint64_t number;

	*object = (struct store_object){0};
	if (!strncmp(name, "log/", 4)) {
		name += 4;
		object->kind = STORE_IN_RECORD;
		if (!parse_hex(&name, 16, &number) || *name)
			return false;
		object->record = UINT64_MAX - 1 - number;
		return object->record && object->record < UINT64_MAX - 1;
	}
	for (unsigned kind = STORE_IN_DATA; kind <= STORE_IN_INDEX; kind++) {
		size_t bytes = strlen(rooms[kind]);

		object->kind = kind;
		if (!strncmp(name, rooms[kind], bytes) && name[bytes] == '/')
			return parse_parts(name + bytes + 1, object) && object->record;
	}
	return false;
}
