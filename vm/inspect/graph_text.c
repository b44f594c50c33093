// SPDX-License-Identifier: MIT
/*
 * graph_text.c - texts in a JavaScript heap: strings, the names of properties and objects, BigInts,
 * regular expressions.
 *
 * Must never allocate as much as a length in the heap says: the caller gives a limit, and copying
 * takes steps from the budget.
 */
#include <stdio.h>
#include <stdlib.h>

#include "graph_heap.h"

#define ROPE_PLACES 256u     /* the engine balances ropes before they are 60 deep */
#define BIGINT_LIMBS_MAX 64u /* longer ones are shown in hexadecimal */
#define BIGINT_LIMBS_SHOWN 32768u
#define ATOM_IS_NUMBER 0x80000000u

/* ---- Strings */

bool graph_string_place(struct graph *graph, uint32_t string, uint64_t *at, uint32_t *units,
			bool *wide)
{
	uint8_t head[32] = {0};
	uint32_t length;
	uint64_t bytes;

	if (!graph_get(graph, string, head, STR_TEXT))
		return false;
	length = word32(head, STR_LENGTH);
	*wide = length >> 31;
	*units = length & 0x7fffffff;
	bytes = (uint64_t)*units << *wide;
	*at = (uint64_t)string + STR_TEXT;
	switch (word32(head, STR_HASH) >> 28 & 3) {
	case STRING_SLICE:
		*at = (uint64_t)load32(graph, string + STR_TEXT) + STR_TEXT +
		      load32(graph, (uint64_t)string + STR_SLICE_START);
		break;
	case STRING_INDIRECT:
		*at = load32(graph, string + STR_TEXT);
		break;
	default:
		break;
	}
	if (graph_has(graph, *at, bytes))
		return true;
	graph->dropped++;
	*units = 0;
	return false;
}

static size_t copy_string(struct graph *graph, uint32_t string, uint16_t *to, size_t room)
{
	uint8_t narrow[4096];
	uint32_t units;
	uint64_t at;
	bool wide;

	if (!graph_string_place(graph, string, &at, &units, &wide))
		return 0;
	if (units < room)
		room = units;
	/* A step per 64 bytes of text. */
	if (room >= 64)
		room = graph_spend(graph, room / 64) * 64 + room % 64;
	if (wide) {
		graph_get(graph, at, to, room * 2);
		return room;
	}
	for (size_t done = 0, part; done < room; done += part) {
		part = room - done < sizeof(narrow) ? room - done : sizeof(narrow);
		graph_get(graph, at + done, narrow, part);
		for (size_t i = 0; i < part; i++)
			to[done + i] = narrow[i];
	}
	return room;
}

/* Left to right; `places` are the right sides still to come. */
static size_t copy_rope(struct graph *graph, struct graph_value value, uint16_t *to, size_t room)
{
	struct graph_value places[ROPE_PLACES];
	unsigned depth = 0;
	size_t done = 0;

	for (;;) {
		if (value.kind == GRAPH_ROPE && depth < ROPE_PLACES && graph_spend(graph, 1)) {
			places[depth++] = graph_load(graph, value.bits + ROPE_RIGHT);
			value = graph_load(graph, value.bits + ROPE_LEFT);
			continue;
		}
		if (value.kind == GRAPH_STRING)
			done += copy_string(graph, (uint32_t)value.bits, to + done, room - done);
		else
			graph->dropped++;
		if (!depth || done == room)
			return done;
		value = places[--depth];
	}
}

uint64_t graph_length(struct graph *graph, struct graph_value string)
{
	if (string.kind == GRAPH_ROPE)
		return load32(graph, string.bits + ROPE_LENGTH);
	if (string.kind == GRAPH_STRING || string.kind == GRAPH_SYMBOL)
		return load32(graph, string.bits + STR_LENGTH) & 0x7fffffff;
	return 0;
}

bool graph_is_slice(struct graph *graph, struct graph_value string)
{
	return (load32(graph, string.bits + STR_HASH) >> 28 & 3) == STRING_SLICE;
}

struct graph_text graph_text(struct graph *graph, struct graph_value value, size_t limit)
{
	struct graph_text text = {.total = graph_length(graph, value)};

