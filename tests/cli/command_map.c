// SPDX-License-Identifier: GPL-2.0-only
/*
 * thaw map draws a heap as it is: well-formed, in bounds, its numbers add up; thaw inspect tells of the
 * working set, the names and how scattered it all lies.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <ctype.h>

#include "by_path.h"
#include "image/store.h"
#include "support.h"
#include "thaw.h"

#define PAGE 4096u
#define EXIT_USAGE 9
#define EXIT_DAMAGED 65
#define EXIT_NO_INPUT 66
#define EXIT_IO 74

FIXTURE(map)
{
	char *directory, *path, *picture;
	char *svg; /* what was drawn */
	struct image *image;
	struct program program;
	struct thaw_error error;
};
FIXTURE_SETUP(map)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	self->picture = support_format("%s/map.svg", self->directory);
}
FIXTURE_TEARDOWN(map)
{
	program_free(&self->program);
	image_close(self->image);
	free(self->svg);
	free(self->picture);
	free(self->path);
	support_remove(self->directory);
}

/* ---- Images ---- */

static int image_begin(FIXTURE_DATA(map) * self)
{
	struct image_options options = {
		.path = self->path, .create = true, .engine = "test", .page_bytes = PAGE};

	return image_open(&options, &self->image, NULL, &self->error);
}

/*
 * One generation: of each page a letter. '.': as it is; 'z': zero; any other: contents that follow from
 * it. `set`: pages of the working set, ended by UINT64_MAX; NULL: none.
 */
static int generation(FIXTURE_DATA(map) * self, const char *pages, const uint64_t *set)
{
	struct thaw_generation made = {.heap_bytes = strlen(pages) * PAGE};
	struct commit *commit;
	unsigned count = 0;
	int code = commit_begin(self->image, &commit, &self->error);

	if (code)
		return code;
	for (uint64_t page = 0; !code && pages[page]; page++) {
		char bytes[PAGE];
		bool stored;

		memset(bytes, pages[page] == 'z' ? 0 : pages[page], sizeof(bytes));
		if (pages[page] != '.')
			code = commit_page(commit, page, bytes, &stored, &self->error);
	}
	while (set && set[count] != UINT64_MAX)
		count++;
	if (!code && count)
		code = commit_working_set(commit, set, count, 1, &self->error);
	if (!code)
		code = commit_finish(commit, &made, NULL, 0, &self->error);
	if (code)
		commit_abort(commit);
	return code;
}

static bool kernel_tells_ranges(void)
{
	const struct thaw_capability *list;
	int count = thaw_capabilities(&list);

	for (int i = 0; i < count; i++)
		if (!strcmp(list[i].name, "pagemap-scan"))
			return list[i].present;
	return false;
}

/* ---- What came out ---- */

static char *read_file(const char *path)
{
	char *text = calloc(1, 1u << 20);
	FILE *file = fopen(path, "r");

	if (!text || !file || fread(text, 1, (1u << 20) - 1, file) == 0)
		support_die(path);
	fclose(file);
	return text;
}

static unsigned times(const char *text, const char *what)
{
	unsigned count = 0;

	while ((text = strstr(text, what))) {
		count++;
		text += strlen(what);
	}
	return count;
}

/* A tag or an entity at `at`: where it ends; NULL: it is not well-formed. */
static const char *entity_end(const char *at)
{
	static const char *const known[] = {"&lt;", "&gt;", "&amp;", "&quot;"};

	for (unsigned i = 0; i < 4; i++)
		if (!strncmp(at, known[i], strlen(known[i])))
			return at + strlen(known[i]);
	return NULL;
}

static const char *tag_end(const char *at, bool *closes)
{
	for (at++; isalnum((unsigned char)*at); at++)
		;
	for (;;) { /* attributes */
		*closes = at[0] == '/';
		if (at[0] == '>' || (*closes && at[1] == '>'))
			return at + 1 + *closes;
		if (*at++ != ' ')
			return NULL;
		while (isalnum((unsigned char)*at) || *at == ':')
			at++;
		if (strncmp(at, "=\"", 2))
			return NULL;
		at += 2 + strcspn(at + 2, "\"<&");
		if (*at++ != '"')
			return NULL;
	}
}

