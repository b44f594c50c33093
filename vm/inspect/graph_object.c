// SPDX-License-Identifier: MIT
/*
 * graph_object.c - what objects in a JavaScript heap have besides references: how many bytes they
 * take, and the numbers, times, bytes and states in them.
 */
#include "graph_heap.h"

bool graph_is_boxed(unsigned class_id)
{
	return (class_id >= CLASS_BOXED_NUMBER && class_id <= CLASS_BOXED_SYMBOL) ||
	       class_id == CLASS_BOXED_BIGINT || class_id == CLASS_DATE || class_id == CLASS_ERROR;
}

/* ---- Sizes */

static uint64_t collection_size(struct graph *graph, uint32_t state)
{
	uint64_t count = load32(graph, (uint64_t)state + MAP_COUNT);

	return graph_block_bytes(graph, load32(graph, (uint64_t)state + MAP_HASH)) +
	       count * (RECORD_BYTES + BLOCK_HEADER);
}

static uint64_t frame_size(struct graph *graph, uint64_t frame)
{
	return graph_block_bytes(graph, load32(graph, frame + FRAME_ARGUMENTS));
}

/* Bytes of an object besides its own block and its table of properties. */
static uint64_t class_size(struct graph *graph, unsigned class_id, const uint8_t *object)
{
	uint32_t data = word32(object, OBJ_DATA);
	uint64_t own;

	switch (class_id) {
	case CLASS_OBJECT:
	case CLASS_NAMESPACE:
	case CLASS_C_FUNCTION:
	case CLASS_REGEXP:
		return 0;
	case CLASS_ARRAY:
	case CLASS_ARGUMENTS:
	case CLASS_MAPPED_ARGUMENTS:
		return word16(object, OBJ_FLAGS) & OBJ_FAST_ARRAY
			       ? graph_block_bytes(graph, word32(object, ARRAY_VALUES))
			       : 0;
	case CLASS_FUNCTION:
	case CLASS_GENERATOR_FUNCTION:
	case CLASS_ASYNC_FUNCTION:
	case CLASS_ASYNC_GENERATOR_FUNCTION:
		return graph_block_bytes(graph, word32(object, FUNC_CELLS));
	default:
		break;
	}
	if (graph_is_boxed(class_id))
		return 0;
	own = class_id > 66 || class_id == 40 || class_id == 66 ||
			      class_id == CLASS_ASYNC_RESOLVE || class_id == CLASS_ASYNC_REJECT
		      ? 0
		      : graph_block_bytes(graph, data);
	if (!own)
		return 0;
	switch (class_id) {
	case CLASS_ARRAY_BUFFER:
	case CLASS_SHARED_ARRAY_BUFFER:
		return own + graph_block_bytes(graph, load32(graph, (uint64_t)data + BUFFER_DATA));
	case CLASS_MAP:
	case CLASS_SET:
	case CLASS_WEAK_MAP:
	case CLASS_WEAK_SET:
		return own + collection_size(graph, data);
	case CLASS_GENERATOR:
		return own + (load32(graph, data) < GENERATOR_DONE
				      ? frame_size(graph, (uint64_t)data + GENERATOR_FUNCTION +
								  STATE_FRAME)
				      : 0);
	case CLASS_ASYNC_GENERATOR:
		return own + (load32(graph, (uint64_t)data + 4) < GENERATOR_DONE
				      ? frame_size(graph, (uint64_t)data + GENERATOR_FUNCTION +
								  STATE_FRAME)
				      : 0);
	default:
		return own;
	}
}

