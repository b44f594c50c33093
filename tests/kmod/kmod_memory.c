// SPDX-License-Identifier: GPL-2.0-only
/*
 * A region's memory is the kernel's to move: what is swapped out, migrated, compacted, in large pages or locked keeps
 * its contents, and the log of first writes stays right; all of it, and what the module remembers of it, is charged
 * to the control group of who uses it, and nothing is left behind.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <glob.h>

#include "memory_room.h"

#define PAGES 4096u

FIXTURE(memory)
{
	char *directory;
	struct source source;
	struct device device;
	struct cgroup cgroup;
	struct swap swap;
	size_t page_bytes, bytes;
	uint8_t *set;
};

FIXTURE_SETUP(memory)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->page_bytes = KERNEL_PAGE;
	self->bytes = PAGES * self->page_bytes;
	self->directory = support_directory();
	self->set = calloc(1, PAGES);
}
FIXTURE_TEARDOWN(memory)
{
	if (self->cgroup.path)
		cgroup_leave(&self->cgroup);
	device_stop(&self->device);
	source_free(&self->source);
	swap_close(&self->swap);
	if (self->cgroup.mount)
		cgroup_close(&self->cgroup);
	support_remove(self->directory);
	free(self->set);
}

#define AT(page) (self->device.base + (size_t)(page)*self->page_bytes)
#define HARVEST() device_harvest_set(&self->device, self->set)

#define NEEDS_CGROUP()                                                            \
	do {                                                                      \
		const char *lacks_ = cgroup_open(&self->cgroup, self->directory); \
		if (lacks_)                                                       \
			SKIP(return, "%s", lacks_);                               \
	} while (0)

#define NEEDS_SWAP(bytes)                                                            \
	do {                                                                         \
		const char *lacks_ = swap_open(&self->swap, self->directory, bytes); \
		if (lacks_)                                                          \
			SKIP(return, "%s", lacks_);                                  \
	} while (0)

/* A restored region, of which every third page is written, and every ninth is not harvested yet. */
static void use(struct device *device, struct source *source, const char *directory, uint8_t *set)
{
	source_make(source, directory, KERNEL_PAGE, PAGES, 4096);
	device_restore(device, source, 0);
	for (unsigned page = 0; page < PAGES; page++)
		touch_read(device->base + page * KERNEL_PAGE);
	for (unsigned page = 0; page < PAGES; page += 3)
		device->base[page * KERNEL_PAGE + 8] = 'u';
	if (device_harvest_set(device, set) != (PAGES + 2) / 3)
		support_die("a harvest before anything has happened");
	for (unsigned page = 0; page < PAGES; page += 9)
		device->base[page * KERNEL_PAGE + 9] = 'v';
}

/* Pages that are not what use() left. */
static unsigned changed(const struct device *device, const struct source *source)
{
	unsigned wrong = 0;
	char right[65536];

	for (unsigned page = 0; page < PAGES; page++) {
		source_page(source, page, right);
		if (page % 3 == 0)
			right[8] = 'u';
		if (page % 9 == 0)
			right[9] = 'v';
		wrong += !!memcmp(right, device->base + page * KERNEL_PAGE, KERNEL_PAGE);
	}
	return wrong;
}

/* The contents, and a log that has the writes of use() and of now. */
#define EXPECT_USED()                                                \
	do {                                                         \
		EXPECT_EQ(0, changed(&self->device, &self->source)); \
		EXPECT_EQ((PAGES + 8) / 9, HARVEST());               \
		for (unsigned page = 0; page < PAGES; page++)        \
			ASSERT_EQ(page % 9 == 0, self->set[page]);   \
		for (unsigned page = 0; page < PAGES; page += 2)     \
			touch_write(AT(page) + 8, AT(page)[8]);      \
		EXPECT_EQ(PAGES / 2, HARVEST());                     \
		EXPECT_EQ(0, changed(&self->device, &self->source)); \
		EXPECT_EQ(0, HARVEST());                             \
	} while (0)

/* ---- Swap ---- */

/* Most of it, at least; false: the kernel would not. */
static bool force_out(const struct cgroup *cgroup, const struct device *device)
{
	for (int round = 0; round < 20; round++) {
		madvise(device->base, device->bytes, 21 /* MADV_PAGEOUT */);
		if (device_counters(device).resident_pages < PAGES / 4)
			return true;
		cgroup_set(cgroup, "memory.reclaim", "8M");
		if (device_counters(device).resident_pages < PAGES / 4)
			return true;
	}
	return false;
}

