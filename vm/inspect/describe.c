// SPDX-License-Identifier: MIT
/*
 * describe.c - looking inside a generation: opening it as a graph of objects, and words for what is there.
 * See describe.h. One thread.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "failure.h"
#include "describe.h"

#define SHORT_UNITS 60u /* of a string, in one line */
#define NAME_UNITS 200u

/* ---- Opening */

static int view_read(void *arg, uint64_t offset, void *buffer, size_t bytes,
		     struct thaw_error *error)
{
	return thaw_view_read(arg, offset, buffer, bytes, error);
}

static int check_engine(const struct thaw_image *image, const char *path, struct thaw_error *error)
{
	struct thaw_image_info info;
	int code = thaw_image_info(image, false, &info, error);

	if (code < 0)
		return code;
	if (strcmp(info.engine, js_engine_identity))
		return failure(error, THAW_EENGINE,
			       "%s: an image of engine '%s', and this build can look inside those "
			       "of '%s': use the build that made it",
			       path, info.engine, js_engine_identity);
	return 0;
}

int inspection_open(struct inspection *inspection, struct thaw_image *image, const char *path,
		    uint64_t generation, struct thaw_error *error)
{
	struct graph_source source = {.read = view_read, .name = path};
	const void *state;
	size_t bytes;
	int code;

	*inspection = (struct inspection){.path = path};
	code = check_engine(image, path, error);
	if (!code)
		code = thaw_view_open(image, generation, &inspection->view, error);
	if (code)
		return code;
	inspection->generation = thaw_view_generation(inspection->view)->number;
	state = thaw_view_state(inspection->view, &bytes);
	code = js_blob_decode(state, bytes, &inspection->blob, error);
	if (!code) {
		source.arg = inspection->view;
		source.bytes = thaw_view_generation(inspection->view)->heap_bytes;
		code = graph_open(&source, &inspection->blob, &inspection->graph, error);
	}
	if (code)
		inspection_close(inspection);
	return code;
}

void inspection_close(struct inspection *inspection)
{
	graph_close(inspection->graph);
	js_blob_clear(&inspection->blob);
	thaw_view_close(inspection->view);
	*inspection = (struct inspection){0};
}

/* ---- What is the program's own */

/* What a program finds in globalThis when it starts; sorted. */
static const char *const builtins[] = {
	"AggregateError",
	"Array",
	"ArrayBuffer",
	"AsyncDisposableStack",
	"BigInt",
	"BigInt64Array",
	"BigUint64Array",
	"Boolean",
	"DOMException",
	"DataView",
	"Date",
	"DisposableStack",
	"Error",
	"EvalError",
	"FinalizationRegistry",
	"Float16Array",
	"Float32Array",
	"Float64Array",
	"Function",
	"Infinity",
	"Int16Array",
	"Int32Array",
	"Int8Array",
	"InternalError",
	"Iterator",
	"JSON",
	"Map",
	"Math",
	"NaN",
	"Number",
	"Object",
	"Promise",
	"Proxy",
	"RangeError",
	"ReferenceError",
	"Reflect",
	"RegExp",
	"Set",
	"SharedArrayBuffer",
	"String",
	"SuppressedError",
	"Symbol",
	"Symbol.toStringTag",
	"SyntaxError",
	"TextDecoder",
	"TextEncoder",
	"TypeError",
	"URIError",
	"Uint16Array",
	"Uint32Array",
	"Uint8Array",
	"Uint8ClampedArray",
	"WeakMap",
	"WeakRef",
	"WeakSet",
	"atob",
	"btoa",
	"clearImmediate",
	"clearInterval",
	"clearTimeout",
	"console",
	"crypto",
	"decodeURI",
	"decodeURIComponent",
	"encodeURI",
	"encodeURIComponent",
	"escape",
	"eval",
	"globalThis",
	"isFinite",
	"isNaN",
	"parseFloat",
	"parseInt",
	"performance",
	"queueMicrotask",
	"setImmediate",
	"setInterval",
	"setTimeout",
	"structuredClone",
	"thaw.internals",
	"undefined",
	"unescape",
};