/* Only what map_draw.c writes: strict enough to notice whatever it should not have. */
static bool well_formed(const char *text)
{
	const char *open[16];
	unsigned depth = 0;

	if (strncmp(text, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<svg ", 44))
		return false;
	text += 39;
	while (*text) {
		const char *end = text + 1;
		bool closes = false;

		if (*text == '&') {
			end = entity_end(text);
		} else if (*text == '<' && text[1] == '/') {
			size_t bytes = strcspn(text + 2, ">");

			if (!depth || strncmp(open[--depth], text + 2, bytes) ||
			    isalnum((unsigned char)open[depth][bytes]))
				return false;
			end = text + 3 + bytes;
		} else if (*text == '<') {
			end = tag_end(text, &closes);
			if (depth == 16)
				return false;
			if (!closes)
				open[depth++] = text + 1;
		} else if ((unsigned char)*text < 0x20 && *text != '\n') {
			return false;
		}
		if (!end)
			return false;
		text = end;
	}
	return !depth;
}

/* Every path and rectangle, in the picture. */
static bool in_bounds(const char *svg)
{
	unsigned width, height;
	const char *at = strstr(svg, "<svg ");

	if (sscanf(strstr(at, " width="), " width=\"%u\" height=\"%u\"", &width, &height) != 2)
		return false;
	for (at = svg; (at = strstr(at, " d=\"M")); at++) {
		int x, y, end, step;
		char way;

		if (sscanf(at, " d=\"M%d %d%n", &x, &y, &end) != 2)
			return false;
		for (at += end; sscanf(at, "%c%d%n", &way, &step, &end) == 2 && way != 'z';
		     at += end) {
			x += way == 'h' ? step : 0;
			y += way == 'v' ? step : 0;
			if ((way != 'h' && way != 'v') || x < 0 || y < 0 || x > (int)width ||
			    y > (int)height)
				return false;
		}
	}
	return true;
}

static uint64_t number(const char *json, const char *key)
{
	char *quoted = support_format("\"%s\":", key);
	const char *at = strstr(json, quoted);
	uint64_t value = at ? strtoull(at + strlen(quoted), NULL, 10) : UINT64_MAX;

	free(quoted);
	return value;
}

#define RUN(wanted, ...)                                                                \
	do {                                                                            \
		program_free(&self->program);                                           \
		ASSERT_EQ(wanted, program_run(&self->program, NULL, THAW(__VA_ARGS__))) \
		{                                                                       \
			TH_LOG("%s%s", self->program.output, self->program.errors);     \
		}                                                                       \
	} while (0)

/* Draw it, and look at what is drawn; then the same as numbers, in program.output. */
#define DRAW(wanted, ...)                                                       \
	do {                                                                    \
		RUN(wanted, "map", __VA_ARGS__, "-o", self->picture);           \
		free(self->svg);                                                \
		self->svg = read_file(self->picture);                           \
		EXPECT_TRUE(well_formed(self->svg));                            \
		EXPECT_TRUE(in_bounds(self->svg));                              \
		EXPECT_LT(strlen(self->svg), 300000);                           \
		EXPECT_EQ(NULL, strstr(self->svg, "<script"));                  \
		EXPECT_EQ(1, times(self->svg, "://")); /* the name space */     \
		RUN(wanted, "map", "--json", __VA_ARGS__);                      \
		EXPECT_EQ(number(self->program.output, "pages"),                \
			  number(self->program.output, "freePages") +           \
				  number(self->program.output, "storedPages") + \
				  number(self->program.output, "dirtyPages") +  \
				  number(self->program.output, "lostPages"));   \
	} while (0)

#define EXPECT_COUNTS(free_, stored_, dirty_, set_)                               \
	do {                                                                      \
		EXPECT_EQ(free_, number(self->program.output, "freePages"));      \
		EXPECT_EQ(stored_, number(self->program.output, "storedPages"));  \
		EXPECT_EQ(dirty_, number(self->program.output, "dirtyPages"));    \
		EXPECT_EQ(set_, number(self->program.output, "workingSetPages")); \
	} while (0)

TEST_F(map, counts_what_there_is)
{
	static const uint64_t set[] = {17, 3, UINT64_MAX};

	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "aaaaaaaa........aaaaaaaaaaaaaaaa", NULL));
	/* Two changed, one zero now, one stored again as it was; and the heap has grown. */
	ASSERT_EQ(0, generation(self, ".bb.z..a........................................", set));
	image_close(self->image);
	self->image = NULL;
	DRAW(0, self->path);
	EXPECT_EQ(48, number(self->program.output, "pages"));
	EXPECT_EQ(2, number(self->program.output, "generation"));
	EXPECT_COUNTS(24, 21, 3, 32);
	EXPECT_EQ(0, number(self->program.output, "lostPages"));
	EXPECT_EQ(0, number(self->program.output, "holder"));
	EXPECT_EQ(UINT64_MAX, number(self->program.output, "residentPages"));
	EXPECT_NE(NULL, strstr(self->svg, "resident: not running"));
	EXPECT_NE(NULL, strstr(self->svg, "heap.thaw, generation 2, the newest"));
	EXPECT_EQ(0, times(self->svg, "\"lost\""));
	/* One column is a page, 48 units of 768: dirty are two, and one. */
	EXPECT_NE(NULL, strstr(self->svg, "One column: 4 KiB (1 page); one row: 64 KiB"));
	EXPECT_EQ(1, times(self->svg, "class=\"dirty\" d=\"M144 "));
	EXPECT_NE(NULL, strstr(self->svg, "v-32h96v32h48v-32h48v32z"));
	/* Two whole rows, of which the second was touched first. */
	EXPECT_EQ(1, times(self->svg, "class=\"set\" d=\"M96 "));
	EXPECT_EQ(1, times(self->svg, "class=\"set s1\" d=\"M96 "));
	EXPECT_GT(strstr(self->svg, "class=\"set\" d="), strstr(self->svg, "class=\"set s1\" d="));

	DRAW(0, "--at", "1", self->path);
	EXPECT_EQ(32, number(self->program.output, "pages"));
	EXPECT_COUNTS(8, 0, 24, 32);
	EXPECT_EQ(NULL, strstr(self->svg, "the newest"));
	ASSERT_EQ(0, thaw_image_tag(self->path, "first/one", 1, 0, &self->error));
	DRAW(0, "--at", "first/one", self->path);
	EXPECT_EQ(1, number(self->program.output, "generation"));
	EXPECT_NE(NULL, strstr(self->svg, "generation 1 (first/one)"));
	/* To standard output: the same picture but for its age. */
	RUN(0, "map", self->path);
	EXPECT_TRUE(well_formed(self->program.output));
	EXPECT_NE(NULL, strstr(self->program.output, "generation 2"));
}