TEST_F(memory, what_was_swapped_out_comes_back_as_it_was)
{
	NEEDS_CGROUP();
	NEEDS_SWAP((size_t)64 << 20);
	ASSERT_TRUE(cgroup_enter(&self->cgroup));
	use(&self->device, &self->source, self->directory, self->set);
	for (int round = 0; round < 2; round++) {
		struct thaw_kmod_counters before = device_counters(&self->device), after;

		ASSERT_TRUE(force_out(&self->cgroup, &self->device));
		after = device_counters(&self->device);
		EXPECT_LT(after.resident_pages, before.resident_pages);
		if (round)
			for (unsigned page = 0; page < PAGES; page += 9)
				AT(page)[9] = 'v';
		EXPECT_USED();
		/* Swapped in, not restored again. */
		after = device_counters(&self->device);
		EXPECT_EQ(before.pages_restored, after.pages_restored);
		EXPECT_EQ(before.bytes_read, after.bytes_read);
	}
}

/* A write is the first thing that happens to it. */
TEST_F(memory, a_write_to_a_swapped_page_is_told)
{
	NEEDS_CGROUP();
	NEEDS_SWAP((size_t)64 << 20);
	ASSERT_TRUE(cgroup_enter(&self->cgroup));
	use(&self->device, &self->source, self->directory, self->set);
	HARVEST();
	ASSERT_TRUE(force_out(&self->cgroup, &self->device));
	EXPECT_EQ(0, HARVEST());
	for (unsigned page = 1; page < PAGES; page += 5)
		AT(page)[100]++;
	EXPECT_EQ((PAGES - 1 + 4) / 5, HARVEST());
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_EQ(page % 5 == 1, self->set[page]);
	/* Written, swapped out before the harvest: the harvest reads it back. */
	for (unsigned page = 2; page < PAGES; page += 5)
		AT(page)[100]++;
	ASSERT_TRUE(force_out(&self->cgroup, &self->device));
	EXPECT_EQ((PAGES - 2 + 4) / 5, HARVEST());
	ASSERT_TRUE(force_out(&self->cgroup, &self->device));
	AT(2)[100]++;
	EXPECT_EQ(1, HARVEST());
}

/* ---- Moved ---- */

TEST_F(memory, compaction_keeps_contents_and_log)
{
	use(&self->device, &self->source, self->directory, self->set);
	for (int round = 0; round < 3; round++)
		if (!write_text("/proc/sys/vm/compact_memory", "1"))
			SKIP(return, "only root can compact memory");
	EXPECT_USED();
}

static long move_to(const struct device *device, int node)
{
	static void *pages[PAGES];
	static int nodes[PAGES], status[PAGES];
	long moved = 0;

	for (unsigned page = 0; page < PAGES; page++) {
		pages[page] = device->base + page * device->page_bytes;
		nodes[page] = node;
	}
	if (syscall(SYS_move_pages, 0, (unsigned long)PAGES, pages, nodes, status,
		    2 /* MPOL_MF_MOVE */) < 0)
		return -1;
	for (unsigned page = 0; page < PAGES; page++)
		moved += status[page] == node;
	return moved;
}

/* To another node; where there is only one, to other frames of it. */
TEST_F(memory, migration_keeps_contents_and_log)
{
	use(&self->device, &self->source, self->directory, self->set);
	if (!access("/sys/devices/system/node/node1", F_OK)) {
		for (int node = 1; node >= 0; node--)
			EXPECT_LT(PAGES * 9 / 10, move_to(&self->device, node));
	} else {
		unsigned moved = 0;

		for (unsigned page = 0; page < PAGES; page += 40)
			moved += !madvise(AT(page), self->page_bytes, 101 /* MADV_SOFT_OFFLINE */);
		if (!moved)
			SKIP(return,
				   "there is one node, and frames cannot be taken out of use here");
	}
	EXPECT_USED();
}

TEST_F(memory, pages_that_a_page_table_forgets_come_back)
{
	use(&self->device, &self->source, self->directory, self->set);
	ASSERT_EQ(0, madvise(self->device.base, self->bytes, MADV_DONTNEED));
	madvise(self->device.base, self->bytes, 20 /* MADV_COLD */);
	madvise(self->device.base, self->bytes, 21 /* MADV_PAGEOUT */);
	EXPECT_USED();
}