	if (value.kind != GRAPH_STRING && value.kind != GRAPH_ROPE && value.kind != GRAPH_SYMBOL)
		return text;
	if (limit > text.total)
		limit = text.total;
	if (limit > graph->source.bytes && value.kind != GRAPH_ROPE)
		limit = 0; /* no string is longer than the heap */
	text.units = malloc(limit ? limit * 2 : 2);
	if (!text.units)
		return text;
	text.count = value.kind == GRAPH_ROPE
			     ? copy_rope(graph, value, text.units, limit)
			     : copy_string(graph, (uint32_t)value.bits, text.units, limit);
	return text;
}

bool graph_symbol_described(struct graph *graph, struct graph_value symbol)
{
	/* One without a description has a wide text of no units. */
	return load32(graph, symbol.bits + STR_LENGTH) != 0x80000000u;
}

/* ---- Atoms */

uint32_t graph_atom_string(struct graph *graph, uint32_t atom)
{
	uint32_t string;

	if (!atom || atom >= graph->atom_count)
		return 0;
	string = load32(graph, graph->atoms + (uint64_t)atom * 4);
	if (string & 1 || graph_guess(graph, GRAPH_STRING, string).kind == GRAPH_OTHER)
		return 0; /* a free entry */
	return string;
}

struct graph_text graph_atom_text(struct graph *graph, uint32_t atom, size_t limit)
{
	struct graph_value value = {GRAPH_STRING, graph_atom_string(graph, atom)};
	struct graph_text text = {0};
	char digits[16];

	if (value.bits && !(atom & ATOM_IS_NUMBER))
		return graph_text(graph, value, limit);
	text.units = malloc(sizeof(digits) * 2);
	if (!text.units)
		return text;
	if (atom & ATOM_IS_NUMBER)
		text.count = (size_t)snprintf(digits, sizeof(digits), "%u", atom & ~ATOM_IS_NUMBER);
	for (size_t i = 0; i < text.count; i++)
		text.units[i] = (uint8_t)digits[i];
	text.total = text.count;
	return text;
}

enum graph_atom graph_atom_kind(struct graph *graph, uint32_t atom)
{
	uint32_t string, hash;

	if (atom & ATOM_IS_NUMBER)
		return GRAPH_ATOM_NUMBER;
	string = graph_atom_string(graph, atom);
	hash = string ? load32(graph, string + STR_HASH) : 0;
	switch (hash >> 30) {
	case ATOM_GLOBAL_SYMBOL:
		return GRAPH_ATOM_SYMBOL;
	case ATOM_SYMBOL:
		return hash & 0xfffffff ? GRAPH_ATOM_PRIVATE : GRAPH_ATOM_SYMBOL;
	default:
		return GRAPH_ATOM_STRING;
	}
}

bool graph_atom_is(struct graph *graph, uint32_t atom, const char *text)
{
	uint32_t string = graph_atom_string(graph, atom), units;
	size_t length = strlen(text);
	uint8_t bytes[64];
	uint64_t at;
	bool wide;

	return string && length <= sizeof(bytes) &&
	       graph_string_place(graph, string, &at, &units, &wide) && !wide && units == length &&
	       graph_get(graph, at, bytes, length) && !memcmp(bytes, text, length);
}

/* ---- BigInts: 32-bit limbs, lowest first, two's complement */

static char *decimal(uint32_t *limbs, unsigned count, bool negative)
{
	size_t room = (size_t)count * 10 + 3, at = room;
	char *text = malloc(room + 1);
	bool more = true;

	if (!text)
		return NULL;
	text[at] = '\0';
	while (more) {
		uint64_t rest = 0;

		more = false;
		for (unsigned i = count; i-- > 0;) {
			rest = rest << 32 | limbs[i];
			limbs[i] = (uint32_t)(rest / 10);
			rest %= 10;
			more = more || limbs[i];
		}
		text[--at] = (char)('0' + rest);
	}
	if (negative)
		text[--at] = '-';
	memmove(text, text + at, room + 1 - at);
	return text;
}

