// SPDX-License-Identifier: GPL-2.0-only
/*
 * What a generation's heap is made of, and in which pages two of them differ, against a model: for
 * every generation and every pair of them, over histories that grow, branch and go back to old contents.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "image_model.h"
#include "image/store.h"
#include "support.h"

#define HEAP_PAGES 3000u /* three levels; the last cluster is not whole */
#define HISTORY 12u
#define UNIT_PAGES 16u

struct heap {
	uint64_t number;
	unsigned pages;
	uint32_t version[HEAP_PAGES + UNIT_PAGES];
	uint64_t birth[HEAP_PAGES + UNIT_PAGES]; /* 0: never stored */
};

static struct heap heaps[HISTORY], now;
static unsigned heap_count;
static uint64_t set[HEAP_PAGES];
static unsigned set_count;
static struct thaw_error error, fallback;

/* A generation in which some pages change, some of them to zero, some back to what they were once. */
static int commit_some(struct image *image, unsigned changes)
{
	struct thaw_generation generation = {.time_ns = 1};
	uint64_t number = image->next;
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	if (code)
		return code;
	now.pages += random_below(3) * UNIT_PAGES * random_below(40);
	if (now.pages > HEAP_PAGES)
		now.pages = HEAP_PAGES / UNIT_PAGES * UNIT_PAGES;
	if (!now.pages)
		now.pages = UNIT_PAGES;
	for (unsigned i = 0; !code && i < changes; i++) {
		unsigned first = random_below(now.pages), count = 1 + random_below(9);
		uint32_t version = random_below(4);

		for (unsigned page = first; !code && page < first + count && page < now.pages;
		     page++) {
			uint64_t bytes[PAGE / 8];
			bool stored;

			model_fill(bytes, page, version);
			code = commit_page(commit, page, bytes, &stored, &error);
			if (stored != (now.version[page] != version))
				code = -ERANGE;
			if (stored)
				now.birth[page] = number;
			now.version[page] = version;
		}
	}
	if (!code && !random_below(4)) {
		set_count = 0;
		for (unsigned i = random_below(30); i < now.pages; i += 1 + random_below(200))
			set[set_count++] = i;
		for (unsigned i = set_count; i > 1; i--) {
			unsigned j = random_below(i);
			uint64_t other = set[j];

			set[j] = set[i - 1];
			set[i - 1] = other;
		}
		if (set_count)
			code = commit_working_set(commit, set, set_count, 1, &error);
	}
	generation.heap_bytes = (uint64_t)now.pages * PAGE;
	if (!code)
		code = commit_finish(commit, &generation, NULL, 0, &error);
	if (code) {
		commit_abort(commit);
		return code;
	}
	now.number = generation.number;
	if (heap_count == HISTORY)
		memmove(heaps, heaps + 1, --heap_count * sizeof(heaps[0]));
	heaps[heap_count++] = now;
	return 0;
}

static uint32_t rank_of(uint64_t page)
{
	for (unsigned i = 0; i < set_count; i++)
		if (set[i] / 16 == page / 16)
			return i;
	return THAW_RANK_NONE;
}

/* ---- What a heap is made of */

struct check {
	const struct heap *heap;
	int fd;
	uint64_t next;
	struct thaw_page_run last;
	uint64_t wrong; /* the first page that is not as it should be; UINT64_MAX: none */
	uint64_t lost;
};

static bool page_is(const struct check *check, uint64_t page, const struct thaw_page_run *run)
{
	uint64_t bytes[PAGE / 8], wanted[PAGE / 8];
	enum thaw_page_kind kind = check->heap->version[page] ? THAW_PAGE_STORED
				   : check->heap->birth[page] ? THAW_PAGE_ZERO
							      : THAW_PAGE_ABSENT;

	if (run->rank != rank_of(page))
		return false;
	if (run->kind == THAW_PAGE_LOST)
		return !run->offset && !run->birth;
	if (run->kind != kind || run->birth != check->heap->birth[page] ||
	    !run->offset != (kind != THAW_PAGE_STORED))
		return false;
	if (!run->offset)
		return true;
	model_fill(wanted, page, check->heap->version[page]);
	return pread(check->fd, bytes, PAGE, (off_t)(run->offset + (page - run->first) * PAGE)) ==
		       PAGE &&
	       !memcmp(bytes, wanted, PAGE);
}

