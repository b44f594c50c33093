// SPDX-License-Identifier: GPL-2.0-only
/*
 * heap_graph.c - the objects of a program, read out of its image as data: every kind of value is what the
 * program said of it, no getter and no trap ran, all that the engine has allocated is accounted for, and a
 * heap whose words are wrong does no harm.
 */
#include "kselftest_harness.h"

#include "support.h"

#include "../../vm/inspect/heap_diff.h"
#include "../../vm/inspect/describe.h"
#include "../../vm/inspect/export_json.h"
#include "../../vm/inspect/heap_snapshot.h"
#include "../../vm/js/engine/heap_layout.h"

/* One program for all tests: run it until it has said all, let it write a last generation. */
static char *directory, *image, *said;

static void run_once(void)
{
	char *script = support_format("%s/tests/programs/every_value.js", THAW_SOURCE);
	struct program program;

	directory = support_directory();
	image = support_format("%s/every.thaw", directory);
	program = program_start(THAW("run", "--every", "0", "--image", image, script));
	if (!program_wait_for(&program, "traps\t", 60))
		support_die("every_value.js");
	kill(program.pid, SIGTERM);
	if (program_finish(&program, 60) != 143)
		support_die("every_value.js did not end");
	said = strdup(program.output);
	program_free(&program);
	free(script);
}

static void remove_image(void)
{
	support_remove(directory);
}

static int look_in(struct inspection *look, const char *path, struct thaw_error *error)
{
	struct thaw_image *opened;
	int code = thaw_image_open(path, &opened, error);

	if (!code)
		code = inspection_open(look, opened, path, 0, error);
	thaw_image_close(opened);
	return code;
}

FIXTURE(graph)
{
	struct inspection look;
	struct graph *graph;
	struct thaw_error error;
};