static char *hexadecimal(const uint32_t *limbs, unsigned count, bool negative)
{
	char *text = malloc((size_t)count * 8 + 4), *to = text;

	if (!text)
		return NULL;
	to += sprintf(to, "%s0x", negative ? "-" : "");
	while (count > 1 && !limbs[count - 1])
		count--;
	to += sprintf(to, "%x", limbs[count - 1]);
	for (unsigned i = count - 1; i-- > 0;)
		to += sprintf(to, "%08x", limbs[i]);
	return text;
}

char *graph_bigint_text(struct graph *graph, struct graph_value bigint)
{
	uint32_t *limbs, count = 2;
	bool negative;
	char *text;

	if (bigint.kind != GRAPH_SHORT_BIGINT)
		count = load32(graph, bigint.bits + BIGINT_LENGTH);
	if (!count || count > BIGINT_LIMBS_SHOWN || graph_spend(graph, count) < count)
		return strdup("?");
	limbs = malloc((size_t)count * 4);
	if (!limbs)
		return NULL;
	if (bigint.kind == GRAPH_SHORT_BIGINT)
		memcpy(limbs, &bigint.bits, 8);
	else
		graph_get(graph, bigint.bits + BIGINT_LIMBS, limbs, (size_t)count * 4);
	negative = limbs[count - 1] >> 31;
	for (uint32_t i = 0, carry = 1; negative && i < count; i++) {
		limbs[i] = ~limbs[i] + carry;
		carry = carry && !limbs[i];
	}
	text = count > BIGINT_LIMBS_MAX ? hexadecimal(limbs, count, negative)
					: decimal(limbs, count, negative);
	free(limbs);
	return text;
}

/* ---- Names */

struct graph_value graph_proto(struct graph *graph, struct graph_value object)
{
	uint8_t fields[OBJ_BYTES];
	struct graph_value none = {GRAPH_NULL, 0}, shape;
	uint32_t proto;

	if (!graph_object(graph, object, fields))
		return none;
	shape = graph_at(graph, GRAPH_SHAPE, word32(fields, OBJ_SHAPE));
	if (shape.kind != GRAPH_SHAPE)
		return none;
	proto = load32(graph, shape.bits + SHAPE_PROTO);
	return proto ? graph_at(graph, GRAPH_OBJECT, proto) : none;
}

struct find_own {
	uint32_t atom;
	struct graph_value value;
};

static int find_own(void *arg, const struct graph_edge *edge)
{
	struct find_own *find = arg;

	if (edge->kind != GRAPH_PROPERTY || edge->name != find->atom)
		return 0;
	find->value = edge->to;
	return 1;
}

static struct graph_value own(struct graph *graph, struct graph_value object, enum known_atom name)
{
	struct find_own find = {graph->known[name], {GRAPH_OTHER, 0}};

	if (object.kind == GRAPH_OBJECT)
		graph_edges(graph, object, find_own, &find);
	return graph_follow(graph, find.value);
}

struct graph_value graph_message(struct graph *graph, struct graph_value object)
{
	return own(graph, object, KNOWN_MESSAGE);
}

struct graph_value graph_array_length(struct graph *graph, struct graph_value array)
{
	return own(graph, array, KNOWN_LENGTH);
}

/* The name of the constructor that a prototype names. */
static struct graph_value constructor_name(struct graph *graph, struct graph_value proto)
{
	unsigned place = (unsigned)(proto.bits >> 3) % NAMES_CACHED;
	struct graph_value constructor, name = {GRAPH_UNDEFINED, 0};

	if (graph->names[place].proto == proto.bits)
		return graph->names[place].name;
	constructor = own(graph, proto, KNOWN_CONSTRUCTOR);
	if (graph_is_function(graph, constructor))
		name = own(graph, constructor, KNOWN_NAME);
	if (name.kind != GRAPH_STRING || !graph_length(graph, name))
		name.kind = GRAPH_UNDEFINED;
	graph->names[place].proto = (uint32_t)proto.bits;
	graph->names[place].name = name;
	return name;
}

static struct graph_value atom_value(struct graph *graph, uint32_t atom)
{
	uint32_t string = atom & ATOM_IS_NUMBER ? 0 : graph_atom_string(graph, atom);