static int check_run(void *arg, const struct thaw_page_run *run)
{
	struct check *check = arg;
	const struct thaw_page_run *last = &check->last;

	if (check->wrong != UINT64_MAX)
		return 0;
	if (!run->pages || run->first != check->next ||
	    run->first + run->pages > check->heap->pages)
		check->wrong = run->first;
	/* As long as can be. */
	if (last->pages && last->kind == run->kind && last->birth == run->birth &&
	    last->rank == run->rank &&
	    (!run->offset || last->offset + last->pages * PAGE == run->offset))
		check->wrong = run->first;
	for (uint64_t page = run->first;
	     check->wrong == UINT64_MAX && page < run->first + run->pages; page++)
		if (!page_is(check, page, run))
			check->wrong = page;
	if (run->kind == THAW_PAGE_LOST)
		check->lost += run->pages;
	check->next = run->first + run->pages;
	check->last = *run;
	return 0;
}

static struct check check_pages(const struct heap *heap, int *code)
{
	struct check check = {.heap = heap, .wrong = UINT64_MAX};

	check.fd = open(model_path, O_RDONLY | O_CLOEXEC);
	*code = path_pages(model_path, heap->number, check_run, &check, &error);
	close(check.fd);
	if (check.next != heap->pages && check.wrong == UINT64_MAX)
		check.wrong = check.next;
	return check;
}

/* ---- In what two differ */

struct diff {
	uint8_t kind[HEAP_PAGES + UNIT_PAGES]; /* 1 + enum thaw_change_kind; 0: the same */
	uint64_t next;
	struct thaw_page_change last;
	bool disordered;
};

static int take_change(void *arg, const struct thaw_page_change *change)
{
	struct diff *diff = arg;

	if (!change->pages || change->first < diff->next ||
	    change->first + change->pages > HEAP_PAGES ||
	    (diff->last.pages && change->first == diff->next && change->kind == diff->last.kind)) {
		diff->disordered = true;
		return 0;
	}
	memset(diff->kind + change->first, 1 + (int)change->kind, change->pages);
	diff->next = change->first + change->pages;
	diff->last = *change;
	return 0;
}

static uint32_t version_of(const struct heap *heap, unsigned page)
{
	return page < heap->pages ? heap->version[page] : 0;
}

static unsigned kind_wanted(const struct heap *from, const struct heap *to, unsigned page)
{
	uint32_t before = version_of(from, page), after = version_of(to, page);

	if (before == after)
		return 0;
	return 1 + (!before  ? THAW_CHANGE_APPEARED
		    : !after ? THAW_CHANGE_VANISHED
			     : THAW_CHANGE_CHANGED);
}

/* The first page that is told wrongly; HEAP_PAGES: none. `lost` may be NULL: then none may be. */
static unsigned check_diff(const struct heap *from, const struct heap *to, int *code,
			   unsigned *lost)
{
	static struct diff diff;

	memset(&diff, 0, sizeof(diff));
	*code = path_diff(model_path, from->number, to->number, take_change, &diff, &error);
	if (diff.disordered)
		return 0;
	for (unsigned page = 0; page < HEAP_PAGES; page++) {
		if (lost && diff.kind[page] == 1 + THAW_CHANGE_LOST)
			++*lost;
		else if (diff.kind[page] != kind_wanted(from, to, page))
			return page;
	}
	return HEAP_PAGES;
}

/* ---- How scattered it is */

struct scattered {
	uint64_t pages, pieces, end;
};

static int take_scattered(void *arg, const struct thaw_page_run *run)
{
	struct scattered *scattered = arg;

	if (run->kind != THAW_PAGE_STORED)
		return 0;
	scattered->pages += run->pages;
	scattered->pieces += run->offset != scattered->end;
	scattered->end = run->offset + run->bytes;
	return 0;
}