static const char orders[] =
	"class Order { constructor(i) { this.id = i; this.text = 'order number ' + i } }\n"
	"const orders = new Map()\n"
	"globalThis['<index>'] = []\n"
	"for (let i = 0; i < 6000; i++) {\n"
	"	orders.set(i, new Order(i))\n"
	"	if (i % 3 === 0) globalThis['<index>'].push({ order: orders.get(i) })\n"
	"}\n"
	"const picture = new Uint8Array(2 << 20)\n"
	"setTimeout(function pending() { console.log(picture.length) }, 0)\n";

/* Objects count for the variable with the shortest way to them; a row has what begins in it. */
TEST_F(map, tells_what_a_heap_consists_of)
{
	char *script = support_format("%s/heap.js", self->directory), *why;

	why = support_kernel_lacks(self->directory);
	if (why)
		SKIP(return, "%s", why);
	support_write(script, orders);
	RUN(0, "run", script);
	DRAW(0, self->path);
	EXPECT_NE(
		NULL,
		strstr(self->program.output,
		       "{\"type\":\"ArrayBuffer\",\"holder\":\"picture (heap.js)\",\"objects\":1,"))
	TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL,
		  strstr(self->program.output,
			 "{\"type\":\"Order\",\"holder\":\"orders (heap.js)\",\"objects\":4000,"))
	TH_LOG("%s", self->program.output);
	EXPECT_NE(NULL, strstr(self->program.output,
			       "{\"type\":\"Order\",\"holder\":\"<index>\",\"objects\":2000,"));
	EXPECT_NE(NULL, strstr(self->svg, ">ArrayBuffer</text>"));
	EXPECT_NE(NULL, strstr(self->svg, ">orders (heap.js)</text>"));
	EXPECT_NE(NULL, strstr(self->svg, " of Order: orders (heap.js)"));
	EXPECT_NE(NULL, strstr(self->svg, ": &lt;index&gt;"));
	/* Without it, as quickly as ever. */
	RUN(0, "map", "--pages", self->path);
	EXPECT_EQ(NULL, strstr(self->program.output, "What it consists of"));
	RUN(0, "map", "--pages", "--json", self->path);
	EXPECT_EQ(NULL, strstr(self->program.output, "\"contents\""));
	free(script);
}

