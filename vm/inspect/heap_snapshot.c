// SPDX-License-Identifier: MIT
/*
 * heap_snapshot.c - a generation as Chrome's .heapsnapshot: the file that the Memory panel of
 * DevTools loads.
 *
 * A snapshot says how many nodes and edges it has before it lists them, so the heap is walked three
 * times: to find and count, to write the nodes, to write the edges. Kept in memory: 9 bytes per
 * node, a table to find them by address, and one entry for each different text. What is read never
 * changes, and each walk has the same budget, so all three find the same.
 *
 * Nodes are numbered in the order in which they are found from the roots. Objects that the
 * collector tracks but no root reaches, mostly the engine's own stacks, are children of the root
 * "(engine)".
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/failure.h"
#include "number_map.h"
#include "heap_snapshot.h"
#include "base/json.h"

#define TEXT_UNITS 1024u /* of a string, as V8 does */
#define NODE_FIELDS 7u

/* The order of the arrays in `snapshot.meta` below. */
enum node_type {
	NODE_HIDDEN,
	NODE_ARRAY,
	NODE_STRING,
	NODE_OBJECT,
	NODE_CODE,
	NODE_CLOSURE,
	NODE_REGEXP,
	NODE_NUMBER,
	NODE_NATIVE,
	NODE_SYNTHETIC,
	NODE_CONCATENATED,
	NODE_SLICED,
	NODE_SYMBOL,
	NODE_BIGINT,
	NODE_SHAPE,
};
enum edge_type {
	EDGE_CONTEXT,
	EDGE_ELEMENT,
	EDGE_PROPERTY,
	EDGE_INTERNAL,
	EDGE_HIDDEN,
	EDGE_SHORTCUT,
	EDGE_WEAK
};

static const char meta[] =
	"{\"node_fields\":[\"type\",\"name\",\"id\",\"self_size\",\"edge_count\",\"trace_node_id\","
	"\"detachedness\"],\n\"node_types\":[[\"hidden\",\"array\",\"string\",\"object\",\"code\","
	"\"closure\",\"regexp\",\"number\",\"native\",\"synthetic\",\"concatenated string\","
	"\"sliced string\",\"symbol\",\"bigint\",\"object shape\"],\"string\",\"number\",\"number\","
	"\"number\",\"number\",\"number\"],\n\"edge_fields\":[\"type\",\"name_or_index\",\"to_node\"],\n"
	"\"edge_types\":[[\"context\",\"element\",\"property\",\"internal\",\"hidden\",\"shortcut\","
	"\"weak\"],\"string_or_number\",\"node\"],\n\"trace_function_info_fields\":[\"function_id\","
	"\"name\",\"script_name\",\"script_id\",\"line\",\"column\"],\n\"trace_node_fields\":[\"id\","
	"\"function_info_index\",\"count\",\"size\",\"children\"],\n\"sample_fields\":[\"timestamp_us\","
	"\"last_assigned_id\"],\n\"location_fields\":[\"object_index\",\"script_id\",\"line\","
	"\"column\"]}";

/* The source of a text in the table of strings. */
enum text_source {
	TEXT_STATIC, /* index into `statics` */
	TEXT_ATOM,
	TEXT_GETTER, /* "get name" */
	TEXT_SETTER,
	TEXT_VALUE, /* the text of a string, a rope, a symbol or a BigInt, at this address */
	TEXT_REGEXP,
};

struct writer {
	struct graph *graph;
	FILE *to;
	struct number_map nodes; /* kind and address */
	uint32_t *edge_counts;
	size_t counted, counts_room;
	uint32_t *rest; /* nodes that no root reaches */
	size_t rest_count, rest_room;
	struct number_map texts;
	const char *statics[64];
	unsigned static_count;
	uint64_t edges;
	uint32_t left;	  /* edges of the current node that are not written yet */
	bool failed;	  /* no memory */
	struct json json; /* the strings */
};

/* ---- Numbers */

static uint32_t number_of(struct writer *writer, struct number_map *numbers, uint64_t key)
{
	uint32_t number = number_map_add(numbers, key);

	writer->failed = writer->failed || number == NUMBER_NONE;
	return number;
}

static uint64_t node_key(struct graph_value value)
{
	return (uint64_t)value.kind << 56 | value.bits;
}

static struct graph_value node_value(const struct writer *writer, size_t node)
{
	uint64_t key = writer->nodes.keys[node];

	return (struct graph_value){(enum graph_kind)(key >> 56), key & (~0ull >> 8)};
}

/* ---- Finding */

static int count_edge(void *arg, const struct graph_edge *edge)
{
	struct writer *writer = arg;

	if (!graph_in_heap(edge->to))
		return 0;
	number_of(writer, &writer->nodes, node_key(edge->to));
	writer->left++;
	return writer->failed;
}