static bool scattered_right(void)
{
	struct scattered scattered = {0};
	struct thaw_image_info info;

	if (path_info(model_path, true, &info, &error) ||
	    path_pages(model_path, 0, take_scattered, &scattered, &error))
		return false;
	/* Blocks in which a node lies are not unused, however short it is. */
	return info.newest_pages == scattered.pages && info.newest_pieces == scattered.pieces &&
	       info.unused_bytes <= info.free_bytes &&
	       info.unused_bytes + info.retained_bytes <= info.file_bytes &&
	       info.unused_small_bytes <= info.unused_bytes &&
	       info.unused_pieces * PAGE <= info.unused_bytes &&
	       info.working_set_clusters == set_count;
}

/* ---- */

TEST(of_every_generation_and_every_pair)
{
	struct image_options options = model_options();
	struct image *image;
	unsigned pairs = 0;
	int code;

	model_setup("pages");
	options.retain = HISTORY;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	for (unsigned step = 0; step < 120; step++) {
		const struct heap *some;

		ASSERT_EQ(0, commit_some(image, step % 7 ? random_below(12) : 300))
		{
			TH_LOG("%s", error.text);
		}
		if (!random_below(9)) { /* branch off from an older one */
			now = heaps[random_below(heap_count)];
			options.generation = now.number;
			image_close(image);
			ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
		}
		some = &heaps[random_below(heap_count)];
		ASSERT_EQ(UINT64_MAX, check_pages(some, &code).wrong)
		{
			TH_LOG("step %u, generation %lu", step, some->number);
		}
		ASSERT_EQ(0, code);
		if (step % 10 < 9)
			continue;
		ASSERT_TRUE(scattered_right())
		{
			TH_LOG("step %u", step);
		}
		for (unsigned i = 0; i < heap_count * heap_count; i++, pairs++) {
			const struct heap *from = &heaps[i / heap_count],
					  *to = &heaps[i % heap_count];

			ASSERT_EQ(HEAP_PAGES, check_diff(from, to, &code, NULL))
			{
				TH_LOG("%lu and %lu", from->number, to->number);
			}
			ASSERT_EQ(0, code);
		}
	}
	TH_LOG("%u pairs", pairs);
	image_close(image);
	model_teardown();
}

TEST(of_what_is_not_there)
{
	struct image_options options = model_options();
	struct image *image;
	struct check check = {.heap = &now, .wrong = UINT64_MAX};

	model_setup("none");
	EXPECT_EQ(-ENOENT, path_pages(model_path, 0, check_run, &check, &error));
	EXPECT_EQ(-ENOENT, path_diff(model_path, 0, 0, take_change, NULL, &error));
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	EXPECT_EQ(THAW_ENOGEN, path_pages(model_path, 0, check_run, &check, &error));
	ASSERT_EQ(0, commit_some(image, 3));
	EXPECT_EQ(THAW_ENOGEN, path_pages(model_path, 99, check_run, &check, &error));
	EXPECT_EQ(THAW_ENOGEN, path_diff(model_path, now.number, 99, take_change, NULL, &error));
	EXPECT_EQ(THAW_ENOGEN, path_diff(model_path, 99, now.number, take_change, NULL, &error));
	/* Named by 0, too. */
	EXPECT_EQ(0, path_pages(model_path, 0, check_run, &check, &error));
	EXPECT_EQ(UINT64_MAX, check.wrong);
	EXPECT_EQ(now.pages, check.next);
	image_close(image);
	model_teardown();
}

static int stop_at_third(void *arg, const struct thaw_page_run *run)
{
	(void)run;
	return ++*(int *)arg == 3 ? 77 : 0;
}

static int stop_at_once(void *arg, const struct thaw_page_change *change)
{
	(void)arg, (void)change;
	return 78;
}