TEST_F(map, of_heaps_of_any_size)
{
	char pages[2000];

	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "", NULL)); /* no page at all */
	DRAW(0, self->path);
	EXPECT_EQ(0, number(self->program.output, "pages"));
	for (unsigned count = 1; count < sizeof(pages) - 1; count += 1 + count * 2 / 3) {
		memset(pages, 'a' + (int)(count % 20), count);
		pages[count] = 0;
		ASSERT_EQ(0, generation(self, pages, NULL));
		DRAW(0, self->path);
		EXPECT_EQ(count, number(self->program.output, "pages"));
		EXPECT_COUNTS(0, 0, count, 0);
	}
}

/* An image may claim anything. */
TEST_F(map, of_a_heap_that_cannot_be)
{
	static uint64_t set[STORE_WORKING_SET_MAX];
	struct thaw_generation made = {.heap_bytes = UINT64_MAX, .time_ns = UINT64_MAX};
	struct commit *commit;

	for (unsigned i = 0; i < STORE_WORKING_SET_MAX; i++)
		set[i] = i * 0x9e3779b97f4a7c15ull;
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "aaaa", NULL));
	ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
	ASSERT_EQ(0, commit_working_set(commit, set, STORE_WORKING_SET_MAX, 1, &self->error));
	ASSERT_EQ(0, commit_finish(commit, &made, NULL, 0, &self->error));
	DRAW(0, self->path);
	EXPECT_COUNTS(UINT64_MAX / PAGE - 4, 4, 0, number(self->program.output, "workingSetPages"));
}

/* As restless a heap as can be drawn. */
TEST_F(map, stays_small)
{
	enum { PAGES = 20400 };
	static char pages[PAGES + 1];
	static uint64_t set[PAGES / 16 + 2];
	uint64_t random = 88172645463325252ull;
	unsigned count = 0;

	for (unsigned i = 0; i < PAGES; i++) {
		random ^= random << 13;
		random ^= random >> 7;
		random ^= random << 17;
		pages[i] = random % 2 ? '.' : 'a';
		if (i % 16 == 0 && (random >> 8) % 2)
			set[count++] = i;
	}
	set[count] = UINT64_MAX;
	for (unsigned i = count - 1; i > 0; i--) {
		unsigned j = (unsigned)((random = random * 6364136223846793005u + 1) >> 33) % i;
		uint64_t other = set[i];

		set[i] = set[j];
		set[j] = other;
	}
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, pages, NULL));
	for (unsigned i = 0; i < PAGES; i++)
		pages[i] = i % 5 % 2 ? '.' : 'b';
	ASSERT_EQ(0, generation(self, pages, set));
	DRAW(0, self->path);
	EXPECT_EQ(count * 16, number(self->program.output, "workingSetPages"));
	EXPECT_GT(times(self->svg, "class=\"dirty\" d="), 20);
	TH_LOG("%zu bytes", strlen(self->svg));
}

