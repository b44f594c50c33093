// SPDX-License-Identifier: GPL-2.0-only
/*
 * No write is ever lost: threads and a child write ever larger versions into random places while everything is
 * harvested and copied all the time. When the writers pause, the copy, which nothing but harvests made, must have
 * what they wrote last, according to what they noted elsewhere, and so must the memory. Some five seconds for each
 * kind of region, or THAW_TEST_MINUTES; THAW_TEST_SEED repeats one as far as threads can be repeated.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "device.h"

#define PAGES 512u
#define WRITERS 3u
#define FORKED \
	WRITERS	 /* the slots of children that are forked in the middle, one after the other */
#define SLOTS 4u /* of a writer in a page, a quarter of it apart */

/* Shared with the child that writes, therefore never in the heap. */
struct race {
	struct device device;
	pthread_barrier_t begin;
	_Atomic unsigned paused;
	_Atomic bool stop;
	pthread_mutex_t forking; /* held while a forked child writes, and while all is compared */
	unsigned hot;		 /* pages that are written in this round */
	unsigned writes;	 /* of each writer in this round */
	uint64_t seed, round;
	uint64_t versions[WRITERS + 1][PAGES][SLOTS]; /* what is there, as its writer has noted */
};

FIXTURE(race)
{
	struct race *race;
	char *directory, *copy;
	struct source source;
	uint8_t *ever; /* pages that were found at least once */
	uint64_t found;
};
FIXTURE_VARIANT(race)
{
	size_t page_bytes;
	uint32_t ring_entries;
	bool restored;	/* the pages are missing at first */
	bool disturbed; /* mappings come and go, page tables are emptied, memory is reclaimed */
};
FIXTURE_VARIANT_ADD(race, with_a_large_ring){.ring_entries = 4096};
FIXTURE_VARIANT_ADD(race, with_a_ring_that_overflows){.ring_entries = 64};
FIXTURE_VARIANT_ADD(race, of_pages_of_16_kib){.page_bytes = 16384, .ring_entries = 256};
FIXTURE_VARIANT_ADD(race, of_a_restored_region){.ring_entries = 256, .restored = true};
FIXTURE_VARIANT_ADD(race, while_mappings_change){.ring_entries = 256, .disturbed = true};

FIXTURE_SETUP(race)
{
	size_t page_bytes = variant->page_bytes ? variant->page_bytes : KERNEL_PAGE,
	       bytes = PAGES * page_bytes;
	pthread_barrierattr_t shared;

	NEEDS_DEVICE();
	if (page_bytes < KERNEL_PAGE)
		SKIP(return, "the kernel's pages are larger");
	self->race = mmap(NULL, sizeof(*self->race), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->race);
	self->directory = support_directory();
	source_make(&self->source, self->directory, page_bytes, PAGES, 4096);
	device_start(&self->race->device, bytes, page_bytes, variant->ring_entries,
		     variant->restored ? bytes : 0, self->source.fd);
	if (variant->restored)
		ASSERT_EQ(0, device_extents(&self->race->device, 0, PAGES, self->source.extents));
	self->copy = calloc(1, bytes);
	self->ever = calloc(1, PAGES);
	pthread_barrierattr_init(&shared);
	pthread_barrierattr_setpshared(&shared, PTHREAD_PROCESS_SHARED);
	pthread_mutex_init(&self->race->forking, NULL);
	pthread_barrier_init(&self->race->begin, &shared, WRITERS + 1);
	self->race->seed = device_seed();
}
FIXTURE_TEARDOWN(race)
{
	device_stop(&self->race->device);
	source_free(&self->source);
	support_remove(self->directory);
	free(self->copy);
	free(self->ever);
}

static uint64_t *slot(char *memory, size_t page_bytes, unsigned writer, unsigned page,
		      unsigned number)
{
	return (uint64_t *)(memory + page * page_bytes + number * (page_bytes / SLOTS)) +
	       writer * 8;
}

static void write_rounds(struct race *race, unsigned writer)
{
	uint64_t random = race->seed * 977 + writer * 7919 + 1, version = 0;

	for (;;) {
		pthread_barrier_wait(&race->begin);
		if (atomic_load(&race->stop))
			return;
		for (unsigned i = 0; i < race->writes; i++) {
			uint64_t chance = next_random(&random);
			unsigned page = (unsigned)((chance >> 8) % race->hot),
				 number = chance % SLOTS;

			race->versions[writer][page][number] = ++version;
			*(volatile uint64_t *)slot(race->device.base, race->device.page_bytes,
						   writer, page, number) = version;
		}
		atomic_fetch_add(&race->paused, 1);
	}
}

struct writer {
	pthread_t thread;
	struct race *race;
	unsigned number;
};

static void *write_in_thread(void *argument)
{
	struct writer *writer = argument;

	write_rounds(writer->race, writer->number);
	return NULL;
}

/* The child has copies of page tables in which pages are writable already. */
static void fork_writer(struct race *race, uint64_t random)
{
	pid_t child;

	pthread_mutex_lock(&race->forking);
	child = fork();
	if (!child) {
		for (int i = 0; i < 30; i++) {
			unsigned page = (unsigned)((next_random(&random) >> 8) % race->hot);
			unsigned number = random % SLOTS;
			uint64_t version = ++race->versions[FORKED][page][number];

			*(volatile uint64_t *)slot(race->device.base, race->device.page_bytes,
						   FORKED, page, number) = version;
		}
		_exit(0);
	}
	waitpid(child, NULL, 0);
	pthread_mutex_unlock(&race->forking);
}