TEST(a_visitor_that_has_seen_enough_ends_it)
{
	struct image_options options = model_options();
	struct image *image;
	int seen = 0;

	model_setup("stop");
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, commit_some(image, 30));
	ASSERT_EQ(0, commit_some(image, 30));
	EXPECT_EQ(77, path_pages(model_path, 0, stop_at_third, &seen, &error));
	EXPECT_EQ(3, seen);
	EXPECT_EQ(78, path_diff(model_path, heaps[heap_count - 2].number, now.number, stop_at_once,
				NULL, &error));
	image_close(image);
	model_teardown();
}

struct lost {			    /* by verify's account */
	uint64_t newest;	    /* generation */
	bool page[HEAP_PAGES];	    /* of it */
	unsigned pages, older, any; /* how many; of the older one; other findings */
};

static void take_damage(void *arg, const struct thaw_damage *damage)
{
	struct lost *lost = arg;

	lost->any++;
	if (!strstr(damage->what, "index node"))
		return;
	for (uint64_t page = damage->first_page;
	     page < damage->first_page + damage->pages && page < now.pages; page++) {
		if (damage->generation != lost->newest) {
			lost->older++;
		} else if (!lost->page[page]) {
			lost->page[page] = true;
			lost->pages++;
		}
	}
}

/* Where in the file a node may lie: it has a mark. Some of what is found is not in use any more. */
static unsigned find_nodes(uint64_t *offsets, unsigned room)
{
	int fd = open(model_path, O_RDONLY | O_CLOEXEC);
	unsigned found = 0;
	uint32_t mark;

	for (uint64_t at = 2 * PAGE; found < room && pread(fd, &mark, sizeof(mark), (off_t)at) == 4;
	     at += 8)
		if (mark == 0x646f6e54)
			offsets[found++] = at;
	close(fd);
	return found;
}

/* What verify calls lost is told as lost, and nothing else is; the rest is as it was. */
TEST(what_is_damaged_is_lost_and_the_rest_is_told)
{
	struct image_options options = model_options();
	const struct heap *older, *newest;
	unsigned nodes, of_newest = 0, of_older = 0;
	static uint64_t offsets[2000];
	struct image *image;
	int code;

	model_setup("damage");
	options.retain = 2;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	while (now.pages < 2000)
		ASSERT_EQ(0, commit_some(image, 300));
	ASSERT_EQ(0, commit_some(image, 20));
	image_close(image);
	older = &heaps[heap_count - 2];
	newest = &heaps[heap_count - 1];
	nodes = find_nodes(offsets, sizeof(offsets) / sizeof(offsets[0]));
	for (unsigned i = 0; i < nodes; i++) {
		static struct lost lost;
		const struct thaw_verify_ops ops = {.damage = take_damage, .arg = &lost};
		unsigned lost_changes = 0;
		struct check check;

		lost = (struct lost){.newest = newest->number};
		support_flip(model_path, offsets[i] + 30, 4);
		thaw_image_verify(model_path, &ops, NULL, NULL);
		if (lost.pages < newest->pages) { /* else it is the root, and is not opened */
			check = check_pages(newest, &code);
			ASSERT_EQ(UINT64_MAX, check.wrong);
			ASSERT_EQ(lost.pages, check.lost);
			ASSERT_EQ(lost.pages ? THAW_EDAMAGED : 0, code);
			of_newest += !!lost.pages;
		}
		if (lost.pages < newest->pages && lost.older < older->pages) {
			ASSERT_EQ(HEAP_PAGES, check_diff(older, newest, &code, &lost_changes));
			ASSERT_EQ(lost_changes ? THAW_EDAMAGED : 0, code);
			ASSERT_TRUE(lost.pages || lost.older || !lost_changes);
			ASSERT_TRUE(!lost.older || lost_changes);
			of_older += !!lost_changes;
			if (code)
				ASSERT_NE(NULL, strstr(error.text, "the index of pages"));
		}
		support_flip(model_path, offsets[i] + 30, 4);
	}
	TH_LOG("%u nodes: %u cost pages of the newest, %u something of the difference", nodes,
	       of_newest, of_older);
	EXPECT_GE(of_newest, 100);
	EXPECT_GE(of_older, 10);
	EXPECT_EQ(0, model_verify());
	model_teardown();
}

TEST_HARNESS_MAIN