static uint64_t runtime_size(struct graph *graph)
{
	static const unsigned tables[] = {RT_ATOM_HASH, RT_ATOM_ARRAY, RT_CLASS_ARRAY,
					  RT_SHAPE_HASH};
	uint64_t bytes = RT_BYTES;

	for (unsigned i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		bytes += graph_block_bytes(graph, load32(graph, graph->runtime + tables[i]));
	return bytes;
}

uint64_t graph_size(struct graph *graph, struct graph_value value)
{
	uint32_t at = (uint32_t)value.bits;
	uint8_t object[OBJ_BYTES];
	uint64_t bytes;

	if (!graph_in_heap(value))
		return 0;
	if (value.kind == GRAPH_ROOT)
		return value.bits == GRAPH_ROOT_RUNTIME ? runtime_size(graph) : 0;
	bytes = graph_block_bytes(graph, at);
	switch (value.kind) {
	case GRAPH_OBJECT:
		graph_object(graph, value, object);
		bytes += graph_block_bytes(graph, word32(object, OBJ_PROPERTIES)) +
			 class_size(graph, graph_class(graph, value), object);
		break;
	case GRAPH_STRING:
		if ((load32(graph, value.bits + STR_HASH) >> 28 & 3) == STRING_INDIRECT)
			bytes += graph_block_bytes(graph, load32(graph, value.bits + STR_TEXT));
		break;
	case GRAPH_BYTECODE:
		bytes += graph_block_bytes(graph, load32(graph, value.bits + BC_LINES_TABLE)) +
			 graph_block_bytes(graph, load32(graph, value.bits + BC_SOURCE));
		break;
	case GRAPH_ASYNC:
		if (load8(graph, value.bits + ASYNC_ACTIVE))
			bytes += frame_size(graph, value.bits + ASYNC_STATE + STATE_FRAME);
		break;
	case GRAPH_CONTEXT:
		bytes += graph_block_bytes(graph, load32(graph, value.bits + CX_CLASS_PROTO));
		break;
	case GRAPH_MODULE:
		bytes += graph_block_bytes(graph, load32(graph, value.bits + MODULE_REQUESTS)) +
			 graph_block_bytes(graph, load32(graph, value.bits + MODULE_EXPORTS)) +
			 graph_block_bytes(graph, load32(graph, value.bits + MODULE_STARS)) +
			 graph_block_bytes(graph, load32(graph, value.bits + MODULE_IMPORTS));
		break;
	default:
		break;
	}
	return bytes < graph->source.bytes ? bytes : graph->source.bytes;
}

/* ---- What some classes hold besides references */

struct graph_value graph_boxed(struct graph *graph, struct graph_value object)
{
	uint8_t fields[OBJ_BYTES];

	graph_object(graph, object, fields);
	if (!graph_is_boxed(graph_class(graph, object)))
		return (struct graph_value){GRAPH_UNDEFINED, 0};
	return graph_decode(graph, word64(fields, OBJ_DATA));
}

bool graph_is_dense(struct graph *graph, struct graph_value object)
{
	return load16(graph, object.bits + OBJ_FLAGS) & OBJ_FAST_ARRAY;
}

/* Bytes of an element, by class from CLASS_TYPED_FIRST on. */
static const uint8_t element_bytes[] = {1, 1, 1, 2, 2, 4, 4, 8, 8, 2, 4, 8};

uint32_t graph_elements(struct graph *graph, struct graph_value object)
{
	unsigned class_id = graph_class(graph, object);

	if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST)
		return (uint32_t)(graph_byte_length(graph, object) /
				  element_bytes[class_id - CLASS_TYPED_FIRST]);
	return graph_is_dense(graph, object) ? load32(graph, object.bits + ARRAY_COUNT) : 0;
}

uint64_t graph_byte_length(struct graph *graph, struct graph_value object)
{
	unsigned class_id = graph_class(graph, object);
	uint64_t data = load32(graph, object.bits + OBJ_DATA);

	if (class_id == CLASS_ARRAY_BUFFER || class_id == CLASS_SHARED_ARRAY_BUFFER)
		return load32(graph, data + BUFFER_LENGTH) & 0x7fffffff;
	if (class_id >= CLASS_TYPED_FIRST && class_id <= CLASS_TYPED_LAST)
		return (uint64_t)load32(graph, object.bits + ARRAY_COUNT) *
		       element_bytes[class_id - CLASS_TYPED_FIRST];
	if (class_id == CLASS_DATA_VIEW)
		return load32(graph, data + TYPED_LENGTH);
	return 0;
}