TEST_F(memory, locking_brings_and_keeps_every_page)
{
	source_make(&self->source, self->directory, self->page_bytes, PAGES, 4096);
	device_restore(&self->device, &self->source, 0);
	if (mlock(self->device.base, self->bytes) && (errno == ENOMEM || errno == EPERM))
		SKIP(return, "this user may not lock so much memory");
	EXPECT_EQ(PAGES, device_counters(&self->device).pages_restored);
	HARVEST();
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_TRUE(source_matches(&self->source, page, AT(page)));
	for (unsigned page = 0; page < PAGES; page += 3)
		AT(page)[1]++;
	EXPECT_EQ((PAGES + 2) / 3, HARVEST());
	EXPECT_EQ(0, munlock(self->device.base, self->bytes));
	AT(3)[1]++;
	EXPECT_EQ(1, HARVEST());
}

/* ---- Large pages: no write is lost, and nothing absent is seen ---- */

#define HUGE_SETTING "/sys/kernel/mm/transparent_hugepage/shmem_enabled"

TEST_F(memory, large_pages_lose_no_write)
{
	const size_t bytes = (size_t)16 << 20, pages = bytes / self->page_bytes;
	const size_t huge = (size_t)2 << 20;
	char *room, *other;
	uint8_t *written = calloc(1, pages), *set = calloc(1, pages);
	uint64_t random = 4711;

	if (!write_text(HUGE_SETTING, "force"))
		SKIP(return, "no large pages can be had for shared memory here");
	source_make(&self->source, self->directory, self->page_bytes, PAGES / 2, 4096);
	device_start(&self->device, bytes, self->page_bytes, 256, PAGES / 2 * self->page_bytes,
		     self->source.fd);
	write_text(HUGE_SETTING, "force");
	EXPECT_EQ(0, device_extents(&self->device, 0, PAGES / 2, self->source.extents));
	for (int round = 0; round < 50; round++) {
		memset(written, 0, pages);
		for (int i = 0; i < 20; i++) {
			size_t page = next_random(&random) % pages;

			AT(page)[round + 1]++;
			written[page] = 1;
		}
		EXPECT_LE(0, device_harvest_set(&self->device, set));
		for (size_t page = 0; page < pages; page++)
			EXPECT_TRUE(!written[page] || set[page]);
	}
	EXPECT_LE(0, device_harvest_set(&self->device, set));
	/* Where a huge page could be mapped as a whole, what is absent in it must not be seen as zero. */
	room = mmap(NULL, bytes + 2 * huge, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	other = (char *)((uintptr_t)room / huge * huge + huge + THAW_KMOD_MEMORY_OFFSET);
	ASSERT_EQ(other, mmap(other, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
			      self->device.fd, (off_t)THAW_KMOD_MEMORY_OFFSET));
	for (unsigned page = 0; page < PAGES / 2; page++) {
		const char *at = other + page * self->page_bytes;
		char right[65536];

		source_page(&self->source, page, right);
		if (touch_read(at) == 0)
			EXPECT_EQ(0, memcmp(right + 64, at + 64, self->page_bytes - 64));
	}
	munmap(room, bytes + 2 * huge);
	write_text(HUGE_SETTING, "never");
	for (unsigned page = 0; page < PAGES / 2; page++) {
		char right[65536];

		source_page(&self->source, page, right);
		ASSERT_EQ(0, memcmp(right + 64, AT(page) + 64, self->page_bytes - 64));
	}
	free(written);
	free(set);
}

/* ---- Charged ---- */

TEST_F(memory, pages_are_charged_to_who_touches_them)
{
	int64_t before, during;

	NEEDS_CGROUP();
	ASSERT_TRUE(cgroup_enter(&self->cgroup));
	source_make(&self->source, self->directory, self->page_bytes, PAGES, 4096);
	device_restore(&self->device, &self->source, self->bytes);
	before = cgroup_number(&self->cgroup, "memory.stat", "shmem ");
	ASSERT_LE(0, before);
	for (size_t at = 0; at < 2 * self->bytes; at += self->page_bytes)
		ASSERT_EQ(0, touch_read(self->device.base + at));
	during = cgroup_number(&self->cgroup, "memory.stat", "shmem ");
	EXPECT_LE(2 * self->bytes, during - before);
	EXPECT_LE(2 * self->bytes, cgroup_number(&self->cgroup, "memory.current", ""));
	device_stop(&self->device);
	EXPECT_LE(cgroup_number(&self->cgroup, "memory.stat", "shmem "),
		  before + (int64_t)self->bytes / 8);
}

/* Otherwise a process could make the kernel use up any amount, whatever its limit is. */
TEST_F(memory, what_the_module_remembers_is_charged)
{
	const uint64_t pages = 1u << 18;
	struct thaw_kmod_extent *extents = calloc(4096, sizeof(*extents));
	int64_t before, with_ring, with_extents;

	NEEDS_CGROUP();
	ASSERT_TRUE(cgroup_enter(&self->cgroup));
	for (unsigned i = 0; i < 4096; i++)
		extents[i] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_RAW, .offset = i};
	before = cgroup_number(&self->cgroup, "memory.current", "");
	device_start(&self->device, pages * self->page_bytes, self->page_bytes, 1u << 20,
		     pages * self->page_bytes, -1);
	with_ring = cgroup_number(&self->cgroup, "memory.current", "");
	EXPECT_LE(15 << 20, with_ring - before);
	for (uint64_t first = 0; first < pages; first += 4096)
		ASSERT_EQ(0, device_extents(&self->device, first, 4096, extents));
	with_extents = cgroup_number(&self->cgroup, "memory.current", "");
	EXPECT_LE((int64_t)pages * 24, with_extents - with_ring);
	device_stop(&self->device);
	EXPECT_GE(before + (4 << 20), cgroup_number(&self->cgroup, "memory.current", ""));
	free(extents);
}

