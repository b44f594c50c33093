// SPDX-License-Identifier: GPL-2.0-only
/*
 * device.h - what the tests of the kernel module share: a region of /dev/thaw by raw calls, an image for it that
 * is no image of the library's, harvests, and memory touched by somebody who survives SIGBUS. Any thread. It must
 * not use the library: what is tested is what uffd/kmod.h promises to anybody. Failures in here that are not the
 * test's subject end the test with a message.
 */
#ifndef TESTS_KMOD_DEVICE_H
#define TESTS_KMOD_DEVICE_H

#include <pthread.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <xxhash.h>

#include "kmod.h"
#include "support.h"

#define KERNEL_PAGE ((size_t)sysconf(_SC_PAGESIZE))
#define CLUSTER 65536u

/* Why there is nothing to test here, a line for SKIP(); NULL: there is. */
SUPPORT const char *device_lacks(void)
{
	int fd = open(THAW_KMOD_DEVICE, O_RDWR | O_CLOEXEC);

	if (fd >= 0)
		return close(fd), NULL;
	if (errno == ENOENT)
		return "there is no " THAW_KMOD_DEVICE ": the kernel module is not loaded";
	return errno == EACCES ? "this user may not open " THAW_KMOD_DEVICE
			       : THAW_KMOD_DEVICE " cannot be opened";
}

#define NEEDS_DEVICE()      \
	if (device_lacks()) \
	SKIP(return, "%s", device_lacks())

/* 0, or -errno. */
SUPPORT int device_call(int fd, unsigned long request, void *argument)
{
	return ioctl(fd, request, argument) < 0 ? -errno : 0;
}

/* ---- Regions ---- */

struct device {
	int fd;
	size_t bytes, page_bytes, ring_bytes;
	char *base;
	struct thaw_kmod_ring *ring;
	struct thaw_kmod_dirty *entries;
};

SUPPORT int device_open(int flags)
{
	int fd = open(THAW_KMOD_DEVICE, O_RDWR | O_CLOEXEC | flags);

	if (fd < 0)
		support_die(THAW_KMOD_DEVICE);
	return fd;
}

SUPPORT int device_create(int fd, uint64_t max_bytes)
{
	struct thaw_kmod_create create = {.version = THAW_KMOD_VERSION, .max_bytes = max_bytes};

	return device_call(fd, THAW_KMOD_CREATE, &create);
}

SUPPORT int device_register(int fd, size_t page_bytes, uint32_t ring_entries,
			    uint64_t restored_bytes, int image_fd)
{
	struct thaw_kmod_register registration = {.page_bytes = (uint32_t)page_bytes,
						  .ring_entries = ring_entries,
						  .restored_bytes = restored_bytes,
						  .image_fd = image_fd};

	return device_call(fd, THAW_KMOD_REGISTER, &registration);
}

/* As libthaw does: at a multiple of the size of huge pages. */
SUPPORT void *device_map(int fd, size_t bytes)
{
	const size_t unit = (size_t)2 << 20;
	char *room = mmap(NULL, bytes + unit, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *base;

	if (room == MAP_FAILED)
		support_die("mmap of room for a region");
	base = (char *)(((uintptr_t)room + unit - 1) / unit * unit);
	if (base != room)
		munmap(room, (size_t)(base - room));
	if (base + bytes != room + bytes + unit)
		munmap(base + bytes, (size_t)(room + unit - base));
	if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, fd,
		 (off_t)THAW_KMOD_MEMORY_OFFSET) == MAP_FAILED)
		support_die("mmap of a region");
	return base;
}

SUPPORT size_t device_ring_bytes(uint32_t entries)
{
	size_t bytes = THAW_KMOD_ENTRIES_AT + (size_t)entries * sizeof(struct thaw_kmod_dirty);

	return (bytes + KERNEL_PAGE - 1) / KERNEL_PAGE * KERNEL_PAGE;
}