FIXTURE_SETUP(graph)
{
	run_once();
	ASSERT_EQ(0, look_in(&self->look, image, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
	self->graph = self->look.graph;
}

FIXTURE_TEARDOWN(graph)
{
	inspection_close(&self->look);
	free(image);
	free(said);
	remove_image();
}

/* ---- Finding things by name */

struct find {
	struct graph *graph;
	enum graph_edge_kind kind;
	const char *name;
	uint32_t index;
	struct graph_value value;
	bool found;
};

static int find_edge(void *arg, const struct graph_edge *edge)
{
	struct find *find = arg;
	bool named = find->kind == GRAPH_PROPERTY || find->kind == GRAPH_VARIABLE ||
		     find->kind == GRAPH_GETTER || find->kind == GRAPH_SETTER ||
		     find->kind == GRAPH_IMPORT;

	if (edge->kind != find->kind ||
	    (named			    ? !graph_atom_is(find->graph, edge->name, find->name)
	     : find->kind == GRAPH_INTERNAL ? strcmp(edge->text, find->name) != 0
					    : edge->name != find->index))
		return 0;
	find->value = graph_follow(find->graph, edge->to);
	find->found = true;
	return 1;
}

static struct graph_value get(struct graph *graph, struct graph_value from,
			      enum graph_edge_kind kind, const char *name)
{
	struct find find = {graph, kind, name, 0, {GRAPH_OTHER, 0}, false};

	graph_edges(graph, from, find_edge, &find);
	return find.value;
}

static struct graph_value at(struct graph *graph, struct graph_value from,
			     enum graph_edge_kind kind, uint32_t index)
{
	struct find find = {graph, kind, NULL, index, {GRAPH_OTHER, 0}, false};

	graph_edges(graph, from, find_edge, &find);
	return find.value;
}

static struct graph_value global(struct graph *graph, const char *name)
{
	return get(graph, graph_global(graph), GRAPH_PROPERTY, name);
}

static struct graph_value value(struct graph *graph, const char *name)
{
	return get(graph, global(graph, "values"), GRAPH_PROPERTY, name);
}

static bool is(struct graph *graph, struct graph_value value, const char *words)
{
	struct text_buffer text = {0};
	bool same;

	describe_value(&text, graph, value);
	same = text.s && !strcmp(text.s, words);
	if (!same)
		fprintf(stderr, "# %s is not %s\n", text.s, words);
	free(text.s);
	return same;
}

static bool same(struct graph_value a, struct graph_value b)
{
	return a.kind == b.kind && a.bits == b.bits;
}

/* ---- Values */

TEST_F(graph, every_value_is_what_the_program_said_of_it)
{
	unsigned count = 0;

	for (char *line = strtok(said, "\n"); line; line = strtok(NULL, "\n")) {
		char *words = strchr(line, '\t');

		ASSERT_NE(NULL, words);
		*words++ = '\0';
		if (!strcmp(line, "traps"))
			continue;
		EXPECT_TRUE(is(self->graph, value(self->graph, line), words))
		{
			TH_LOG("values.%s", line);
		}
		count++;
	}
	ASSERT_LT(100, count);
	ASSERT_EQ(0, graph_dropped(self->graph));
}

TEST_F(graph, nothing_of_the_program_ran)
{
	/* Looked at by every means there is; the image, opened again, says that nothing was counted. */
	const struct export_json_options options = {.all = true};
	FILE *null = fopen("/dev/null", "w");
	struct program program;

	ASSERT_EQ(0, export_json_write(&self->look, &options, null, &self->error));
	ASSERT_EQ(0, heap_snapshot_write(self->graph, null, &self->error));
	fclose(null);
	ASSERT_EQ(0, program_run(&program, NULL, THAW("export", image)));
	ASSERT_NE(NULL, strstr(program.output, "\"traps\": 0"));
	program_free(&program);
	ASSERT_NE(NULL, strstr(said, "traps\t0"));
}

TEST_F(graph, what_objects_hold)
{
	struct graph *graph = self->graph;
	struct graph_value object = value(graph, "nested"), key, cycle;

	for (size_t i = 0; i < 3; i++)
		object =
			get(graph, object, GRAPH_PROPERTY, (const char *const[]){"a", "b", "c"}[i]);
	EXPECT_TRUE(is(graph, object, "1"));

	object = value(graph, "point3");
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "x"), "5"));
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "z"), "3"));
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "#secret"), "\"private\""));
	EXPECT_TRUE(is(graph, get(graph, graph_proto(graph, object), GRAPH_PROPERTY, "constructor"),
		       "function Point3"));

	object = value(graph, "map");
	EXPECT_TRUE(is(graph, at(graph, object, GRAPH_KEY, 0), "\"k\""));
	EXPECT_TRUE(is(graph, at(graph, object, GRAPH_ENTRY, 0), "1"));
	key = at(graph, object, GRAPH_KEY, 2);
	EXPECT_TRUE(is(graph, get(graph, key, GRAPH_PROPERTY, "iAm"), "\"a key\""));
	object = value(graph, "deleted");
	EXPECT_TRUE(is(graph, at(graph, object, GRAPH_KEY, 0), "\"stays\""));
	EXPECT_TRUE(is(graph, at(graph, object, GRAPH_KEY, 1), "\"also\""));
	EXPECT_TRUE(same(key, at(graph, value(graph, "set"), GRAPH_KEY, 2)));
	EXPECT_TRUE(same(key, at(graph, value(graph, "weakSet"), GRAPH_KEY, 0)));
	EXPECT_TRUE(is(graph, at(graph, value(graph, "weakMap"), GRAPH_ENTRY, 0), "\"weak\""));
	EXPECT_TRUE(same(key, get(graph, global(graph, "weakRef"), GRAPH_INTERNAL, "(target)")));
	EXPECT_TRUE(is(graph, at(graph, global(graph, "registry"), GRAPH_SLOT, 1), "\"held\""));

	cycle = global(graph, "cycle");
	EXPECT_TRUE(same(cycle, get(graph, cycle, GRAPH_PROPERTY, "self")));
	object = get(graph, cycle, GRAPH_PROPERTY, "list");
	EXPECT_TRUE(same(cycle, at(graph, object, GRAPH_ELEMENT, 0)));

	object = value(graph, "proxy");
	object = get(graph, object, GRAPH_INTERNAL, "(target)");
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "target"), "1"));
	EXPECT_TRUE(is(graph, get(graph, value(graph, "fulfilled"), GRAPH_INTERNAL, "(result)"),
		       "\"done\""));
	EXPECT_TRUE(is(graph, get(graph, value(graph, "bound"), GRAPH_INTERNAL, "(target)"),
		       "function max"));
	EXPECT_TRUE(same(key, at(graph, value(graph, "bound"), GRAPH_SLOT, 1)));
	EXPECT_TRUE(is(graph, at(graph, global(graph, "arguments0"), GRAPH_ELEMENT, 1), "\"two\""));
	EXPECT_TRUE(is(graph, at(graph, global(graph, "arguments1"), GRAPH_ELEMENT, 0), "7"));

	object = global(graph, "accessors");
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_GETTER, "both"), "function get both"));
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_SETTER, "both"), "function set both"));
	EXPECT_EQ(GRAPH_OTHER, get(graph, object, GRAPH_PROPERTY, "both").kind);
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "computed"), "\"by symbol\""));
	EXPECT_TRUE(
		is(graph, get(graph, graph_global(graph), GRAPH_GETTER, "trap"), "function get"));
}

