/* SPDX-License-Identifier: MIT */
/*
 * fuzz_heap.c - fuzz target: the objects of a heap that was made to do harm, read as data (graph.h).
 *
 * The input is a list of changes to one heap, which a program makes when the process starts: words in its
 * objects, and in what they point to, take other values or point to other objects. Then everything is
 * asked of every object, and of all that its edges lead to. Each read has to lie inside the heap, and all
 * of it has to end.
 */
#define _GNU_SOURCE
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../by_path.h"
#include "../../vm/inspect/graph.h"
#include "../../vm/policy/runtime.h"
#include "fuzz.h"

#define OBJECTS_MAX 8192u
#define OBJECTS_ASKED 100u
#define EDGES_ASKED 4000u

struct change {
	uint16_t object;
	uint8_t word;  /* of 4 bytes, in the object */
	uint8_t inner; /* the same, in what that one points to, if INNER */
	uint32_t flags;
	uint64_t value;
};
#define CHANGES_MAX 48u
enum {
	INNER = 1,
	LONG = 2,   /* 8 bytes */
	OBJECT = 4, /* the value is an object's address */
};

static uint8_t *heap;
static uint64_t heap_bytes;
static uint32_t objects[OBJECTS_MAX];
static unsigned object_count;

static int heap_read(void *arg, uint64_t offset, void *buffer, size_t bytes,
		     struct thaw_error *error)
{
	(void)arg, (void)error;
	if (offset > heap_bytes || bytes > heap_bytes - offset)
		fuzz_fail("%zu bytes are read at %#llx", bytes, (unsigned long long)offset);
	memcpy(buffer, heap + offset, bytes);
	return 0;
}

static int object_take(void *arg, struct graph_value object)
{
	(void)arg;
	objects[object_count++] = (uint32_t)object.bits;
	return object_count == OBJECTS_MAX;
}

/* In a child: a VM leaves threads and handlers behind. */
static void program_run(const char *image)
{
	static const char code[] =
		"globalThis.a = [1, 'two', { three: 3n, [Symbol('s')]: 1.5 }, [,1], new Date(4)];"
		"a.push(new Map([[a, 'm']]), new Set([1]), new WeakMap([[a, 2]]), /r/g, () => a,"
		" class A { #p = 1; get x() { return 1 } }, new Proxy(a, {}), Promise.resolve(a),"
		" new Uint8Array(8), new Float64Array(2), Object(1), function* () { yield a },"
		" new Error('e'), 'rope'.repeat(99) + a.length, 123456789012345678901234567890n,"
		" new WeakRef(a), (async () => { await 1 })(), a.push.bind(a), new ArrayBuffer(9));"
		"a.length";
	struct runtime_options options = {.image = image, .quiet = true};
	struct runtime *runtime;
	struct thaw_error error;
	struct runtime_answer answer;

	if (runtime_open(&options, &runtime, &error))
		fuzz_fail("%s", error.text);
	if (runtime_eval(runtime, code, strlen(code), "make", &answer))
		fuzz_fail("%s", answer.text);
	free(answer.text);
	if (runtime_checkpoint(runtime, THAW_REASON_REQUEST, NULL))
		fuzz_fail("no checkpoint of the program");
	runtime_close(runtime);
	_exit(0);
}

static struct graph *heap_open(struct thaw_error *error)
{
	const struct graph_source source = {heap_read, NULL, heap_bytes, "the heap"};
	struct graph *graph;

	return graph_open(&source, NULL, &graph, error) ? NULL : graph;
}

static void heap_need(void)
{
	struct thaw_error error;
	struct thaw_view *view;
	struct graph *graph;
	char path[128];
	int status;
	pid_t child;

	if (heap)
		return;
	snprintf(path, sizeof(path), "%s", fuzz_path("heap"));
	child = fork();
	if (!child)
		program_run(path);
	if (waitpid(child, &status, 0) != child || status)
		fuzz_fail("no program");
	if (path_view(path, 0, &view, &error))
		fuzz_fail("%s", error.text);
	heap_bytes = thaw_view_generation(view)->heap_bytes;
	heap = malloc(heap_bytes);
	if (!heap || thaw_view_read(view, 0, heap, heap_bytes, &error))
		fuzz_fail("no heap");
	thaw_view_close(view);
	graph = heap_open(&error);
	if (!graph)
		fuzz_fail("%s", error.text);
	graph_begin(graph);
	graph_objects(graph, object_take, NULL);
	graph_close(graph);
	if (!object_count)
		fuzz_fail("the heap has no objects");
}

/* ---- Asking */

struct asking {
	struct graph *graph;
	unsigned edges, objects;
};

static void ask_text(struct graph *graph, struct graph_value value)
{
	free(graph_text(graph, value, 100).units);
	graph_length(graph, value);
	graph_is_slice(graph, value);
	graph_symbol_described(graph, value);
	free(graph_bigint_text(graph, value));
}

static int ask_edge(void *arg, const struct graph_edge *edge)
{
	struct asking *asking = arg;
	struct graph *graph = asking->graph;

	if (edge->kind == GRAPH_PROPERTY || edge->kind == GRAPH_VARIABLE) {
		free(graph_atom_text(graph, edge->name, 100).units);
		graph_atom_kind(graph, edge->name);
		graph_atom_is(graph, edge->name, "length");
	}
	graph_follow(graph, edge->to);
	graph_size(graph, edge->to);
	graph_class(graph, edge->to);
	if (edge->to.kind == GRAPH_STRING || edge->to.kind == GRAPH_ROPE ||
	    edge->to.kind == GRAPH_SYMBOL || edge->to.kind == GRAPH_BIGINT)
		ask_text(graph, edge->to);
	return ++asking->edges >= EDGES_ASKED;
}