/* All of it: created, registered, and mapped with its ring. */
SUPPORT void device_start(struct device *device, size_t bytes, size_t page_bytes,
			  uint32_t ring_entries, size_t restored_bytes, int image_fd)
{
	int error;

	*device = (struct device){
		.fd = device_open(O_NONBLOCK), .bytes = bytes, .page_bytes = page_bytes};
	error = device_create(device->fd, bytes);
	if (!error)
		error = device_register(device->fd, page_bytes, ring_entries, restored_bytes,
					image_fd);
	if (error) {
		errno = -error;
		support_die("a region cannot be made");
	}
	device->base = device_map(device->fd, bytes);
	device->ring_bytes = device_ring_bytes(ring_entries);
	device->ring = mmap(NULL, device->ring_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			    device->fd, (off_t)THAW_KMOD_RING_OFFSET);
	if (device->ring == MAP_FAILED)
		support_die("mmap of a ring");
	device->entries = (void *)((char *)device->ring + THAW_KMOD_ENTRIES_AT);
}

SUPPORT void device_stop(struct device *device)
{
	if (!device->base)
		return;
	munmap(device->ring, device->ring_bytes);
	munmap(device->base, device->bytes);
	close(device->fd);
	*device = (struct device){.fd = -1};
}

SUPPORT struct thaw_kmod_counters device_counters(const struct device *device)
{
	struct thaw_kmod_counters counters;

	if (device_call(device->fd, THAW_KMOD_COUNTERS, &counters))
		support_die("THAW_KMOD_COUNTERS");
	return counters;
}

/* FILL, ZERO_PAGES, POISON, WAKE, PREFETCH; 0 or -errno. */
SUPPORT int device_pages(const struct device *device, unsigned long request, uint64_t first,
			 uint64_t count, const void *source)
{
	struct thaw_kmod_pages pages = {
		.first = first, .count = count, .source = (uintptr_t)source};

	return device_call(device->fd, request, &pages);
}

SUPPORT int device_extents(const struct device *device, uint64_t first, uint64_t count,
			   const struct thaw_kmod_extent *extents)
{
	struct thaw_kmod_extents call = {
		.first = first, .count = count, .extents = (uintptr_t)extents};

	return device_call(device->fd, THAW_KMOD_EXTENTS, &call);
}

/* The next request, for which it waits as long as a hang takes to be one; false: there was none. */
SUPPORT bool device_request(const struct device *device, struct thaw_kmod_request *request)
{
	double end = support_deadline(20);

	while (support_seconds() < end) {
		struct pollfd ready = {device->fd, POLLIN, 0};

		if (poll(&ready, 1, 100) == 1 &&
		    read(device->fd, request, sizeof(*request)) == sizeof(*request))
			return true;
	}
	return false;
}

/* ---- Images ---- */

struct source {
	char *path;
	int fd;
	size_t page_bytes;
	uint64_t pages, salt;
	struct thaw_kmod_extent *extents;
};

SUPPORT uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	return *state ^= *state << 17;
}

/* The numbers below `count` in a random order, to be freed. */
SUPPORT uint32_t *shuffled(uint32_t count, uint64_t seed)
{
	uint32_t *numbers = calloc(count ? count : 1, sizeof(*numbers));
	uint64_t random = seed * 2654435761u + 88172645463325252ull;

	if (!numbers)
		support_die("no memory");
	for (uint32_t i = 0; i < count; i++) {
		uint32_t other = (uint32_t)(next_random(&random) % (i + 1));

		numbers[i] = numbers[other];
		numbers[other] = i;
	}
	return numbers;
}

/* One page in sixteen is zero, as often a whole cluster of them. */
SUPPORT bool source_is_zero(const struct source *source, uint64_t page)
{
	return page % 16 == 5 || page * source->page_bytes / CLUSTER % 16 == 9;
}

/* What must be in a page. */
SUPPORT void source_page(const struct source *source, uint64_t page, char *into)
{
	uint64_t random = (source->salt + page) * 0x9e3779b97f4a7c15ull + 1;

	memset(into, 0, source->page_bytes);
	if (!source_is_zero(source, page))
		for (size_t at = 0; at < source->page_bytes; at += sizeof(random)) {
			next_random(&random);
			memcpy(into + at, &random, sizeof(random));
		}
}