/* What else happens to memory, all of which leaves its contents as they are. */
static void *disturb(void *argument)
{
	struct race *race = argument;
	uint64_t random = race->seed + 99;

	while (!atomic_load(&race->stop)) {
		size_t page_bytes = race->device.page_bytes, first = next_random(&random) % PAGES;
		size_t count = 1 + next_random(&random) % (PAGES - first);
		char *at = race->device.base + first * page_bytes;
		static const int advice[] = {MADV_DONTNEED, 20 /* COLD */, 21 /* PAGEOUT */,
					     22 /* POPULATE_READ */};

		madvise(at, count * page_bytes, advice[next_random(&random) % 4]);
		mprotect(at, count * page_bytes,
			 PROT_READ | PROT_WRITE | (next_random(&random) % 2 ? PROT_EXEC : 0));
		at = device_map(race->device.fd, race->device.bytes);
		for (size_t i = 0; i < count; i += 3)
			touch_read(at + (first + i) * page_bytes);
		munmap(at, race->device.bytes);
		if (next_random(&random) % 4 == 0)
			fork_writer(race, next_random(&random));
	}
	return NULL;
}

/* ---- The harvests ---- */

struct copying {
	struct race *race;
	char *copy;
	uint8_t *ever;
};

static void copy_page(void *context, uint64_t page)
{
	struct copying *copying = context;
	const struct device *device = &copying->race->device;

	if (page >= PAGES)
		support_die("a page that does not exist was harvested");
	memcpy(copying->copy + page * device->page_bytes, device->base + page * device->page_bytes,
	       device->page_bytes);
	copying->ever[page] = 1;
}

/* Slots whose last version is not where it must be. */
static unsigned lost_versions(struct race *race, char *memory)
{
	unsigned lost = 0;

	for (unsigned writer = 0; writer <= FORKED; writer++)
		for (unsigned page = 0; page < PAGES; page++)
			for (unsigned number = 0; number < SLOTS; number++) {
				uint64_t version = race->versions[writer][page][number];

				lost += version && *slot(memory, race->device.page_bytes, writer,
							 page, number) != version;
			}
	return lost;
}

/* Pages that are not what was restored, beside the slots. */
static unsigned damaged_pages(const struct race *race, const struct source *source)
{
	const size_t page_bytes = race->device.page_bytes, part = page_bytes / SLOTS;
	unsigned damaged = 0;
	char right[65536];

	for (unsigned page = 0; page < PAGES; page++) {
		source_page(source, page, right);
		for (size_t at = 256; at < page_bytes; at += part)
			damaged += !!memcmp(right + at, race->device.base + page * page_bytes + at,
					    part - 256);
	}
	return damaged;
}

static void begin_round(struct race *race, uint64_t *random)
{
	/* Few pages meet a harvest in the middle more often; many fill the ring. */
	race->hot = 1u << next_random(random) % 10;
	race->writes = 100 + (unsigned)(next_random(random) % 20000);
	race->round++;
	atomic_store(&race->paused, 0);
	pthread_barrier_wait(&race->begin);
}

TEST_F_TIMEOUT(race, no_write_is_lost, 7200)
{
	struct copying copying = {self->race, self->copy, self->ever};
	struct race *race = self->race;
	double end = support_seconds() + device_duration(5);
	struct writer writers[WRITERS];
	uint64_t random = race->seed, harvests = 0;
	pthread_t disturbing;
	int status;
	pid_t child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		write_rounds(race, WRITERS - 1);
		_exit(0);
	}
	for (unsigned i = 0; i < WRITERS - 1; i++) {
		writers[i] = (struct writer){.race = race, .number = i};
		ASSERT_EQ(0,
			  pthread_create(&writers[i].thread, NULL, write_in_thread, &writers[i]));
	}
	if (variant->disturbed)
		ASSERT_EQ(0, pthread_create(&disturbing, NULL, disturb, race));
	while (support_seconds() < end || race->round < 5) {
		bool over = false;

		begin_round(race, &random);
		while (!over) {
			int64_t got;

			over = atomic_load(&race->paused) == WRITERS;
			if (over)
				pthread_mutex_lock(&race->forking);
			got = device_harvest(&race->device, copy_page, &copying);
			ASSERT_LE(0, got);
			self->found += got;
			harvests++;
		}
		ASSERT_EQ(0, lost_versions(race, race->device.base));
		ASSERT_EQ(0, lost_versions(race, self->copy))
		{
			TH_LOG("round %llu, of %u pages", (unsigned long long)race->round,
			       race->hot);
		}
		for (unsigned page = 0; page < PAGES; page++)
			ASSERT_TRUE(!self->ever[page] ||
				    !memcmp(self->copy + page * race->device.page_bytes,
					    race->device.base + page * race->device.page_bytes,
					    race->device.page_bytes));
		pthread_mutex_unlock(&race->forking);
	}
	atomic_store(&race->stop, true);
	pthread_barrier_wait(&race->begin);
	for (unsigned i = 0; i < WRITERS - 1; i++)
		pthread_join(writers[i].thread, NULL);
	if (variant->disturbed)
		pthread_join(disturbing, NULL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	TH_LOG("%llu rounds, %llu harvests, %llu pages, %llu of them by the bitmap",
	       (unsigned long long)race->round, (unsigned long long)harvests,
	       (unsigned long long)self->found,
	       (unsigned long long)device_counters(&race->device).overflows);
	EXPECT_LT(race->round, self->found);
	if (variant->restored)
		EXPECT_EQ(0, damaged_pages(race, &self->source));
}

TEST_HARNESS_MAIN