static bool push32(uint32_t **array, size_t *count, size_t *room, uint32_t value)
{
	uint32_t *grown = array_grow(*array, *count, room, sizeof(*grown));

	if (!grown)
		return false;
	*array = grown;
	(*array)[(*count)++] = value;
	return true;
}

/* Count the edges of every node that was found, and find the nodes that they lead to. */
static void count_pending(struct writer *writer)
{
	while (writer->counted < writer->nodes.count && !writer->failed) {
		writer->left = 0;
		graph_edges(writer->graph, node_value(writer, writer->counted), count_edge, writer);
		writer->edges += writer->left;
		writer->failed = writer->failed || !push32(&writer->edge_counts, &writer->counted,
							   &writer->counts_room, writer->left);
	}
}

static int find_rest(void *arg, struct graph_value object)
{
	struct writer *writer = arg;
	size_t before = writer->nodes.count;
	uint32_t node = number_of(writer, &writer->nodes, node_key(object));

	if (writer->nodes.count == before)
		return writer->failed;
	writer->failed = writer->failed ||
			 !push32(&writer->rest, &writer->rest_count, &writer->rest_room, node);
	count_pending(writer);
	return writer->failed;
}

static void find_all(struct writer *writer)
{
	uint32_t engine;

	graph_begin(writer->graph);
	number_of(writer, &writer->nodes,
		  node_key((struct graph_value){GRAPH_ROOT, GRAPH_ROOT_ALL}));
	count_pending(writer);
	graph_objects(writer->graph, find_rest, writer);
	engine = number_map_find(&writer->nodes,
				 node_key((struct graph_value){GRAPH_ROOT, GRAPH_ROOT_REST}));
	if (writer->failed || engine == NUMBER_NONE)
		return;
	writer->edge_counts[engine] = (uint32_t)writer->rest_count;
	writer->edges += writer->rest_count;
}

/* ---- Writing */

static void write_number(FILE *to, uint64_t number)
{
	char digits[20];
	unsigned at = sizeof(digits);

	do
		digits[--at] = (char)('0' + number % 10);
	while (number /= 10);
	fwrite_unlocked(digits + at, 1, sizeof(digits) - at, to);
}

/* number_map.h expects keys that are as far apart as addresses. */
static uint32_t text_number(struct writer *writer, enum text_source source, uint64_t what)
{
	if (source < TEXT_VALUE)
		what *= 16;
	return number_of(writer, &writer->texts, (uint64_t)source << 56 | what);
}

static uint32_t static_text(struct writer *writer, const char *text)
{
	unsigned i = 0;

	while (i < writer->static_count && strcmp(writer->statics[i], text))
		i++;
	if (i == sizeof(writer->statics) / sizeof(writer->statics[0]))
		i = 0;
	else if (i == writer->static_count)
		writer->statics[writer->static_count++] = text;
	return text_number(writer, TEXT_STATIC, i);
}

static uint32_t value_text(struct writer *writer, struct graph_value value)
{
	return text_number(writer, TEXT_VALUE,
			   (uint64_t)(value.kind - GRAPH_HEAP) << 40 | value.bits);
}

static enum node_type node_type(struct writer *writer, struct graph_value value)
{
	switch (value.kind) {
	case GRAPH_OBJECT:
		if (graph_is_function(writer->graph, value))
			return NODE_CLOSURE;
		return graph_class(writer->graph, value) == CLASS_REGEXP ? NODE_REGEXP
									 : NODE_OBJECT;
	case GRAPH_STRING:
		return graph_is_slice(writer->graph, value) ? NODE_SLICED : NODE_STRING;
	case GRAPH_ROPE:
		return NODE_CONCATENATED;
	case GRAPH_SYMBOL:
		return NODE_SYMBOL;
	case GRAPH_BIGINT:
		return NODE_BIGINT;
	case GRAPH_BYTECODE:
		return NODE_CODE;
	case GRAPH_SHAPE:
		return NODE_SHAPE;
	case GRAPH_ROOT:
		return NODE_SYNTHETIC;
	case GRAPH_CELL:
		return NODE_HIDDEN;
	default:
		return NODE_NATIVE;
	}
}