TEST_F(graph, numbers_in_typed_arrays)
{
	static const struct {
		const char *name, *words;
		uint32_t index;
	} elements[] = {
		{"u8", "255", 2},    {"i8", "-1", 0},	{"u8c", "255", 0},
		{"u16", "65535", 0}, {"i16", "-2", 0},	{"i32", "-3", 0},
		{"f16", "1.5", 0},   {"f32", "0.5", 0}, {"f64", "3.141592653589793", 0},
		{"f64", "-0", 1},    {"i64", "-9n", 0}, {"u32", "4294967295", 0},
	};

	for (size_t i = 0; i < sizeof(elements) / sizeof(elements[0]); i++)
		EXPECT_TRUE(
			is(self->graph,
			   graph_typed_element(self->graph, value(self->graph, elements[i].name),
					       elements[i].index),
			   elements[i].words));
	EXPECT_EQ(UINT64_MAX, graph_typed_element(self->graph, value(self->graph, "u64"), 0).bits);
	EXPECT_EQ(16, graph_byte_length(self->graph, value(self->graph, "part")));
}

TEST_F(graph, variables_of_functions_that_wait)
{
	struct graph *graph = self->graph;
	struct graph_value function = value(graph, "generator"), object;

	EXPECT_TRUE(is(graph, get(graph, function, GRAPH_VARIABLE, "first"), "11"));
	EXPECT_TRUE(is(graph, get(graph, function, GRAPH_VARIABLE, "second"), "\"twelve\""));
	object = get(graph, function, GRAPH_VARIABLE, "local");
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "of"), "\"generator\""));
	EXPECT_TRUE(is(graph, get(graph, value(graph, "later"), GRAPH_VARIABLE, "argument"),
		       "\"late\""));
	EXPECT_TRUE(is(graph, get(graph, value(graph, "closure"), GRAPH_VARIABLE, "hidden"), "41"));
}

/* ---- Roots */

struct modules {
	struct graph *graph;
	struct graph_value main, other;
};

static int find_modules(void *arg, const struct graph_edge *edge)
{
	struct modules *modules = arg;
	struct text_buffer text = {0};
	const char *fallback;

	describe_value(&text, modules->graph, graph_name(modules->graph, edge->to, &fallback));
	if (text.s && strstr(text.s, "every_value.js"))
		modules->main = edge->to;
	else if (text.s && strstr(text.s, "every_value_"))
		modules->other = edge->to;
	free(text.s);
	return 0;
}