/*
 * The kernel tells of it with a stack of its own, which whoever reads a guest's console takes for a bug: less is
 * printed there meanwhile.
 */
TEST_F(memory, who_exceeds_the_limit_is_killed_and_nobody_else)
{
	char level[64] = {0};
	int status, fd = open("/proc/sys/kernel/printk", O_RDWR | O_CLOEXEC);
	pid_t child;

	NEEDS_CGROUP();
	if (fd < 0 || read(fd, level, sizeof(level) - 1) <= 0)
		SKIP(return, "only root can keep the kernel quiet");
	use(&self->device, &self->source, self->directory, self->set);
	ASSERT_TRUE(cgroup_set(&self->cgroup, "memory.max", "8M"));
	cgroup_set(&self->cgroup, "memory.swap.max", "0");
	ASSERT_EQ(1, pwrite(fd, "2", 1, 0));
	child = fork();
	if (!child) {
		struct device device;

		if (!cgroup_enter(&self->cgroup))
			_exit(2);
		device_restore(&device, &self->source, (size_t)64 << 20);
		for (size_t at = 0; at < device.bytes; at += KERNEL_PAGE)
			device.base[at] = 1;
		_exit(3);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_LT(0, pwrite(fd, level, strlen(level), 0));
	close(fd);
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	EXPECT_EQ(1, cgroup_number(&self->cgroup, "memory.events", "oom_kill "));
	EXPECT_USED();
}

/* ---- Left behind ---- */

#define CYCLES 1000
#define CACHES 512u

struct usage {
	int64_t free_kib, unreclaimable_kib, shmem_kib, vmalloc_kib, files;
	char names[CACHES][64];
	int64_t objects[CACHES];
	unsigned caches;
};

/* The kernel gives back addresses of its own for 32 MiB or more at once. */
static void give_back_addresses(void)
{
	for (int i = 0; i < 6; i++) {
		struct device device;

		device_start(&device, CLUSTER, CLUSTER, 1u << 20, 0, -1);
		device_stop(&device);
	}
}

/* Free, but kept by each processor for its next allocations, and not in MemFree: 16 MiB and more. */
static int64_t kept_free_kib(void)
{
	FILE *file = fopen("/proc/zoneinfo", "re");
	long long pages, sum = 0;
	char line[512];

	while (file && fgets(line, sizeof(line), file))
		if (sscanf(line, " count: %lld", &pages) == 1)
			sum += pages;
	if (file)
		fclose(file);
	return sum * (int64_t)(KERNEL_PAGE / 1024);
}

/* After everything that could be given back has been. */
static void take_stock(struct usage *usage)
{
	FILE *file;
	char line[512];
	glob_t caches;

	give_back_addresses();
	write_text("/proc/sys/vm/drop_caches", "3");
	if (!glob("/sys/kernel/slab/*/shrink", 0, NULL, &caches)) {
		for (size_t i = 0; i < caches.gl_pathc; i++)
			write_text(caches.gl_pathv[i], "1");
		globfree(&caches);
	}
	*usage = (struct usage){.free_kib =
					read_number("/proc/meminfo", "MemFree:") + kept_free_kib(),
				.unreclaimable_kib = read_number("/proc/meminfo", "SUnreclaim:"),
				.shmem_kib = read_number("/proc/meminfo", "Shmem:"),
				.vmalloc_kib = read_number("/proc/meminfo", "VmallocUsed:"),
				.files = read_number("/proc/sys/fs/file-nr", "")};
	file = fopen("/proc/slabinfo", "re");
	while (file && usage->caches < CACHES && fgets(line, sizeof(line), file)) {
		long long objects;

		if (sscanf(line, "%63s %lld", usage->names[usage->caches], &objects) == 2)
			usage->objects[usage->caches++] = objects;
	}
	if (file)
		fclose(file);
}

/* Of objects that nothing but the cycles uses so many of: one for every second cycle is a leak. */
static unsigned leaking_caches(const struct usage *before, const struct usage *after, bool told)
{
	unsigned leaking = 0;

	for (unsigned i = 0; i < after->caches; i++)
		for (unsigned j = 0; j < before->caches; j++)
			if (!strcmp(after->names[i], before->names[j]) &&
			    after->objects[i] > before->objects[j] + CYCLES / 2) {
				leaking++;
				if (told)
					fprintf(stderr, "# %s: %lld objects, then %lld\n",
						after->names[i], (long long)before->objects[j],
						(long long)after->objects[i]);
			}
	return leaking;
}

/* Everything that a region can remember: extents, arrived and poisoned pages, a request, written pages, an overflow. */
static void cycle(const struct source *source, unsigned number)
{
	struct device device;
	uint8_t set[64];
	int image = open(source->path, O_RDONLY | O_CLOEXEC); /* one more each time, to be let go */

	device_start(&device, 64 * KERNEL_PAGE, KERNEL_PAGE, 64, 64 * KERNEL_PAGE, image);
	close(image);
	if (device_extents(&device, 0, 32, source->extents) ||
	    device_pages(&device, THAW_KMOD_POISON, 40, 1, NULL) ||
	    device_pages(&device, THAW_KMOD_ZERO_PAGES, 41, 8, NULL) ||
	    device_pages(&device, THAW_KMOD_PREFETCH, 16, 8, NULL))
		support_die("a call in a cycle");
	if (touch_read(device.base) || touch_write(device.base + KERNEL_PAGE, 1) ||
	    touch_read(device.base + 40 * KERNEL_PAGE) != SIGBUS)
		support_die("a touch in a cycle");
	if (number % 4 == 0 && device_harvest_set(&device, set) < 1)
		support_die("a harvest in a cycle");
	if (number % 8 == 0) { /* somebody dies who waits */
		pid_t child = fork();

		if (!child) {
			touch_read(device.base + 50 * KERNEL_PAGE);
			_exit(0);
		}
		if (poll(&(struct pollfd){device.fd, POLLIN, 0}, 1, 60000) != 1)
			support_die("a request in a cycle");
		kill(child, SIGKILL);
		waitpid(child, NULL, 0);
	}
	/* In each order of closing and unmapping; also by nothing but the process's end. */
	if (number % 3 == 0)
		close(device.fd);
	munmap(device.ring, device.ring_bytes);
	munmap(device.base, device.bytes);
	if (number % 3)
		close(device.fd);
}

/* Each in its worst case. */
static bool nothing_grew(const struct usage *before, const struct usage *after)
{
	return after->shmem_kib <= before->shmem_kib + CYCLES / 2 &&
	       after->vmalloc_kib <= before->vmalloc_kib + CYCLES / 2 &&
	       after->files <= before->files + CYCLES / 10 &&
	       after->unreclaimable_kib <= before->unreclaimable_kib + CYCLES / 2 &&
	       after->free_kib >= before->free_kib - CYCLES * 2 &&
	       !leaking_caches(before, after, false);
}

TEST_F(memory, a_thousand_regions_leave_nothing_behind)
{
	static struct usage before, after;
	long users = module_users();
	double end;

	if (geteuid())
		SKIP(return, "only root sees what the kernel uses");
	source_make(&self->source, self->directory, self->page_bytes, 32, 4096);
	for (unsigned i = 0; i < 100; i++)
		cycle(&self->source, i);
	take_stock(&before);
	for (unsigned i = 0; i < CYCLES; i++)
		cycle(&self->source, i);
	/* What is freed late (by RCU, by a worker) gets its time. */
	end = support_deadline(2);
	do {
		take_stock(&after);
	} while (!nothing_grew(&before, &after) && support_seconds() < end);
	TH_LOG("free %+lld KiB, shmem %+lld, vmalloc %+lld, slabs %+lld, files %+lld",
	       (long long)(after.free_kib - before.free_kib),
	       (long long)(after.shmem_kib - before.shmem_kib),
	       (long long)(after.vmalloc_kib - before.vmalloc_kib),
	       (long long)(after.unreclaimable_kib - before.unreclaimable_kib),
	       (long long)(after.files - before.files));
	EXPECT_TRUE(nothing_grew(&before, &after));
	EXPECT_EQ(0, leaking_caches(&before, &after, true));
	EXPECT_EQ(users, module_users());
}

TEST_HARNESS_MAIN
