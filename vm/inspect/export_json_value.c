// SPDX-License-Identifier: MIT
/*
 * export_json_value.c - JSON for people: what is written for one value. What JSON has as it is, the rest as an
 * object with a "$type". One thread.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "export_json_state.h"

/* ---- Writing */

void export_put(struct export *export, const char *text)
{
	fputs(text, export->to);
}

void export_new_line(struct export *export, size_t indent)
{
	export->line = indent;
	putc('\n', export->to);
	for (size_t i = 0; i < indent; i++)
		fputs("  ", export->to);
}

void export_put_text(struct export *export)
{
	export->failed = export->failed || export->text.failed;
	if (export->text.s && !export->text.failed)
		fputs(export->text.s, export->to);
	export->text.bytes = 0;
	if (export->text.s)
		export->text.s[0] = '\0';
}

void export_put_quoted(struct export *export, struct graph_text units)
{
	text_buffer_add_quoted(&export->text, units.units, units.count);
	export_put_text(export);
	free(units.units);
}

static void put_quoted_ascii(struct export *export, const char *text)
{
	uint16_t units[256];
	size_t count = 0;

	for (; *text && count < sizeof(units) / sizeof(units[0]); text++)
		units[count++] = (uint8_t)*text;
	text_buffer_add_quoted(&export->text, units, count);
	export_put_text(export);
}