static int ask_object(void *arg, struct graph_value object)
{
	struct asking *asking = arg;
	struct graph *graph = asking->graph;
	const char *fallback;
	uint32_t file, line, elements;
	uint8_t bytes[64];

	graph_edges(graph, object, ask_edge, asking);
	graph_name(graph, object, &fallback);
	graph_message(graph, object);
	graph_proto(graph, object);
	graph_boxed(graph, object);
	elements = graph_elements(graph, object);
	graph_array_length(graph, object);
	if (graph_is_dense(graph, object) && elements)
		graph_element(graph, object, elements - 1);
	if (graph_class(graph, object) >= CLASS_TYPED_FIRST &&
	    graph_class(graph, object) <= CLASS_TYPED_LAST && elements)
		graph_typed_element(graph, object, elements - 1);
	graph_byte_length(graph, object);
	if (graph_class(graph, object) == CLASS_ARRAY_BUFFER)
		graph_buffer_read(graph, object, 0, bytes, sizeof(bytes));
	graph_state(graph, object);
	free(graph_regexp_text(graph, object).units);
	graph_function_place(graph, object, &file, &line);
	return ++asking->objects >= OBJECTS_ASKED;
}

static void heap_ask(void)
{
	struct thaw_error error;
	struct asking asking = {.graph = heap_open(&error)};

	if (!asking.graph)
		return;
	graph_begin(asking.graph);
	graph_objects(asking.graph, ask_object, &asking);
	for (unsigned root = 0; root < GRAPH_ROOTS; root++)
		graph_edges(asking.graph, (struct graph_value){GRAPH_ROOT, root}, ask_edge,
			    &asking);
	/* The last ones, which are the program's own. */
	for (unsigned i = 0; i < 64 && i < object_count; i++)
		ask_object(&asking,
			   (struct graph_value){GRAPH_OBJECT, objects[object_count - 1 - i]});
	graph_allocated(asking.graph);
	graph_close(asking.graph);
}

/* ---- Changes of the heap */

static bool heap_change(const struct change *change, uint64_t *at, uint64_t *old)
{
	uint64_t value = change->value;
	uint32_t pointer;

	*at = objects[change->object % object_count] + 4u * (change->word % 32);
	if (change->flags & INNER) {
		if (*at + 8 > heap_bytes)
			return false;
		memcpy(&pointer, heap + *at, 4);
		*at = (uint64_t)(pointer & ~3u) + 4u * change->inner;
	}
	if (*at + 8 > heap_bytes)
		return false;
	memcpy(old, heap + *at, 8);
	if (change->flags & OBJECT)
		value = objects[value % object_count];
	memcpy(heap + *at, &value, change->flags & LONG ? 8 : 4);
	return true;
}

static void one(const uint8_t *input, size_t size)
{
	unsigned count = (unsigned)(size / sizeof(struct change)), done = 0;
	uint64_t at[CHANGES_MAX], old[CHANGES_MAX];

	heap_need();
	for (unsigned i = 0; i < count && i < CHANGES_MAX; i++) {
		struct change change;

		memcpy(&change, input + i * sizeof(change), sizeof(change));
		done += heap_change(&change, &at[done], &old[done]);
	}
	heap_ask();
	while (done--)
		memcpy(heap + at[done], &old[done], 8);
}

static size_t seed(unsigned number, uint8_t *bytes)
{
	const struct change change = {.object = (uint16_t)(number * 7), .word = 4, .flags = OBJECT};

	memcpy(bytes, &change, sizeof(change));
	return number < 4 ? sizeof(change) : 0;
}

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	size_t count = size / sizeof(struct change);
	struct change change = {.word = (uint8_t)fuzz_below(&random, 12),
				.inner = (uint8_t)fuzz_below(&random, 24),
				.flags = (uint32_t)fuzz_below(&random, 8)};
	const uint64_t values[] = {0,
				   1,
				   8,
				   ~0ull,
				   heap_bytes,
				   heap_bytes - 8,
				   0x7fffffff,
				   0x80000000,
				   fuzz_below(&random, heap_bytes),
				   fuzz_below(&random, heap_bytes) & ~7ull,
				   fuzz_below(&random, 70),
				   1ull << fuzz_below(&random, 64),
				   fuzz_next(&random)};

	heap_need();
	/* The program's own are the last. */
	change.object = (uint16_t)(fuzz_below(&random, 2)
					   ? object_count - 1 - fuzz_below(&random, 80)
					   : fuzz_below(&random, object_count));
	change.value = values[fuzz_below(&random, sizeof(values) / sizeof(values[0]))];
	if ((!count || fuzz_below(&random, 2)) && count < CHANGES_MAX &&
	    (count + 1) * sizeof(change) <= max)
		count++;
	if (!count)
		return size;
	memcpy(bytes + fuzz_below(&random, count) * sizeof(change), &change, sizeof(change));
	if (count * sizeof(change) > size) /* the new one is always written */
		memcpy(bytes + (count - 1) * sizeof(change), &change, sizeof(change));
	return count * sizeof(change);
}

const struct fuzz_target fuzz_heap = {
	.name = "heap",
	.max_bytes = CHANGES_MAX * sizeof(struct change),
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