size_t graph_buffer_read(struct graph *graph, struct graph_value buffer, uint64_t from, void *to,
			 size_t bytes)
{
	uint64_t data = load32(graph, buffer.bits + OBJ_DATA);
	uint64_t length = graph_byte_length(graph, buffer);

	if (from >= length)
		return 0;
	if (bytes > length - from)
		bytes = length - from;
	bytes = graph_spend(graph, bytes / 64 + 1) * 64 < bytes ? 0 : bytes;
	return graph_get(graph, load32(graph, data + BUFFER_DATA) + from, to, bytes) ? bytes : 0;
}

static double half(uint16_t bits)
{
	unsigned exponent = bits >> 10 & 31, fraction = bits & 1023;
	double value;

	if (exponent == 31)
		value = fraction ? __builtin_nan("") : __builtin_inf();
	else if (exponent)
		value = __builtin_ldexp(1024 + fraction, (int)exponent - 25);
	else
		value = __builtin_ldexp(fraction, -24);
	return bits >> 15 ? -value : value;
}

struct graph_value graph_element(struct graph *graph, struct graph_value array, uint32_t index)
{
	return graph_load(graph, load32(graph, array.bits + ARRAY_VALUES) + (uint64_t)index * 8);
}

struct graph_value graph_typed_element(struct graph *graph, struct graph_value array,
				       uint32_t index)
{
	unsigned class_id = graph_class(graph, array);
	struct graph_value value = {GRAPH_NUMBER, 0};
	uint64_t at = load32(graph, array.bits + ARRAY_VALUES), bits = 0;
	unsigned bytes;
	double number;
	float single;

	if (class_id < CLASS_TYPED_FIRST || class_id > CLASS_TYPED_LAST)
		return (struct graph_value){GRAPH_OTHER, 0};
	bytes = element_bytes[class_id - CLASS_TYPED_FIRST];
	graph_get(graph, at + (uint64_t)index * bytes, &bits, bytes);
	switch (class_id - CLASS_TYPED_FIRST) {
	case 1:
		number = (int8_t)bits;
		break;
	case 3:
		number = (int16_t)bits;
		break;
	case 5:
		number = (int32_t)bits;
		break;
	case 7:
		return (struct graph_value){GRAPH_SHORT_BIGINT, bits};
	case 8:
		if (bits >> 63)
			return (struct graph_value){GRAPH_OTHER,
						    bits}; /* too large for a signed number */
		return (struct graph_value){GRAPH_SHORT_BIGINT, bits};
	case 9:
		number = half((uint16_t)bits);
		break;
	case 10:
		memcpy(&single, &bits, 4);
		number = single;
		break;
	case 11:
		memcpy(&number, &bits, 8);
		break;
	default:
		number = (double)bits;
		break;
	}
	memcpy(&value.bits, &number, 8);
	return value;
}

const char *graph_state(struct graph *graph, struct graph_value object)
{
	static const char *const promise[] = {"pending", "fulfilled", "rejected"};
	static const char *const generator[] = {"not started", "suspended", "suspended",
						"running",     "done",	    "done"};
	unsigned class_id = graph_class(graph, object);
	uint64_t data = load32(graph, object.bits + OBJ_DATA);
	uint32_t state;

	if (class_id == CLASS_PROMISE) {
		state = load32(graph, data + PROMISE_STATE);
		return state < 3 ? promise[state] : NULL;
	}
	if (class_id != CLASS_GENERATOR && class_id != CLASS_ASYNC_GENERATOR)
		return NULL;
	state = load32(graph, data + (class_id == CLASS_GENERATOR ? 0 : 4));
	return state < 6 ? generator[state] : NULL;
}