static uint32_t node_name(struct writer *writer, struct graph_value value)
{
	const char *fallback;
	struct graph_value name;

	switch (value.kind) {
	case GRAPH_STRING:
	case GRAPH_ROPE:
	case GRAPH_SYMBOL:
	case GRAPH_BIGINT:
		return value_text(writer, value);
	case GRAPH_ROOT:
		return static_text(writer, graph_root_name((enum graph_root)value.bits));
	case GRAPH_CELL:
		return static_text(writer, "(variable)");
	case GRAPH_SHAPE:
		return static_text(writer, "(shape)");
	case GRAPH_ASYNC:
		return static_text(writer, "(call of an async function)");
	case GRAPH_CONTEXT:
		return static_text(writer, "(context)");
	default:
		break;
	}
	if (graph_class(writer->graph, value) == CLASS_REGEXP)
		return text_number(writer, TEXT_REGEXP, value.bits);
	name = graph_name(writer->graph, value, &fallback);
	return name.kind == GRAPH_STRING ? value_text(writer, name) : static_text(writer, fallback);
}

/*
 * An object that is not moved has the same id in every snapshot of one image, so that DevTools can
 * compare two of them. Blocks have at least 16 bytes, so address plus kind is unique.
 */
static uint64_t node_id(struct graph_value value)
{
	if (value.kind == GRAPH_ROOT)
		return 2 * value.bits + 1;
	return value.bits + (value.kind - GRAPH_HEAP);
}

static void write_node(struct writer *writer, size_t node)
{
	struct graph_value value = node_value(writer, node);
	uint64_t fields[] = {node_type(writer, value),
			     node_name(writer, value),
			     node_id(value),
			     graph_size(writer->graph, value),
			     writer->edge_counts[node],
			     0,
			     0};

	for (unsigned i = 0; i < NODE_FIELDS; i++) {
		if (node || i)
			putc_unlocked(',', writer->to);
		write_number(writer->to, fields[i]);
	}
	putc_unlocked('\n', writer->to);
}

static uint32_t edge_name(struct writer *writer, const struct graph_edge *edge, bool root,
			  enum edge_type *type)
{
	*type = EDGE_ELEMENT;
	switch ((enum graph_edge_kind)edge->kind) {
	case GRAPH_PROPERTY:
		*type = EDGE_PROPERTY;
		if (graph_atom_kind(writer->graph, edge->name) == GRAPH_ATOM_NUMBER) {
			*type = EDGE_ELEMENT;
			return edge->name & 0x7fffffff;
		}
		return text_number(writer, TEXT_ATOM, edge->name);
	case GRAPH_GETTER:
		*type = EDGE_PROPERTY;
		return text_number(writer, TEXT_GETTER, edge->name);
	case GRAPH_SETTER:
		*type = EDGE_PROPERTY;
		return text_number(writer, TEXT_SETTER, edge->name);
	case GRAPH_ELEMENT:
		return edge->name;
	case GRAPH_KEY:
		if (!edge->weak)
			return 2 * edge->name;
		*type = EDGE_WEAK;
		return static_text(writer, "(key)");
	case GRAPH_ENTRY:
		return 2 * edge->name + 1;
	case GRAPH_VARIABLE:
	case GRAPH_IMPORT:
		*type = EDGE_CONTEXT;
		return text_number(writer, TEXT_ATOM, edge->name);
	case GRAPH_INTERNAL:
		*type = edge->weak				   ? EDGE_WEAK
			: root || !strcmp(edge->text, "__proto__") ? EDGE_PROPERTY
								   : EDGE_INTERNAL;
		return static_text(writer, edge->text);
	default:
		break;
	}
	if (edge->weak) {
		*type = EDGE_WEAK;
		return static_text(writer, "(weak)");
	}
	*type = root ? EDGE_ELEMENT : EDGE_HIDDEN;
	return edge->name;
}

struct from {
	struct writer *writer;
	bool root, first;
};

static void write_edge(struct from *from, enum edge_type type, uint32_t name, uint32_t to)
{
	FILE *file = from->writer->to;

	if (!from->first)
		putc_unlocked(',', file);
	from->first = false;
	write_number(file, type);
	putc_unlocked(',', file);
	write_number(file, name);
	putc_unlocked(',', file);
	write_number(file, (uint64_t)to * NODE_FIELDS);
	putc_unlocked('\n', file);
}

static int write_reference(void *arg, const struct graph_edge *edge)
{
	struct from *from = arg;
	struct writer *writer = from->writer;
	enum edge_type type;
	uint32_t name, to;

	if (!graph_in_heap(edge->to))
		return 0;
	if (!writer->left)
		return 1; /* the budget ended here, too, when the edges were counted */
	to = number_map_find(&writer->nodes, node_key(edge->to));
	name = edge_name(writer, edge, from->root, &type);
	write_edge(from, type, name, to == NUMBER_NONE ? 0 : to);
	writer->left--;
	return writer->failed;
}