SUPPORT struct thaw_kmod_extent source_extent(const char *page, size_t page_bytes, uint64_t offset)
{
	XXH128_hash_t hash = XXH3_128bits(page, page_bytes);

	return (struct thaw_kmod_extent){
		.offset = offset, .encoding = THAW_KMOD_RAW, .checksum = {hash.low64, hash.high64}};
}

/*
 * An image of random pages. Most lie in the file in their order; a quarter of the runs of eight lies elsewhere, as in
 * an image that many checkpoints made; `offset` is where the first lies, in any alignment.
 */
SUPPORT void source_make(struct source *source, const char *directory, size_t page_bytes,
			 uint64_t pages, uint64_t offset)
{
	char *page = malloc(page_bytes);

	*source = (struct source){
		.path = support_format("%s/source-%llu-XXXXXX", directory, (long long)pages),
		.page_bytes = page_bytes,
		.pages = pages,
		.salt = page_bytes,
		.extents = calloc(pages, sizeof(struct thaw_kmod_extent))};
	source->fd = mkostemp(source->path, O_CLOEXEC);
	if (source->fd < 0 || !page || !source->extents)
		support_die(source->path);
	for (uint64_t i = 0; i < pages; i++) {
		uint64_t run = i / 8, slot = run % 4 == 1 && (run + 2) * 8 + 8 <= pages ? i + 16
					     : run % 4 == 3 && run >= 3			? i - 16
											: i;

		source_page(source, i, page);
		source->extents[i] = source_extent(page, page_bytes, offset + slot * page_bytes);
		if (source_is_zero(source, i))
			source->extents[i] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_ZERO};
		else if (pwrite(source->fd, page, page_bytes, (off_t)source->extents[i].offset) !=
			 (ssize_t)page_bytes)
			support_die(source->path);
	}
	free(page);
}

SUPPORT void source_free(struct source *source)
{
	if (!source->path)
		return;
	close(source->fd);
	unlink(source->path);
	free(source->path);
	free(source->extents);
	*source = (struct source){0};
}

SUPPORT bool source_matches(const struct source *source, uint64_t page, const void *contents)
{
	char right[65536];

	source_page(source, page, right);
	return !memcmp(right, contents, source->page_bytes);
}

/* A region of the image's pages and `fresh` bytes more, whose extents it has all been told. */
SUPPORT void device_restore(struct device *device, const struct source *source, size_t fresh)
{
	size_t restored = source->pages * source->page_bytes;

	device_start(device, restored + fresh, source->page_bytes, 4096, restored, source->fd);
	if (device_extents(device, 0, source->pages, source->extents))
		support_die("THAW_KMOD_EXTENTS");
}

/* ---- Harvests ---- */

/*
 * Takes everything that has been written: calls `found` for each page, after it is watched again. Returns how many
 * pages, or -errno.
 */