static int compare_name(const void *key, const void *member)
{
	return strcmp(key, *(const char *const *)member);
}

bool inspection_is_builtin(struct graph *graph, uint32_t atom)
{
	struct graph_text text = graph_atom_text(graph, atom, 32);
	char name[33];

	for (size_t i = 0; i < text.count; i++)
		name[i] = (char)(text.units[i] < 128 ? text.units[i] : '?');
	name[text.count] = '\0';
	free(text.units);
	return text.total == text.count &&
	       bsearch(name, builtins, sizeof(builtins) / sizeof(builtins[0]), sizeof(builtins[0]),
		       compare_name);
}

bool inspection_is_program_module(struct graph *graph, struct graph_value module)
{
	const char *fallback;
	struct graph_text text = graph_text(graph, graph_name(graph, module, &fallback), 5);
	bool own = text.total == 4 && !memcmp(text.units, u"thaw", 8);

	free(text.units);
	return !own;
}

/* ---- Text */

static bool text_room(struct text_buffer *text, size_t more)
{
	size_t room = text->room ? text->room : 64;
	char *grown;

	if (text->failed)
		return false;
	while (room - text->bytes <= more)
		room *= 2;
	if (room == text->room)
		return true;
	grown = realloc(text->s, room);
	if (!grown) {
		text->failed = true;
		return false;
	}
	text->s = grown;
	text->room = room;
	return true;
}

static void add_bytes(struct text_buffer *text, const char *bytes, size_t count)
{
	if (!text_room(text, count))
		return;
	memcpy(text->s + text->bytes, bytes, count);
	text->bytes += count;
	text->s[text->bytes] = '\0';
}

void text_buffer_add(struct text_buffer *text, const char *more)
{
	add_bytes(text, more, strlen(more));
}

void text_buffer_printf(struct text_buffer *text, const char *format, ...)
{
	char line[256];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);
	text_buffer_add(text, line);
}

/* One character out of UTF-16; a surrogate without its other half is one too. */
static size_t next_character(const uint16_t *units, size_t count, uint32_t *character)
{
	*character = units[0];
	if (count > 1 && units[0] >> 10 == 0xd800 >> 10 && units[1] >> 10 == 0xdc00 >> 10) {
		*character = 0x10000 + ((units[0] & 0x3ffu) << 10) + (units[1] & 0x3ffu);
		return 2;
	}
	return 1;
}

static void add_character(struct text_buffer *text, uint32_t c)
{
	char bytes[4];

	if (c < 0x80) {
		bytes[0] = (char)c;
		add_bytes(text, bytes, 1);
	} else if (c < 0x800) {
		bytes[0] = (char)(0xc0 | c >> 6);
		bytes[1] = (char)(0x80 | (c & 0x3f));
		add_bytes(text, bytes, 2);
	} else if (c < 0x10000) {
		bytes[0] = (char)(0xe0 | c >> 12);
		bytes[1] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[2] = (char)(0x80 | (c & 0x3f));
		add_bytes(text, bytes, 3);
	} else {
		bytes[0] = (char)(0xf0 | c >> 18);
		bytes[1] = (char)(0x80 | (c >> 12 & 0x3f));
		bytes[2] = (char)(0x80 | (c >> 6 & 0x3f));
		bytes[3] = (char)(0x80 | (c & 0x3f));
		add_bytes(text, bytes, 4);
	}
}

static bool is_surrogate(uint32_t c)
{
	return c >= 0xd800 && c <= 0xdfff;
}

/* What a terminal obeys: a control, or what turns the direction of the text around it (thaw_escape). */
static bool is_obeyed(uint32_t c)
{
	return c < 0x20 || (c >= 0x7f && c < 0xa0) || (c >= 0x2028 && c <= 0x202e) ||
	       (c >= 0x2066 && c <= 0x2069);
}