	return (struct graph_value){string ? GRAPH_STRING : GRAPH_UNDEFINED, string};
}

struct graph_value graph_name(struct graph *graph, struct graph_value value, const char **fallback)
{
	struct graph_value none = {GRAPH_UNDEFINED, 0}, name, proto;
	unsigned class_id;

	*fallback = "";
	switch (value.kind) {
	case GRAPH_BYTECODE:
		return atom_value(graph, load32(graph, value.bits + BC_NAME));
	case GRAPH_MODULE:
		return atom_value(graph, load32(graph, value.bits + MODULE_NAME));
	case GRAPH_OBJECT:
		break;
	default:
		return none;
	}
	if (graph_is_function(graph, value)) {
		name = own(graph, value, KNOWN_NAME);
		return name.kind == GRAPH_STRING && graph_length(graph, name) ? name : none;
	}
	*fallback = "Object";
	class_id = graph_class(graph, value);
	proto = graph_proto(graph, value);
	if (proto.kind == GRAPH_OBJECT && class_id != CLASS_PROXY && class_id != CLASS_NAMESPACE) {
		name = constructor_name(graph, proto);
		/* The constructors of iterators and generators have no useful name. */
		if (name.kind == GRAPH_STRING && (class_id < 40 || class_id > CLASS_GENERATOR) &&
		    class_id != CLASS_ARGUMENTS && class_id != CLASS_MAPPED_ARGUMENTS &&
		    class_id != CLASS_ASYNC_GENERATOR)
			return name;
	}
	if (class_id == CLASS_PROXY)
		*fallback = "Proxy";
	else if (class_id == CLASS_NAMESPACE)
		*fallback = "Module";
	else
		return atom_value(graph,
				  load32(graph, graph->classes + (uint64_t)class_id * CLASS_BYTES +
							CLASS_NAME));
	return none;
}

struct graph_text graph_regexp_text(struct graph *graph, struct graph_value regexp)
{
	static const char letters[] = "gimsuyd?v"; /* bit by bit; 7 is not a flag */
	uint8_t fields[OBJ_BYTES];
	struct graph_value pattern, code;
	struct graph_text text = {0};
	uint16_t *units, flags = 0;
	uint64_t at;
	uint32_t length;
	bool wide;

	graph_object(graph, regexp, fields);
	pattern = graph_at(graph, GRAPH_STRING, word32(fields, REGEXP_PATTERN));
	code = graph_at(graph, GRAPH_STRING, word32(fields, REGEXP_CODE));
	if (code.kind == GRAPH_STRING &&
	    graph_string_place(graph, (uint32_t)code.bits, &at, &length, &wide))
		flags = load16(graph, at);
	if (pattern.kind == GRAPH_STRING)
		text = graph_text(graph, pattern, 65536);
	units = malloc((text.count + 16) * 2);
	if (!units) {
		free(text.units);
		return (struct graph_text){0};
	}
	units[0] = '/';
	if (text.count)
		memcpy(units + 1, text.units, text.count * 2);
	free(text.units);
	text.units = units;
	text.count++;
	units[text.count++] = '/';
	/* The order in which RegExp.prototype.flags has them. */
	for (const char *letter = "dgimsuvy"; *letter; letter++)
		if (flags >> (strchr(letters, *letter) - letters) & 1)
			units[text.count++] = (uint8_t)*letter;
	text.total = text.count;
	return text;
}

bool graph_function_place(struct graph *graph, struct graph_value function, uint32_t *file_atom,
			  uint32_t *line)
{
	uint8_t fields[OBJ_BYTES];
	struct graph_value code;
	unsigned class_id = graph_class(graph, function);

	if (!class_has_bytecode(class_id))
		return false;
	graph_object(graph, function, fields);
	code = graph_at(graph, GRAPH_BYTECODE, word32(fields, FUNC_BYTECODE));
	if (code.kind != GRAPH_BYTECODE)
		return false;
	*file_atom = load32(graph, code.bits + BC_FILE);
	*line = load32(graph, code.bits + BC_LINE);
	return graph_atom_string(graph, *file_atom) != 0;
}