static void write_edges(struct writer *writer)
{
	struct from from = {.writer = writer, .first = true};

	for (size_t node = 0; node < writer->nodes.count && !writer->failed; node++) {
		struct graph_value value = node_value(writer, node);

		writer->left = writer->edge_counts[node];
		from.root = value.kind == GRAPH_ROOT;
		if (from.root && value.bits == GRAPH_ROOT_REST) {
			for (size_t i = 0; i < writer->rest_count; i++)
				write_edge(&from, EDGE_ELEMENT, (uint32_t)i, writer->rest[i]);
			continue;
		}
		graph_edges(writer->graph, value, write_reference, &from);
		while (writer->left) { /* cannot happen unless the heap changed */
			write_edge(&from, EDGE_HIDDEN, 0, 0);
			writer->left--;
		}
	}
}

static void write_string(struct writer *writer, uint64_t key)
{
	static const uint16_t prefix[2][4] = {{'g', 'e', 't', ' '}, {'s', 'e', 't', ' '}};
	enum text_source source = (enum text_source)(key >> 56);
	uint64_t what = (key & (~0ull >> 8)) / (source < TEXT_VALUE ? 16 : 1);
	struct graph *graph = writer->graph;
	struct graph_value value = {(enum graph_kind)(GRAPH_HEAP + (what >> 40)),
				    what & 0xffffffff};
	struct graph_text text = {0};
	uint16_t units[TEXT_UNITS + 16];
	size_t count = 0;
	bool symbol = false;

	switch (source) {
	case TEXT_STATIC:
		for (const char *c = writer->statics[what]; *c; c++)
			units[count++] = (uint8_t)*c;
		break;
	case TEXT_GETTER:
	case TEXT_SETTER:
		memcpy(units, prefix[source == TEXT_SETTER], 8);
		count = 4;
		/* fall through */
	case TEXT_ATOM:
		symbol = graph_atom_kind(graph, (uint32_t)what) == GRAPH_ATOM_SYMBOL;
		text = graph_atom_text(graph, (uint32_t)what, TEXT_UNITS);
		break;
	case TEXT_REGEXP:
		text = graph_regexp_text(graph, (struct graph_value){GRAPH_OBJECT, what});
		if (text.count > TEXT_UNITS)
			text.count = TEXT_UNITS;
		break;
	default:
		if (value.kind == GRAPH_BIGINT) {
			char *digits = graph_bigint_text(graph, value);

			for (const char *c = digits; c && *c && count < TEXT_UNITS; c++)
				units[count++] = (uint8_t)*c;
			free(digits);
		} else {
			text = graph_text(graph, value, TEXT_UNITS);
		}
		break;
	}
	if (symbol)
		units[count++] = '<';
	if (text.count)
		memcpy(units + count, text.units, text.count * 2);
	count += text.count;
	if (symbol)
		units[count++] = '>';
	free(text.units);
	json_units(&writer->json, NULL, units, count);
}

static void write_all(struct writer *writer)
{
	FILE *to = writer->to;

	/* Number 0 is the empty text: DevTools takes 0 for no name. */
	static_text(writer, "");
	fprintf(to,
		"{\"snapshot\":{\"meta\":%s,\n\"node_count\":%zu,\"edge_count\":%llu,"
		"\"trace_function_count\":0,\"extra_native_bytes\":0},\n\"nodes\":[",
		meta, writer->nodes.count, (unsigned long long)writer->edges);
	graph_begin(writer->graph);
	for (size_t node = 0; node < writer->nodes.count && !writer->failed; node++)
		write_node(writer, node);
	fputs("],\n\"edges\":[", to);
	graph_begin(writer->graph);
	write_edges(writer);
	fputs("],\n\"trace_function_infos\":[],\n\"trace_tree\":[],\n\"samples\":[],\n"
	      "\"locations\":[],\n\"strings\":[",
	      to);
	graph_begin(writer->graph);
	for (size_t i = 0; i < writer->texts.count && !writer->failed; i++) {
		if (i)
			json_line(&writer->json, 0);
		write_string(writer, writer->texts.keys[i]);
	}
	fputs("]}\n", to);
}

int heap_snapshot_write(struct graph *graph, FILE *to, struct thaw_error *error)
{
	struct writer writer = {.graph = graph, .to = to, .json = {.to = to}};
	int code;

	find_all(&writer);
	if (!writer.failed && !graph_failed(graph, NULL))
		write_all(&writer);
	code = graph_failed(graph, error);
	if (!code && writer.failed)
		code = failure(error, -ENOMEM, "not enough memory for a snapshot of %zu objects",
			       writer.nodes.count);
	number_map_free(&writer.nodes);
	number_map_free(&writer.texts);
	free(writer.edge_counts);
	free(writer.rest);
	return code;
}