TEST_F(map, names_any_file)
{
	char *other =
		support_format("%s/a<b>&\"c\xff\xc3\xa9\x01\xed\xa0\x80'.thaw", self->directory);

	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "aaaa", NULL));
	ASSERT_EQ(0, rename(self->path, other));
	DRAW(0, other);
	EXPECT_NE(NULL, strstr(self->svg, "a&lt;b&gt;&amp;\"c?\xc3\xa9\?\?\?\?'.thaw"));
	free(other);
}

TEST_F(map, shows_what_is_lost)
{
	uint64_t leaf;
	char pages[601];

	memset(pages, 'a', 600);
	pages[600] = 0;
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, pages, NULL));
	image_close(self->image);
	self->image = NULL;
	/* The second leaf: behind all pages, 536 bytes after the first. */
	leaf = (2 + 600) * PAGE + 536;
	support_flip(self->path, leaf + 40, 1);
	DRAW(EXIT_DAMAGED, self->path);
	EXPECT_EQ(16, number(self->program.output, "lostPages"));
	EXPECT_EQ(584, number(self->program.output, "dirtyPages"));
	EXPECT_NE(NULL, strstr(self->program.errors, "the index of pages 16-31"));
	EXPECT_EQ(1, times(self->svg, "class=\"lost\" d="));
}

TEST_F(map, refuses_what_would_do_harm)
{
	char *before, *after;

	RUN(EXIT_NO_INPUT, "map", self->path);
	support_write(self->path, "no image");
	RUN(76, "map", self->path);
	unlink(self->path);
	ASSERT_EQ(0, image_begin(self));
	RUN(EXIT_NO_INPUT, "map", self->path);
	EXPECT_NE(NULL, strstr(self->program.errors, "holds no generation yet"));
	ASSERT_EQ(0, generation(self, "aaaa", NULL));
	RUN(EXIT_NO_INPUT, "map", "--at", "7", self->path);
	RUN(EXIT_NO_INPUT, "map", "--at", "nobody", self->path);
	before = read_file(self->path);
	RUN(EXIT_USAGE, "map", "-o", self->path, self->path);
	after = read_file(self->path);
	EXPECT_EQ(0, memcmp(before, after, support_size(self->path)));
	free(before);
	free(after);
	RUN(EXIT_IO, "map", "-o", self->directory, self->path);
	RUN(EXIT_IO, "map", "-o", "/dev/full", self->path);
	RUN(0, "map", "-o", "-", self->path);
	EXPECT_NE(NULL, strstr(self->program.output, "<svg"));
}

/* The heap is open here: what it touched is what is resident. */
TEST_F(map, shows_what_is_resident)
{
	struct thaw_options options = {
		.image = self->path, .flags = THAW_CREATE, .max_bytes = 4u << 20, .engine = "test"};
	struct thaw_result result;
	struct thaw_status status;
	struct thaw *heap;
	char *text;

	if (thaw_open(&options, &heap, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(heap, 2u << 20));
	memset(thaw_base(heap), 7, 2u << 20);
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, NULL, 0, &result));
	DRAW(0, self->path);
	thaw_status(heap, &status);
	if (!strcmp(status.delivery, "sigsegv") || !strcmp(status.delivery, "eager")) {
		/* Nothing in /proc tells a heap from other memory then. */
		EXPECT_NE(NULL, strstr(self->svg, "unknown: its process shows no heap"));
		thaw_close(heap);
		return;
	}
	EXPECT_EQ(512, number(self->program.output, "residentPages"));
	thaw_close(heap);
	ASSERT_EQ(0, thaw_open(&options, &heap, &self->error));
	DRAW(0, self->path);
	EXPECT_EQ(0, number(self->program.output, "residentPages"));
	for (unsigned page = 30; page < 512; page += 160) /* one of each of four clusters */
		ASSERT_EQ(7, *((volatile char *)thaw_base(heap) + page * PAGE));
	DRAW(0, self->path);
	/* The others of a cluster may come with the one that was touched. */
	EXPECT_LE(4, number(self->program.output, "residentPages"));
	EXPECT_GE(64, number(self->program.output, "residentPages"));
	EXPECT_EQ(getpid(), number(self->program.output, "holder"));
	text = support_format("resident: in the memory of process %d", getpid());
	EXPECT_NE(NULL, strstr(self->svg, text));
	EXPECT_EQ(4, times(self->svg, "class=\"resident") - 1); /* and the legend */
	free(text);
	thaw_close(heap);
}