TEST_F(graph, variables_of_modules)
{
	const struct graph_value root = {GRAPH_ROOT, GRAPH_ROOT_MODULES};
	struct graph *graph = self->graph;
	struct modules modules = {.graph = graph};
	struct graph_value object;

	graph_edges(graph, root, find_modules, &modules);
	ASSERT_EQ(GRAPH_MODULE, modules.main.kind);
	ASSERT_EQ(GRAPH_MODULE, modules.other.kind);
	EXPECT_TRUE(is(graph, get(graph, modules.main, GRAPH_VARIABLE, "moduleVariable"),
		       "\"of the module\""));
	object = get(graph, modules.main, GRAPH_VARIABLE, "moduleConstant");
	object = get(graph, object, GRAPH_PROPERTY, "deep");
	EXPECT_TRUE(is(graph, at(graph, object, GRAPH_ELEMENT, 0), "\"of the module\""));
	EXPECT_TRUE(
		is(graph, get(graph, modules.other, GRAPH_VARIABLE, "hidden"), "\"not exported\""));
	EXPECT_TRUE(same(get(graph, modules.other, GRAPH_VARIABLE, "inner"),
			 get(graph, modules.other, GRAPH_PROPERTY, "renamed")));
	object = value(graph, "namespace");
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "one"), "1"));
	EXPECT_TRUE(is(graph, get(graph, object, GRAPH_PROPERTY, "default"), "function standard"));
}

/* Every object once, from the roots; sizes add up to what the engine counts. */
struct account {
	struct graph *graph;
	struct graph_value *queue;
	uint8_t *seen; /* a bit per 8 bytes of heap, per kind class */
	size_t count, room;
	uint64_t bytes, objects, unreached;
};

static void account_add(struct account *account, struct graph_value value)
{
	uint64_t bit = value.kind == GRAPH_ROOT ? value.bits : value.bits / 8;

	if (!graph_in_heap(value) || account->seen[bit / 8] >> bit % 8 & 1)
		return;
	account->seen[bit / 8] |= (uint8_t)(1 << bit % 8);
	if (account->count == account->room) {
		account->room = account->room ? account->room * 2 : 1024;
		account->queue = realloc(account->queue, account->room * sizeof(*account->queue));
	}
	account->queue[account->count++] = value;
}

static int account_edge(void *arg, const struct graph_edge *edge)
{
	account_add(arg, edge->to);
	return 0;
}

static int account_object(void *arg, struct graph_value object)
{
	struct account *account = arg;
	uint64_t bit = object.bits / 8;

	account->objects++;
	account->unreached += !(account->seen[bit / 8] >> bit % 8 & 1);
	return 0;
}

TEST_F(graph, the_roots_reach_everything_and_sizes_add_up)
{
	struct account account = {.graph = self->graph};
	uint64_t allocated = graph_allocated(self->graph);

	account.seen = calloc(1, self->graph ? 1 << 24 : 0);
	graph_begin(self->graph);
	account_add(&account, (struct graph_value){GRAPH_ROOT, GRAPH_ROOT_ALL});
	for (size_t i = 0; i < account.count; i++) {
		account.bytes += graph_size(self->graph, account.queue[i]);
		graph_edges(self->graph, account.queue[i], account_edge, &account);
	}
	graph_objects(self->graph, account_object, &account);
	ASSERT_LT(1000, account.objects);
	ASSERT_EQ(0, account.unreached);
	ASSERT_EQ(0, graph_dropped(self->graph));
	/* The rest is what dlmalloc rounds up. */
	ASSERT_LT(allocated - allocated / 100, account.bytes);
	ASSERT_GT(allocated + allocated / 100, account.bytes);
	free(account.queue);
	free(account.seen);
}

/* ---- Heaps that are wrong */

struct copy {
	uint8_t *bytes;
	uint64_t count;
};

static int copy_read(void *arg, uint64_t offset, void *buffer, size_t bytes,
		     struct thaw_error *error)
{
	const struct copy *copy = arg;

	(void)error;
	if (offset > copy->count || bytes > copy->count - offset)
		abort(); /* the graph must not ask for it */
	memcpy(buffer, copy->bytes + offset, bytes);
	return 0;
}

