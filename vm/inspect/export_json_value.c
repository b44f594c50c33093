// SPDX-License-Identifier: MIT
/*
 * export_json_value.c - single values: those that JSON has a form for, and all others as an object
 * with a "$type". Part of export_json.c. One thread.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export_json_state.h"

/* ---- Names and texts */

/* The units are freed. */
static void put_units(struct exporter *exporter, const char *key, struct graph_text text)
{
	json_units(&exporter->json, key, text.units, text.count);
	free(text.units);
}

void export_json_put_name(struct exporter *exporter, uint32_t atom)
{
	enum graph_atom kind = graph_atom_kind(exporter->graph, atom);
	struct graph_text name = graph_atom_text(exporter->graph, atom, 4096);
	uint16_t *units = malloc((name.count + 4) * 2);
	size_t count = 0;

	if (!units) {
		exporter->failed = true;
		free(name.units);
		return;
	}
	if (kind == GRAPH_ATOM_SYMBOL)
		units[count++] = '[';
	else if (kind == GRAPH_ATOM_STRING && name.count && name.units[0] == '$')
		units[count++] = '$'; /* our own names begin with one $ */
	if (name.count)
		memcpy(units + count, name.units, name.count * 2);
	count += name.count;
	if (kind == GRAPH_ATOM_SYMBOL)
		units[count++] = ']';
	free(name.units);
	json_name_units(&exporter->json, units, count);
	free(units);
}

void export_json_put_accessor(struct exporter *exporter, const char *type)
{
	json_open(&exporter->json, NULL, '{');
	json_text(&exporter->json, "$type", type);
	json_close(&exporter->json, '}');
}

static void put_string(struct exporter *exporter, const char *key, struct graph_value value)
{
	struct graph_text text = graph_text(exporter->graph, value, exporter->options.limit);
	struct json *json = &exporter->json;
	uint64_t more = text.total - text.count;

	if (!text.units)
		exporter->failed = true;
	if (!more) {
		put_units(exporter, key, text);
		return;
	}
	json_open(json, key, '{');
	json_text(json, "$type", "string");
	put_units(exporter, "start", text);
	json_number(json, "$more", more);
	json_close(json, '}');
}

static void put_number(struct exporter *exporter, double number)
{
	bool plain = isfinite(number) && !(number == 0 && signbit(number));
	struct text_buffer text = {0};

	describe_number(&text, number);
	exporter->failed = exporter->failed || text.failed;
	if (plain) {
		json_raw(&exporter->json, NULL, text.s ? text.s : "0");
	} else {
		json_open(&exporter->json, NULL, '{');
		json_text(&exporter->json, "$type", "number");
		json_text(&exporter->json, "value", text.s ? text.s : "");
		json_close(&exporter->json, '}');
	}
	free(text.s);
}

static void put_bigint(struct exporter *exporter, const char *digits)
{
	json_open(&exporter->json, NULL, '{');
	json_text(&exporter->json, "$type", "bigint");
	json_text(&exporter->json, "value", digits);
	json_close(&exporter->json, '}');
}

void export_json_put_primitive(struct exporter *exporter, struct graph_value value)
{
	struct json *json = &exporter->json;
	char *digits;

	switch (value.kind) {
	case GRAPH_NULL:
		json_raw(json, NULL, "null");
		break;
	case GRAPH_BOOL:
		json_bool(json, NULL, value.bits);
		break;
	case GRAPH_NUMBER:
		put_number(exporter, graph_number(value));
		break;
	case GRAPH_STRING:
	case GRAPH_ROPE:
		put_string(exporter, NULL, value);
		break;
	case GRAPH_SYMBOL:
		json_open(json, NULL, '{');
		json_text(json, "$type", "symbol");
		if (graph_symbol_described(exporter->graph, value))
			put_string(exporter, "description", value);
		json_close(json, '}');
		break;
	case GRAPH_BIGINT:
	case GRAPH_SHORT_BIGINT:
		digits = graph_bigint_text(exporter->graph, value);
		put_bigint(exporter, digits ? digits : "");
		exporter->failed = exporter->failed || !digits;
		free(digits);
		break;
	default:
		json_open(json, NULL, '{');
		export_json_put_type(exporter, value);
		json_close(json, '}');
		break;
	}
}

/* ---- Objects, before what they refer to */