void text_buffer_add_units(struct text_buffer *text, const uint16_t *units, size_t count)
{
	uint32_t c;

	for (size_t i = 0; i < count;) {
		i += next_character(units + i, count - i, &c);
		/* It may be printed. */
		add_character(text, is_surrogate(c) || is_obeyed(c) ? 0xfffd : c);
	}
}

void text_buffer_add_quoted(struct text_buffer *text, const uint16_t *units, size_t count)
{
	uint32_t c;

	add_bytes(text, "\"", 1);
	for (size_t i = 0; i < count;) {
		i += next_character(units + i, count - i, &c);
		if (c == '"' || c == '\\')
			text_buffer_printf(text, "\\%c", (char)c);
		else if (c == '\n')
			add_bytes(text, "\\n", 2);
		else if (is_obeyed(c) || is_surrogate(c))
			text_buffer_printf(text, "\\u%04x", c);
		else
			add_character(text, c);
	}
	add_bytes(text, "\"", 1);
}

static bool is_identifier(const uint16_t *units, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		uint16_t c = units[i];
		bool letter = (c | 32) >= 'a' && (c | 32) <= 'z' && c < 128;

		if (!letter && c != '_' && c != '$' && !(i && c >= '0' && c <= '9'))
			return false;
	}
	return count != 0;
}

void describe_property(struct text_buffer *text, struct graph *graph, uint32_t atom)
{
	struct graph_text name = graph_atom_text(graph, atom, NAME_UNITS);

	switch (graph_atom_kind(graph, atom)) {
	case GRAPH_ATOM_SYMBOL:
	case GRAPH_ATOM_NUMBER:
		text_buffer_add(text, "[");
		text_buffer_add_units(text, name.units, name.count);
		text_buffer_add(text, "]");
		break;
	case GRAPH_ATOM_PRIVATE:
		text_buffer_add(text, ".");
		text_buffer_add_units(text, name.units, name.count);
		break;
	default:
		if (is_identifier(name.units, name.count)) {
			text_buffer_add(text, ".");
			text_buffer_add_units(text, name.units, name.count);
		} else {
			text_buffer_add(text, "[");
			text_buffer_add_quoted(text, name.units, name.count);
			text_buffer_add(text, "]");
		}
		break;
	}
	free(name.units);
}

/* A finite number that is no small integer: its shortest digits, placed as JavaScript places them. */
static void add_decimal(struct text_buffer *text, double number)
{
	char form[40], digits[24];
	int count = 0, point;

	/* Below the normal numbers, fewer digits may do than 15. */
	for (int precision = fabs(number) < 2.3e-308 ? 0 : 14; precision <= 16; precision++) {
		snprintf(form, sizeof(form), "%.*e", precision, fabs(number));
		if (strtod(form, NULL) == fabs(number))
			break;
	}
	point = atoi(strchr(form, 'e') + 1) + 1;
	for (const char *c = form; *c != 'e'; c++)
		if (*c >= '0' && *c <= '9')
			digits[count++] = *c;
	while (count > 1 && digits[count - 1] == '0')
		count--;
	digits[count] = '\0';
	text_buffer_add(text, number < 0 ? "-" : "");
	if (point > 21 || point < -5)
		text_buffer_printf(text, "%c%s%se%+d", digits[0], count > 1 ? "." : "", digits + 1,
				   point - 1);
	else if (point <= 0)
		text_buffer_printf(text, "0.%.*s%s", -point, "000000", digits);
	else if (point >= count)
		text_buffer_printf(text, "%s%.*s", digits, point - count, "000000000000000000000");
	else
		text_buffer_printf(text, "%.*s.%s", point, digits, digits + point);
}