static struct copy copy_of(struct inspection *look, struct thaw_error *error)
{
	struct copy copy = {.count = thaw_view_generation(look->view)->heap_bytes};

	copy.bytes = malloc(copy.count);
	if (!copy.bytes || thaw_view_read(look->view, 0, copy.bytes, copy.count, error))
		support_die("copy of a heap");
	return copy;
}

static int open_copy(struct copy *copy, struct inspection *look, struct thaw_error *error)
{
	const struct graph_source source = {copy_read, copy, copy->count, "a copy"};

	*look = (struct inspection){.path = "a copy"};
	return graph_open(&source, NULL, &look->graph, error);
}

static uint64_t random_state = 88172645463325252ull;

static uint64_t random_below(uint64_t limit)
{
	random_state ^= random_state << 13;
	random_state ^= random_state >> 7;
	random_state ^= random_state << 17;
	return (random_state >> 11) % limit;
}

/* Words of the heap that are not zero and not of the stack's block: where objects are. */
static uint32_t *live_words(const struct copy *copy, size_t *count)
{
	uint32_t *words = malloc(copy->count), word;

	*count = 0;
	for (uint64_t i = AT_RUNTIME; words && i + 4 <= copy->count; i += 4) {
		memcpy(&word, copy->bytes + i, 4);
		if (word)
			words[(*count)++] = (uint32_t)i;
	}
	return words;
}

/* Everything that looks at a heap, at one that may be anything. False: it was refused. */
static bool look_at(struct copy *copy, struct inspection *whole, bool compared, FILE *null)
{
	const struct export_json_options people = {.depth = 20, .limit = 1000};
	const struct heap_diff_options compare = {.depth = 20};
	struct thaw_error error;
	struct inspection looks[2];

	if (open_copy(copy, &looks[1], &error))
		return false;
	looks[0] = *whole;
	heap_snapshot_write(looks[1].graph, null, &error);
	export_json_write(&looks[1], &people, null, &error);
	if (compared)
		heap_diff_write(looks, &compare, null, &error);
	graph_close(looks[1].graph);
	return true;
}

static void spoil(struct copy *copy, const uint32_t *words, size_t count, unsigned changes)
{
	while (changes--) {
		uint8_t *at = copy->bytes + words[random_below(count)];
		uint32_t word;

		memcpy(&word, at, 4);
		if (random_below(3) == 0) /* another word of the heap: it leads elsewhere */
			memcpy(&word, copy->bytes + words[random_below(count)], 4);
		else if (random_below(2))
			word ^= 1u << random_below(32);
		else
			word = (uint32_t)random_below(1ull << 32);
		memcpy(at, &word, 4);
	}
}

/* How many of so many spoiled copies were looked at, and not refused. */
static unsigned look_at_spoiled(struct inspection *look, unsigned rounds)
{
	struct thaw_error error;
	struct copy copy = copy_of(look, &error);
	uint8_t *whole = malloc(copy.count);
	FILE *null = fopen("/dev/null", "w");
	unsigned read = 0;
	uint32_t *words;
	size_t count;

	words = live_words(&copy, &count);
	if (!whole || !words || !null)
		support_die("copies of a heap");
	memcpy(whole, copy.bytes, copy.count);
	for (unsigned round = 0; round < rounds; round++) {
		spoil(&copy, words, count, 1 + (unsigned)random_below(round % 10 ? 30 : 2000));
		read += look_at(&copy, look, round % 4 == 0, null);
		memcpy(copy.bytes, whole, copy.count);
	}
	fclose(null);
	free(words);
	free(whole);
	free(copy.bytes);
	return read;
}

TEST_F(graph, a_heap_with_wrong_words_does_no_harm)
{
	ASSERT_LT(100, look_at_spoiled(&self->look, 1000));
}

