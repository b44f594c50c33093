// SPDX-License-Identifier: MIT
/*
 * people_value.c - JSON for people: what is written for one value. What JSON has as it is, the rest as an
 * object with a "$type". One thread.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export_json_state.h"

/* ---- Writing */

void people_put(struct people *people, const char *text)
{
	fputs(text, people->to);
}

void people_new_line(struct people *people, size_t indent)
{
	people->line = indent;
	putc('\n', people->to);
	for (size_t i = 0; i < indent; i++)
		fputs("  ", people->to);
}

void people_put_text(struct people *people)
{
	people->failed = people->failed || people->text.failed;
	if (people->text.s && !people->text.failed)
		fputs(people->text.s, people->to);
	people->text.bytes = 0;
	if (people->text.s)
		people->text.s[0] = '\0';
}

void people_put_quoted(struct people *people, struct graph_text units)
{
	look_add_quoted(&people->text, units.units, units.count);
	people_put_text(people);
	free(units.units);
}

static void put_quoted_ascii(struct people *people, const char *text)
{
	uint16_t units[256];
	size_t count = 0;

	for (; *text && count < sizeof(units) / sizeof(units[0]); text++)
		units[count++] = (uint8_t)*text;
	look_add_quoted(&people->text, units, count);
	people_put_text(people);
}

/* A name as a key. The program's own that begin with $ are told from ours. */
void people_put_key(struct people *people, uint32_t atom)
{
	enum graph_atom kind = graph_atom_kind(people->graph, atom);
	struct graph_text name = graph_atom_text(people->graph, atom, 4096);
	uint16_t *units = malloc((name.count + 4) * 2);
	size_t count = 0;

	if (!units) {
		people->failed = true;
		free(name.units);
		return;
	}
	if (kind == GRAPH_ATOM_SYMBOL)
		units[count++] = '[';
	else if (kind == GRAPH_ATOM_STRING && name.count && name.units[0] == '$')
		units[count++] = '$';
	if (name.count)
		memcpy(units + count, name.units, name.count * 2);
	count += name.count;
	if (kind == GRAPH_ATOM_SYMBOL)
		units[count++] = ']';
	free(name.units);
	people_put_quoted(people, (struct graph_text){units, count, count});
	people_put(people, ": ");
}

static void put_string(struct people *people, struct graph_value value)
{
	struct graph_text text = graph_text(people->graph, value, people->options.limit);
	uint64_t more = text.total - text.count;

	if (!text.units)
		people->failed = true;
	if (more)
		people_put(people, "{\"$type\": \"string\", \"start\": ");
	people_put_quoted(people, text);
	if (more)
		fprintf(people->to, ", \"$more\": %llu}", (unsigned long long)more);
}

static void put_number(struct people *people, double number)
{
	bool plain = isfinite(number) && !(number == 0 && signbit(number));

	if (!plain)
		look_add(&people->text, "{\"$type\": \"number\", \"value\": \"");
	look_add_number(&people->text, number);
	if (!plain)
		look_add(&people->text, "\"}");
	people_put_text(people);
}

/* Everything that is not an object. */
void people_put_primitive(struct people *people, struct graph_value value)
{
	char *digits;

	switch (value.kind) {
	case GRAPH_NULL:
		people_put(people, "null");
		break;
	case GRAPH_BOOL:
		people_put(people, value.bits ? "true" : "false");
		break;
	case GRAPH_NUMBER:
		put_number(people, graph_number(value));
		break;
	case GRAPH_STRING:
	case GRAPH_ROPE:
		put_string(people, value);
		break;
	case GRAPH_SYMBOL:
		people_put(people, "{\"$type\": \"symbol\"");
		if (graph_symbol_described(people->graph, value)) {
			people_put(people, ", \"description\": ");
			put_string(people, value);
		}
		people_put(people, "}");
		break;
	case GRAPH_BIGINT:
	case GRAPH_SHORT_BIGINT:
		digits = graph_bigint_text(people->graph, value);
		fprintf(people->to, "{\"$type\": \"bigint\", \"value\": \"%s\"}",
			digits ? digits : "");
		people->failed = people->failed || !digits;
		free(digits);
		break;
	default:
		people_put(people, "{\"$type\": ");
		look_add_type(&people->text, people->graph, value);
		fputc('"', people->to);
		people_put_text(people);
		people_put(people, "\"}");
		break;
	}
}