SUPPORT int64_t device_harvest(struct device *device, void (*found)(void *context, uint64_t page),
			       void *context)
{
	struct thaw_kmod_ring *ring = device->ring;
	struct thaw_kmod_reset reset = {0};
	uint32_t end = __atomic_load_n(&ring->dirty, __ATOMIC_ACQUIRE), count = end - ring->reset,
		 taken = 0;
	uint64_t *pages = malloc((count + 1) * sizeof(*pages)), rest[256];
	int64_t total;
	int error;

	if (!pages || count > ring->entries)
		support_die("the indices of the ring are wrong");
	for (uint32_t i = ring->reset; i != end; i++) {
		struct thaw_kmod_dirty *entry = &device->entries[i % ring->entries];

		if (entry->flags != THAW_KMOD_DIRTY)
			support_die("an entry that has no page");
		pages[taken++] = entry->page;
		entry->flags = THAW_KMOD_HARVESTED;
	}
	error = count ? device_call(device->fd, THAW_KMOD_RESET, &reset) : 0;
	if (!error && count && reset.done != count)
		support_die("THAW_KMOD_RESET left entries that are harvested");
	for (uint32_t i = 0; i < taken && !error; i++)
		found(context, pages[i]);
	free(pages);
	total = taken;
	for (uint64_t first = 0; !error && __atomic_load_n(&ring->overflowed, __ATOMIC_ACQUIRE);) {
		struct thaw_kmod_overflow overflow = {.first = first,
						      .pages = (uintptr_t)rest,
						      .room = sizeof(rest) / sizeof(rest[0])};

		error = device_call(device->fd, THAW_KMOD_OVERFLOW, &overflow);
		for (uint32_t i = 0; i < overflow.done && !error; i++)
			found(context, rest[i]);
		total += overflow.done;
		if (overflow.done < overflow.room)
			break;
		first = rest[overflow.done - 1] + 1;
	}
	return error ? error : total;
}

SUPPORT void found_in_set(void *context, uint64_t page)
{
	((uint8_t *)context)[page]++;
}

/* Into one byte for each page, how often it came. Returns how many came in all. */
SUPPORT int64_t device_harvest_set(struct device *device, uint8_t *set)
{
	memset(set, 0, device->bytes / device->page_bytes);
	return device_harvest(device, found_in_set, set);
}

/* ---- Touches that may fail ---- */

static _Thread_local sigjmp_buf touch_escape;
static _Thread_local volatile sig_atomic_t touching;

__attribute__((unused)) static void touch_failed(int signal_number)
{
	if (touching)
		siglongjmp(touch_escape, signal_number);
	signal(signal_number, SIG_DFL);
}

SUPPORT void touch_prepare(void)
{
	struct sigaction action = {.sa_handler = touch_failed, .sa_flags = SA_NODEFER};

	sigaction(SIGBUS, &action, NULL);
	sigaction(SIGSEGV, &action, NULL);
}

/* 0, or the signal that came of it. */
SUPPORT int touch_read(const void *address)
{
	int failed = sigsetjmp(touch_escape, 1);

	if (!failed) {
		touching = 1;
		(void)*(const volatile char *)address;
	}
	touching = 0;
	return failed;
}

SUPPORT int touch_write(void *address, char value)
{
	int failed = sigsetjmp(touch_escape, 1);

	if (!failed) {
		touching = 1;
		*(volatile char *)address = value;
	}
	touching = 0;
	return failed;
}

/* ---- The module ---- */

/* How many hold it, so that it cannot be unloaded; -1: not to be had. */
SUPPORT long module_users(void)
{
	FILE *file = fopen("/sys/module/thaw/refcnt", "re");
	long users = -1;

	if (file && fscanf(file, "%ld", &users) != 1)
		users = -1;
	if (file)
		fclose(file);
	return users;
}

/* What has been closed is let go a moment later, by a task's work: waits for it. */
SUPPORT bool module_users_become(long users)
{
	double end = support_deadline(20);

	while (module_users() != users && support_seconds() < end)
		support_sleep(0.01);
	return module_users() == users;
}

/* Minutes of the longer tier, by THAW_TEST_MINUTES; else so many seconds. */
SUPPORT double device_duration(double quick_seconds)
{
	const char *minutes = getenv("THAW_TEST_MINUTES");

	return minutes && atof(minutes) > 0 ? 60 * atof(minutes) : quick_seconds;
}

/* Of THAW_TEST_SEED, or of the clock; printed, so that it can be given again. */
SUPPORT uint64_t device_seed(void)
{
	const char *text = getenv("THAW_TEST_SEED");
	struct timespec now;
	uint64_t seed;

	clock_gettime(CLOCK_REALTIME, &now);
	seed = text ? strtoull(text, NULL, 0) : (uint64_t)now.tv_nsec | 1;
	fprintf(stderr, "# THAW_TEST_SEED=%llu\n", (unsigned long long)seed);
	return seed;
}

#endif