TEST_F(graph, a_heap_that_is_cut_short_does_no_harm)
{
	struct copy copy = copy_of(&self->look, &self->error);
	FILE *null = fopen("/dev/null", "w");
	uint64_t whole = copy.count;
	unsigned read = 0;

	for (unsigned round = 0; round < 100; round++) {
		copy.count = round < 50 ? random_below(whole) : whole - random_below(1u << 20);
		read += look_at(&copy, &self->look, true, null);
	}
	ASSERT_GT(100, read);
	copy.count = whole;
	ASSERT_TRUE(look_at(&copy, &self->look, true, null));
	fclose(null);
	free(copy.bytes);
}

/* Functions that run have their variables in frames, and frames may be anything, too. */
TEST_F(graph, a_generation_in_the_middle_of_a_turn)
{
	static const char code[] =
		"function outer(parameter) { let local = { of: 'outer' }; const up = () => local.n++; return inner(local, up, parameter); }\n"
		"function inner(given, call, last) { console.log('ready'); for (let turn = 0;; turn++) { given.turn = turn; call(); } }\n"
		"outer('from outside');\n";
	char *script = support_format("%s/middle.js", directory);
	char *path = support_format("%s/middle.thaw", directory);
	const struct graph_value root = {GRAPH_ROOT, GRAPH_ROOT_STACK};
	struct program program;
	struct inspection look;

	support_write(script, code);
	program = program_start(THAW("run", "--quiet", "--every", "0", script));
	ASSERT_TRUE(program_wait_for(&program, "ready", 60));
	kill(program.pid, SIGTERM);
	ASSERT_EQ(143, program_finish(&program, 60));
	program_free(&program);

	ASSERT_EQ(0, look_in(&look, path, &self->error));
	ASSERT_EQ(THAW_KIND_BOUND, thaw_view_generation(look.view)->kind);
	EXPECT_TRUE(
		is(look.graph, get(look.graph, root, GRAPH_VARIABLE, "last"), "\"from outside\""));
	EXPECT_TRUE(is(look.graph,
		       get(look.graph, get(look.graph, root, GRAPH_VARIABLE, "local"),
			   GRAPH_PROPERTY, "of"),
		       "\"outer\""));
	EXPECT_TRUE(is(look.graph, get(look.graph, root, GRAPH_VARIABLE, "up"), "function up"));
	EXPECT_EQ(0, graph_dropped(look.graph));
	EXPECT_LT(20, look_at_spoiled(&look, 200));
	inspection_close(&look);
	free(script);
	free(path);
}

/* What the check says when the layout is another: each of its landmarks moved. */
TEST_F(graph, an_engine_that_is_laid_out_otherwise_is_refused)
{
	struct copy copy = copy_of(&self->look, &self->error);
	uint32_t runtime, context, landmarks[8];
	struct inspection look;

	memcpy(&runtime, copy.bytes + AT_RUNTIME, 4);
	memcpy(&context, copy.bytes + AT_CONTEXT, 4);
	landmarks[0] = AT_RUNTIME;
	landmarks[1] = AT_CONTEXT;
	landmarks[2] = context + CX_RUNTIME;
	landmarks[3] = runtime + RT_OPAQUE;
	landmarks[4] = runtime + RT_ATOM_ARRAY;
	landmarks[5] = runtime + RT_CLASS_ARRAY;
	landmarks[6] = runtime + RT_GC_OBJECTS + LIST_NEXT;
	landmarks[7] = context + CX_GLOBAL_OBJECT;
	for (unsigned i = 0; i < 8; i++) {
		uint32_t word, wrong;

		memcpy(&word, copy.bytes + landmarks[i], 4);
		wrong = word + 16;
		memcpy(copy.bytes + landmarks[i], &wrong, 4);
		EXPECT_EQ(THAW_EENGINE, open_copy(&copy, &look, &self->error))
		{
			TH_LOG("landmark %u", i);
		}
		EXPECT_NE(NULL, strstr(self->error.text, "unknown to thaw export"));
		memcpy(copy.bytes + landmarks[i], &word, 4);
	}
	ASSERT_EQ(0, open_copy(&copy, &look, &self->error));
	graph_close(look.graph);
	free(copy.bytes);
}

TEST_HARNESS_MAIN