/* A name as a key. The program's own that begin with $ are told from ours. */
void export_put_key(struct export *export, uint32_t atom)
{
	enum graph_atom kind = graph_atom_kind(export->graph, atom);
	struct graph_text name = graph_atom_text(export->graph, atom, 4096);
	uint16_t *units = malloc((name.count + 4) * 2);
	size_t count = 0;

	if (!units) {
		export->failed = true;
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
	export_put_quoted(export, (struct graph_text){units, count, count});
	export_put(export, ": ");
}

static void put_string(struct export *export, struct graph_value value)
{
	struct graph_text text = graph_text(export->graph, value, export->options.limit);
	uint64_t more = text.total - text.count;

	if (!text.units)
		export->failed = true;
	if (more)
		export_put(export, "{\"$type\": \"string\", \"start\": ");
	export_put_quoted(export, text);
	if (more)
		fprintf(export->to, ", \"$more\": %llu}", (unsigned long long)more);
}

static void put_number(struct export *export, double number)
{
	bool plain = isfinite(number) && !(number == 0 && signbit(number));

	if (!plain)
		text_buffer_add(&export->text, "{\"$type\": \"number\", \"value\": \"");
	describe_number(&export->text, number);
	if (!plain)
		text_buffer_add(&export->text, "\"}");
	export_put_text(export);
}

/* Everything that is not an object. */
void export_put_primitive(struct export *export, struct graph_value value)
{
	char *digits;

	switch (value.kind) {
	case GRAPH_NULL:
		export_put(export, "null");
		break;
	case GRAPH_BOOL:
		export_put(export, value.bits ? "true" : "false");
		break;
	case GRAPH_NUMBER:
		put_number(export, graph_number(value));
		break;
	case GRAPH_STRING:
	case GRAPH_ROPE:
		put_string(export, value);
		break;
	case GRAPH_SYMBOL:
		export_put(export, "{\"$type\": \"symbol\"");
		if (graph_symbol_described(export->graph, value)) {
			export_put(export, ", \"description\": ");
			put_string(export, value);
		}
		export_put(export, "}");
		break;
	case GRAPH_BIGINT:
	case GRAPH_SHORT_BIGINT:
		digits = graph_bigint_text(export->graph, value);
		fprintf(export->to, "{\"$type\": \"bigint\", \"value\": \"%s\"}",
			digits ? digits : "");
		export->failed = export->failed || !digits;
		free(digits);
		break;
	default:
		export_put(export, "{\"$type\": ");
		describe_type(&export->text, export->graph, value);
		fputc('"', export->to);
		export_put_text(export);
		export_put(export, "\"}");
		break;
	}
}

void export_put_type(struct export *export, struct graph_value value)
{
	struct text_buffer type = {0};
	uint16_t units[256];
	size_t count = 0;
	const char *fallback;
	struct graph_value name;

	export_put(export, "\"$type\": ");
	name = graph_name(export->graph, value, &fallback);
	if (value.kind == GRAPH_OBJECT && !graph_is_function(export->graph, value) &&
	    name.kind == GRAPH_STRING) {
		export_put_quoted(export, graph_text(export->graph, name, 200));
		return;
	}
	describe_type(&type, export->graph, value);
	for (const char *c = type.s; c && *c && count < 256; c++)
		units[count++] = (uint8_t)*c;
	text_buffer_add_quoted(&export->text, units, count);
	export_put_text(export);
	free(type.s);
}

static void put_bytes(struct export *export, struct graph_value buffer)
{
	uint64_t length = graph_byte_length(export->graph, buffer), at = 0;
	uint8_t bytes[4096];
	size_t got = 1;

	fprintf(export->to, ", \"byteLength\": %llu, \"hex\": \"", (unsigned long long)length);
	while (got && at < length && at < export->options.limit) {
		size_t want = export->options.limit - at < sizeof(bytes)
				      ? export->options.limit - at
				      : sizeof(bytes);

		got = graph_buffer_read(export->graph, buffer, at, bytes, want);
		for (size_t i = 0; i < got; i++)
			fprintf(export->to, "%02x", bytes[i]);
		at += got;
	}
	export_put(export, "\"");
	if (at < length)
		fprintf(export->to, ", \"$more\": %llu", (unsigned long long)(length - at));
}

static void put_typed(struct export *export, struct graph_value array)
{
	uint64_t length = graph_elements(export->graph, array);
	uint64_t shown = length < export->options.limit ? length : export->options.limit;

	shown = graph_spend(export->graph, shown);
	fprintf(export->to, ", \"length\": %llu, \"values\": [", (unsigned long long)length);
	for (uint64_t i = 0; i < shown; i++) {
		struct graph_value value = graph_typed_element(export->graph, array, (uint32_t)i);

		if (i)
			export_put(export, ", ");
		if (value.kind == GRAPH_OTHER) /* beyond what is signed */
			fprintf(export->to, "{\"$type\": \"bigint\", \"value\": \"%llu\"}",
				(unsigned long long)value.bits);
		else
			export_put_primitive(export, value);
	}
	export_put(export, "]");
	if (shown < length)
		fprintf(export->to, ", \"$more\": %llu", (unsigned long long)(length - shown));
}

void export_put_function(struct export *export, struct graph_value function)
{
	const char *fallback;
	struct graph_value name = graph_name(export->graph, function, &fallback);
	uint32_t file, line;

	export_put(export, ", \"name\": ");
	if (name.kind == GRAPH_STRING)
		export_put_quoted(export, graph_text(export->graph, name, 200));
	else
		export_put(export, "\"\"");
	if (graph_function_place(export->graph, function, &file, &line)) {
		export_put(export, ", \"file\": ");
		export_put_quoted(export, graph_atom_text(export->graph, file, 4096));
		fprintf(export->to, ", \"line\": %u", line);
	}
}

/* What stands behind "$type", before what the object refers to. */
void export_put_special(struct export *export, struct graph_value value, unsigned class_id)
{
	const char *state = graph_state(export->graph, value);

	if (graph_is_function(export->graph, value)) {
		export_put_function(export, value);
	} else if (state) {
		fprintf(export->to, ", \"state\": \"%s\"", state);
	} else if (class_id == CLASS_DATE) {
		struct text_buffer text = {0};

		describe_value(&text, export->graph, value);
		export_put(export, ", \"value\": ");
		put_quoted_ascii(export,
				 text.s && strchr(text.s, ' ') ? strchr(text.s, ' ') + 1 : "");
		free(text.s);
	} else if (class_id == CLASS_REGEXP) {
		export_put(export, ", \"value\": ");
		export_put_quoted(export, graph_regexp_text(export->graph, value));
	} else if (class_id == CLASS_ERROR) {
		struct graph_value message = graph_message(export->graph, value);

		if (message.kind != GRAPH_OTHER) {
			export_put(export, ", \"message\": ");
			if (message.kind == GRAPH_OBJECT)
				export_put(export, "{\"$cut\": \"an object\"}");
			else
				export_put_primitive(export, message);
		}
	} else if (class_id == CLASS_ARRAY_BUFFER || class_id == CLASS_SHARED_ARRAY_BUFFER) {
		put_bytes(export, value);
	} else if (class_id == CLASS_DATA_VIEW) {
		fprintf(export->to, ", \"byteLength\": %llu",
			(unsigned long long)graph_byte_length(export->graph, value));
	} else if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST) {
		put_typed(export, value);
	}
}