void export_json_put_type(struct exporter *exporter, struct graph_value value)
{
	const char *fallback;
	struct graph_value name = graph_name(exporter->graph, value, &fallback);
	struct text_buffer type = {0};

	if (value.kind == GRAPH_OBJECT && !graph_is_function(exporter->graph, value) &&
	    name.kind == GRAPH_STRING) {
		put_units(exporter, "$type", graph_text(exporter->graph, name, 200));
		return;
	}
	describe_type(&type, exporter->graph, value);
	json_text(&exporter->json, "$type", type.s ? type.s : "");
	exporter->failed = exporter->failed || type.failed;
	free(type.s);
}

static void put_bytes(struct exporter *exporter, struct graph_value buffer)
{
	uint64_t length = graph_byte_length(exporter->graph, buffer), at = 0;
	struct json *json = &exporter->json;
	uint8_t bytes[4096];
	size_t got = 1;

	json_number(json, "byteLength", length);
	/* It may be long, and has nothing to escape: written piece by piece. */
	json_raw(json, "hex", "\"");
	while (got && at < length && at < exporter->options.limit) {
		size_t want = exporter->options.limit - at < sizeof(bytes)
				      ? exporter->options.limit - at
				      : sizeof(bytes);

		got = graph_buffer_read(exporter->graph, buffer, at, bytes, want);
		for (size_t i = 0; i < got; i++)
			fprintf(json->to, "%02x", bytes[i]);
		at += got;
	}
	putc('"', json->to);
	if (at < length)
		json_number(json, "$more", length - at);
}

static void put_typed(struct exporter *exporter, struct graph_value array)
{
	uint64_t length = graph_elements(exporter->graph, array);
	uint64_t shown = length < exporter->options.limit ? length : exporter->options.limit;
	struct json *json = &exporter->json;
	char digits[24];

	shown = graph_spend(exporter->graph, shown);
	json_number(json, "length", length);
	json_open(json, "values", '[');
	for (uint64_t i = 0; i < shown; i++) {
		struct graph_value value = graph_typed_element(exporter->graph, array, (uint32_t)i);

		if (value.kind == GRAPH_OTHER) { /* too large for a signed number */
			snprintf(digits, sizeof(digits), "%llu", (unsigned long long)value.bits);
			put_bigint(exporter, digits);
		} else {
			export_json_put_primitive(exporter, value);
		}
	}
	json_close(json, ']');
	if (shown < length)
		json_number(json, "$more", length - shown);
}

void export_json_put_function(struct exporter *exporter, struct graph_value function)
{
	const char *fallback;
	struct graph_value name = graph_name(exporter->graph, function, &fallback);
	uint32_t file, line;

	if (name.kind == GRAPH_STRING)
		put_units(exporter, "name", graph_text(exporter->graph, name, 200));
	else
		json_text(&exporter->json, "name", "");
	if (graph_function_place(exporter->graph, function, &file, &line)) {
		put_units(exporter, "file", graph_atom_text(exporter->graph, file, 4096));
		json_number(&exporter->json, "line", line);
	}
}

static void put_date(struct exporter *exporter, struct graph_value date)
{
	struct text_buffer text = {0};
	const char *blank;

	describe_value(&text, exporter->graph, date);
	blank = text.s ? strchr(text.s, ' ') : NULL; /* after the type */
	json_text(&exporter->json, "value", blank ? blank + 1 : "");
	free(text.s);
}

static void put_message(struct exporter *exporter, struct graph_value object)
{
	struct graph_value message = graph_message(exporter->graph, object);
	struct json *json = &exporter->json;

	if (message.kind == GRAPH_OTHER)
		return;
	json_name(json, "message");
	if (message.kind != GRAPH_OBJECT) {
		export_json_put_primitive(exporter, message);
		return;
	}
	json_open(json, NULL, '{');
	json_text(json, "$cut", "an object");
	json_close(json, '}');
}

void export_json_put_special(struct exporter *exporter, struct graph_value value, unsigned class_id)
{
	const char *state = graph_state(exporter->graph, value);

	if (graph_is_function(exporter->graph, value))
		export_json_put_function(exporter, value);
	else if (state)
		json_text(&exporter->json, "state", state);
	else if (class_id == CLASS_DATE)
		put_date(exporter, value);
	else if (class_id == CLASS_REGEXP)
		put_units(exporter, "value", graph_regexp_text(exporter->graph, value));
	else if (class_id == CLASS_ERROR)
		put_message(exporter, value);
	else if (class_id == CLASS_ARRAY_BUFFER || class_id == CLASS_SHARED_ARRAY_BUFFER)
		put_bytes(exporter, value);
	else if (class_id == CLASS_DATA_VIEW)
		json_number(&exporter->json, "byteLength",
			    graph_byte_length(exporter->graph, value));
	else if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST)
		put_typed(exporter, value);
}