void describe_number(struct text_buffer *text, double number)
{
	if (isnan(number))
		text_buffer_add(text, "NaN");
	else if (isinf(number))
		text_buffer_add(text, number < 0 ? "-Infinity" : "Infinity");
	else if (fabs(number) < 1e15 && number == (double)(int64_t)number)
		text_buffer_printf(text, "%s%lld", signbit(number) && number == 0 ? "-" : "",
				   (long long)number);
	else
		add_decimal(text, number);
}

static void add_name(struct text_buffer *text, struct graph *graph, struct graph_value value,
		     const char *otherwise)
{
	struct graph_text name = graph_text(graph, value, NAME_UNITS);

	if (name.count)
		text_buffer_add_units(text, name.units, name.count);
	else
		text_buffer_add(text, otherwise);
	free(name.units);
}

void describe_type(struct text_buffer *text, struct graph *graph, struct graph_value value)
{
	static const char *const words[] = {
		[GRAPH_UNDEFINED] = "undefined", [GRAPH_NULL] = "null",
		[GRAPH_BOOL] = "boolean",	 [GRAPH_NUMBER] = "number",
		[GRAPH_SHORT_BIGINT] = "bigint", [GRAPH_UNINITIALIZED] = "not initialised",
		[GRAPH_LAZY] = "built-in",	 [GRAPH_OTHER] = "unknown",
		[GRAPH_STRING] = "string",	 [GRAPH_ROPE] = "string",
		[GRAPH_SYMBOL] = "symbol",	 [GRAPH_BIGINT] = "bigint",
		[GRAPH_BYTECODE] = "code",	 [GRAPH_CELL] = "variable",
		[GRAPH_SHAPE] = "shape",	 [GRAPH_ASYNC] = "call of an async function",
		[GRAPH_CONTEXT] = "context",	 [GRAPH_MODULE] = "module",
		[GRAPH_ROOT] = "root",
	};
	const char *fallback;
	struct graph_value name;

	if (value.kind != GRAPH_OBJECT) {
		text_buffer_add(text, words[value.kind]);
		return;
	}
	if (graph_is_function(graph, value)) {
		text_buffer_add(text, "function");
		return;
	}
	name = graph_name(graph, value, &fallback);
	add_name(text, graph, name, fallback);
}

struct count {
	uint64_t entries, properties;
};

static int count_edge(void *arg, const struct graph_edge *edge)
{
	struct count *count = arg;

	count->entries += edge->kind == GRAPH_KEY;
	count->properties += (edge->kind == GRAPH_PROPERTY || edge->kind == GRAPH_GETTER) &&
			     edge->enumerable;
	return 0;
}

static void add_date(struct text_buffer *text, double milliseconds)
{
	long long days, rest = (long long)milliseconds;
	long long year, month, day, era, of_era, of_year;

	if (!(fabs(milliseconds) <= 8.64e15)) {
		text_buffer_add(text, "Invalid Date");
		return;
	}
	days = rest / 86400000 - (rest % 86400000 < 0);
	rest -= days * 86400000;
	/* Days since 1 March of year 0, in eras of 400 years. */
	days += 719468;
	era = (days >= 0 ? days : days - 146096) / 146097;
	of_era = days - era * 146097;
	year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
	of_year = of_era - (365 * year + year / 4 - year / 100);
	month = (5 * of_year + 2) / 153;
	day = of_year - (153 * month + 2) / 5 + 1;
	month += month < 10 ? 3 : -9;
	year += era * 400 + (month <= 2);
	if (year >= 0 && year <= 9999)
		text_buffer_printf(text, "%04lld", year);
	else
		text_buffer_printf(text, "%c%06lld", year < 0 ? '-' : '+', llabs(year));
	text_buffer_printf(text, "-%02lld-%02lldT%02lld:%02lld:%02lld.%03lldZ", month, day,
			   rest / 3600000, rest / 60000 % 60, rest / 1000 % 60, rest % 1000);
}