/* Where a page of the image is several of the kernel's, it is there if some of it is. */
TEST_F(map, shows_what_is_resident_of_larger_pages)
{
	struct thaw_options options = {
		.image = self->path, .flags = THAW_CREATE, .max_bytes = 4u << 20, .engine = "test"};
	struct thaw_status status;
	struct thaw *heap;
	int code;

	setenv("THAW_PAGE_BYTES", "65536", 1);
	code = thaw_open(&options, &heap, &self->error);
	unsetenv("THAW_PAGE_BYTES");
	if (code == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_EQ(0, code);
	thaw_status(heap, &status);
	if (!strcmp(status.tracker, "mprotect")) {
		thaw_close(heap);
		SKIP(return, "without userfaultfd, the heap of another process is not to be found");
	}
	ASSERT_EQ(0, thaw_resize(heap, 2u << 20));
	for (size_t page = 0; page < 32; page += 5)
		((volatile char *)thaw_base(heap))[page * 65536 + 3 * PAGE] = 7;
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	DRAW(0, self->path);
	EXPECT_EQ(32, number(self->program.output, "pages"));
	EXPECT_EQ(7, number(self->program.output, "residentPages"));
	EXPECT_EQ(7, number(self->program.output, "dirtyPages"));
	thaw_close(heap);
	ASSERT_EQ(0, thaw_open(&options, &heap, &self->error));
	for (size_t page = 0; page < 32; page += 10)
		ASSERT_EQ(7, ((volatile char *)thaw_base(heap))[page * 65536 + 3 * PAGE]);
	DRAW(0, self->path);
	EXPECT_EQ(4, number(self->program.output, "residentPages"));
	thaw_close(heap);
}

TEST_F(map, and_inspect_tells_of_sets_names_and_pieces)
{
	static const uint64_t set[] = {40, 3, UINT64_MAX};
	struct thaw_image_info info;

	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", NULL));
	image_close(self->image);
	self->image = NULL;
	RUN(0, "inspect", self->path);
	EXPECT_NE(NULL, strstr(self->program.output, "192 KiB in 1 piece of the file"));
	EXPECT_NE(NULL, strstr(self->program.output, "not recorded yet"));
	EXPECT_EQ(NULL, strstr(self->program.output, "\nnames "));
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "...b....b......................................b", set));
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_image_tag(self->path, "v1", 1, 0, &self->error));
	ASSERT_EQ(0, thaw_image_tag(self->path, "v2", 2, 0, &self->error));
	RUN(0, "inspect", self->path);
	/* a, b, a, b, a, b: what was written lies elsewhere, together. */
	EXPECT_NE(NULL,
		  strstr(self->program.output, "192 KiB in 6 pieces of the file: 32.0 per MiB"));
	EXPECT_NE(NULL, strstr(self->program.output, "128 KiB in 2 clusters"));
	EXPECT_NE(NULL, strstr(self->program.output, "v1 (1), v2 (2)"));
	RUN(0, "inspect", "--json", self->path);
	ASSERT_EQ(0, path_info(self->path, true, &info, &self->error));
	EXPECT_EQ(48, number(self->program.output, "newestPages"));
	EXPECT_EQ(6, number(self->program.output, "newestPieces"));
	EXPECT_EQ(info.unused_bytes, number(self->program.output, "unusedBytes"));
	EXPECT_EQ(info.unused_pieces, number(self->program.output, "unusedPieces"));
	EXPECT_EQ(info.unused_small_bytes, number(self->program.output, "unusedSmallBytes"));
	EXPECT_EQ(2, number(self->program.output, "clusters"));
	EXPECT_NE(NULL,
		  strstr(self->program.output, "\"names\":[{\"name\":\"v1\",\"generation\":1},"
					       "{\"name\":\"v2\",\"generation\":2}]"));
	ASSERT_EQ(0, thaw_image_tag(self->path, "also", 2, 0, &self->error));
	RUN(0, "map", "--json", self->path);
	EXPECT_NE(NULL, strstr(self->program.output, "\"names\":[\"v2\",\"also\"]"));
}