void people_put_type(struct people *people, struct graph_value value)
{
	struct look_text type = {0};
	uint16_t units[256];
	size_t count = 0;
	const char *fallback;
	struct graph_value name;

	people_put(people, "\"$type\": ");
	name = graph_name(people->graph, value, &fallback);
	if (value.kind == GRAPH_OBJECT && !graph_is_function(people->graph, value) &&
	    name.kind == GRAPH_STRING) {
		people_put_quoted(people, graph_text(people->graph, name, 200));
		return;
	}
	look_add_type(&type, people->graph, value);
	for (const char *c = type.s; c && *c && count < 256; c++)
		units[count++] = (uint8_t)*c;
	look_add_quoted(&people->text, units, count);
	people_put_text(people);
	free(type.s);
}

static void put_bytes(struct people *people, struct graph_value buffer)
{
	uint64_t length = graph_byte_length(people->graph, buffer), at = 0;
	uint8_t bytes[4096];
	size_t got = 1;

	fprintf(people->to, ", \"byteLength\": %llu, \"hex\": \"", (unsigned long long)length);
	while (got && at < length && at < people->options.limit) {
		size_t want = people->options.limit - at < sizeof(bytes)
				      ? people->options.limit - at
				      : sizeof(bytes);

		got = graph_buffer_read(people->graph, buffer, at, bytes, want);
		for (size_t i = 0; i < got; i++)
			fprintf(people->to, "%02x", bytes[i]);
		at += got;
	}
	people_put(people, "\"");
	if (at < length)
		fprintf(people->to, ", \"$more\": %llu", (unsigned long long)(length - at));
}

static void put_typed(struct people *people, struct graph_value array)
{
	uint64_t length = graph_elements(people->graph, array);
	uint64_t shown = length < people->options.limit ? length : people->options.limit;

	shown = graph_spend(people->graph, shown);
	fprintf(people->to, ", \"length\": %llu, \"values\": [", (unsigned long long)length);
	for (uint64_t i = 0; i < shown; i++) {
		struct graph_value value = graph_typed_element(people->graph, array, (uint32_t)i);

		if (i)
			people_put(people, ", ");
		if (value.kind == GRAPH_OTHER) /* beyond what is signed */
			fprintf(people->to, "{\"$type\": \"bigint\", \"value\": \"%llu\"}",
				(unsigned long long)value.bits);
		else
			people_put_primitive(people, value);
	}
	people_put(people, "]");
	if (shown < length)
		fprintf(people->to, ", \"$more\": %llu", (unsigned long long)(length - shown));
}

void people_put_function(struct people *people, struct graph_value function)
{
	const char *fallback;
	struct graph_value name = graph_name(people->graph, function, &fallback);
	uint32_t file, line;

	people_put(people, ", \"name\": ");
	if (name.kind == GRAPH_STRING)
		people_put_quoted(people, graph_text(people->graph, name, 200));
	else
		people_put(people, "\"\"");
	if (graph_function_place(people->graph, function, &file, &line)) {
		people_put(people, ", \"file\": ");
		people_put_quoted(people, graph_atom_text(people->graph, file, 4096));
		fprintf(people->to, ", \"line\": %u", line);
	}
}

/* What stands behind "$type", before what the object refers to. */
void people_put_special(struct people *people, struct graph_value value, unsigned class_id)
{
	const char *state = graph_state(people->graph, value);

	if (graph_is_function(people->graph, value)) {
		people_put_function(people, value);
	} else if (state) {
		fprintf(people->to, ", \"state\": \"%s\"", state);
	} else if (class_id == CLASS_DATE) {
		struct look_text text = {0};

		look_add_short(&text, people->graph, value);
		people_put(people, ", \"value\": ");
		put_quoted_ascii(people,
				 text.s && strchr(text.s, ' ') ? strchr(text.s, ' ') + 1 : "");
		free(text.s);
	} else if (class_id == CLASS_REGEXP) {
		people_put(people, ", \"value\": ");
		people_put_quoted(people, graph_regexp_text(people->graph, value));
	} else if (class_id == CLASS_ERROR) {
		struct graph_value message = graph_message(people->graph, value);

		if (message.kind != GRAPH_OTHER) {
			people_put(people, ", \"message\": ");
			if (message.kind == GRAPH_OBJECT)
				people_put(people, "{\"$cut\": \"an object\"}");
			else
				people_put_primitive(people, message);
		}
	} else if (class_id == CLASS_ARRAY_BUFFER || class_id == CLASS_SHARED_ARRAY_BUFFER) {
		put_bytes(people, value);
	} else if (class_id == CLASS_DATA_VIEW) {
		fprintf(people->to, ", \"byteLength\": %llu",
			(unsigned long long)graph_byte_length(people->graph, value));
	} else if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST) {
		put_typed(people, value);
	}
}