static void add_object(struct text_buffer *text, struct graph *graph, struct graph_value value)
{
	unsigned class_id = graph_class(graph, value);
	struct count count = {0};
	struct graph_text units;
	const char *fallback;

	if (graph_is_function(graph, value)) {
		text_buffer_add(text, "function ");
		add_name(text, graph, graph_name(graph, value, &fallback), "(anonymous)");
		return;
	}
	if (class_id == CLASS_REGEXP) {
		units = graph_regexp_text(graph, value);
		text_buffer_add_units(text, units.units,
				      units.count < SHORT_UNITS ? units.count : SHORT_UNITS);
		free(units.units);
		return;
	}
	describe_type(text, graph, value);
	if (class_id == CLASS_DATE) {
		text_buffer_add(text, " ");
		add_date(text, graph_number(graph_boxed(graph, value)));
	} else if (class_id == CLASS_ERROR) {
		text_buffer_add(text, ": ");
		describe_value(text, graph, graph_message(graph, value));
	} else if (class_id >= CLASS_BOXED_NUMBER && class_id <= CLASS_BOXED_SYMBOL) {
		text_buffer_add(text, " ");
		describe_value(text, graph, graph_boxed(graph, value));
	} else if (class_id == CLASS_PROMISE || class_id == CLASS_GENERATOR ||
		   class_id == CLASS_ASYNC_GENERATOR) {
		const char *state = graph_state(graph, value);

		text_buffer_printf(text, " (%s)", state ? state : "?");
	} else if (class_id == CLASS_ARRAY_BUFFER || class_id == CLASS_SHARED_ARRAY_BUFFER ||
		   class_id == CLASS_DATA_VIEW) {
		text_buffer_printf(text, "(%llu bytes)",
				   (unsigned long long)graph_byte_length(graph, value));
	} else if (class_id == CLASS_ARRAY || class_id == CLASS_ARGUMENTS ||
		   class_id == CLASS_MAPPED_ARGUMENTS) {
		text_buffer_add(text, "(");
		describe_value(text, graph, graph_array_length(graph, value));
		text_buffer_add(text, ")");
	} else if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST) {
		text_buffer_printf(text, "(%u)", graph_elements(graph, value));
	} else {
		graph_edges(graph, value, count_edge, &count);
		if (class_id >= CLASS_MAP && class_id <= CLASS_WEAK_SET)
			text_buffer_printf(text, "(%llu)", (unsigned long long)count.entries);
		else if (class_id == CLASS_OBJECT)
			text_buffer_printf(text, " {%llu}", (unsigned long long)count.properties);
	}
}

void describe_value(struct text_buffer *text, struct graph *graph, struct graph_value value)
{
	struct graph_text units;
	char *digits;

	switch (value.kind) {
	case GRAPH_BOOL:
		text_buffer_add(text, value.bits ? "true" : "false");
		return;
	case GRAPH_NUMBER:
		describe_number(text, graph_number(value));
		return;
	case GRAPH_STRING:
	case GRAPH_ROPE:
		units = graph_text(graph, value, SHORT_UNITS);
		text_buffer_add_quoted(text, units.units, units.count);
		if (units.count < units.total)
			text_buffer_printf(text, "... (%llu)", (unsigned long long)units.total);
		free(units.units);
		return;
	case GRAPH_SYMBOL:
		units = graph_text(graph, value, SHORT_UNITS);
		text_buffer_add(text, "Symbol(");
		text_buffer_add_units(text, units.units, units.count);
		text_buffer_add(text, ")");
		free(units.units);
		return;
	case GRAPH_BIGINT:
	case GRAPH_SHORT_BIGINT:
		digits = graph_bigint_text(graph, value);
		if (digits && strlen(digits) > SHORT_UNITS)
			strcpy(digits + SHORT_UNITS - 3, "...");
		text_buffer_add(text, digits ? digits : "?");
		text_buffer_add(text, "n");
		free(digits);
		return;
	case GRAPH_OBJECT:
		add_object(text, graph, value);
		return;
	default:
		describe_type(text, graph, value);
		return;
	}
}
