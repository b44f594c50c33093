// SPDX-License-Identifier: MIT
/*
 * describe.c - words for the values of a heap, see describe.h. One thread.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "describe.h"

#define SHORT_UNITS 60u /* of a string, in one line */
#define NAME_UNITS 200u

/* ---- Names and numbers */

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

/* A finite number that is no small integer: its shortest digits, in the notation of JavaScript. */
static void add_decimal(struct text_buffer *text, double number)
{
	char form[40], digits[24];
	int count = 0, point;

	/* A subnormal number may need fewer digits than 15. */
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

void describe_module(struct text_buffer *text, struct graph *graph, struct graph_value module)
{
	const char *fallback;
	struct graph_text name = graph_text(graph, graph_name(graph, module, &fallback), 4096);
	size_t start = name.count;

	while (start && name.units[start - 1] != '/')
		start--;
	if (name.count)
		text_buffer_add_units(text, name.units + start, name.count - start);
	free(name.units);
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