/* What is not there costs nothing: of so much, an entry for each page would be read for minutes. */
TEST_F(map, of_a_heap_that_is_nearly_empty)
{
	const uint64_t bytes = (uint64_t)16 << 40;
	struct thaw_options options = {
		.image = self->path, .flags = THAW_CREATE, .max_bytes = bytes, .engine = "test"};
	struct thaw_status status;
	struct thaw *heap;

	if (!kernel_tells_ranges())
		SKIP(return, "this kernel tells of each page, before Linux 6.7");
	if (thaw_open(&options, &heap, &self->error))
		SKIP(return, "%s", self->error.text);
	if (thaw_resize(heap, bytes))
		SKIP(return, "16 TiB of memory cannot be promised here");
	for (uint64_t i = 0; i < 17; i++)
		((volatile char *)thaw_base(heap))[bytes / 17 * i / PAGE * PAGE] = 1;
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_TIMER, NULL, 0, NULL));
	DRAW(0, self->path);
	EXPECT_EQ(bytes / PAGE, number(self->program.output, "pages"));
	EXPECT_EQ(17, number(self->program.output, "dirtyPages"));
	thaw_status(heap, &status);
	if (!strcmp(status.tracker, "wp-async")) /* others make pages beside those */
		EXPECT_EQ(17, number(self->program.output, "residentPages"));
	thaw_close(heap);
}

/* An image of 3 pages and one of 40,000 take turns under the name, and each map is of one of them. */
TEST_F(map, of_a_name_that_changes)
{
	char *large = support_format("%s/large.thaw", self->directory);
	char *pages = calloc(1, 40001);
	unsigned seen[2] = {0};
	pid_t child;

	memset(pages, '.', 40000);
	pages[39999] = 'a';
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, pages, NULL));
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, rename(self->path, large));
	ASSERT_EQ(0, image_begin(self));
	ASSERT_EQ(0, generation(self, "abc", NULL));
	image_close(self->image);
	self->image = NULL;
	child = fork();
	if (!child)
		for (;;)
			if (renameat2(AT_FDCWD, self->path, AT_FDCWD, large, RENAME_EXCHANGE))
				_exit(1);
	for (unsigned i = 0; i < 40 || !seen[0] || !seen[1]; i++) {
		bool is_large;

		ASSERT_EQ(0, waitpid(child, NULL, WNOHANG));
		RUN(0, "map", "--json", self->path);
		is_large = number(self->program.output, "pages") == 40000;
		seen[is_large]++;
		EXPECT_EQ(is_large ? 40000 : 3, number(self->program.output, "pages"));
		EXPECT_EQ(is_large ? 39999 : 0, number(self->program.output, "freePages"));
		EXPECT_EQ(is_large ? 1 : 3, number(self->program.output, "dirtyPages"));
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	free(pages);
	free(large);
}

TEST_HARNESS_MAIN
