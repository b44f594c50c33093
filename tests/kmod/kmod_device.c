// SPDX-License-Identifier: GPL-2.0-only
/*
 * /dev/thaw takes nothing on trust: each argument of each call is checked and refused with the errno that uffd/kmod.h
 * names, and what was refused changed nothing; what is mapped is shared and no larger than the region; nobody
 * without a privilege opens it; and the module stays as long as anything of it is open or mapped.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mount.h>
#include <sys/socket.h>

#include "device.h"

#define BYTES ((size_t)1 << 20)
#define PAGE 4096u
#define PAGES (BYTES / PAGE)
#define NOWHERE ((void *)(uintptr_t)0xffff800000001000ull) /* an address of the kernel's */

FIXTURE(device)
{
	int fd;
};
FIXTURE_SETUP(device)
{
	NEEDS_DEVICE();
	self->fd = device_open(O_NONBLOCK);
	touch_prepare();
}
FIXTURE_TEARDOWN(device)
{
	close(self->fd);
}

#define CALL(request, ...) device_call(self->fd, request, &(__VA_ARGS__))
#define CREATE(...) CALL(THAW_KMOD_CREATE, (struct thaw_kmod_create){__VA_ARGS__})
#define REGISTER(...) CALL(THAW_KMOD_REGISTER, (struct thaw_kmod_register){__VA_ARGS__})
#define PAGES_CALL(request, first, count, source)                             \
	device_pages(&(struct device){.fd = self->fd}, request, first, count, \
		     (const void *)(uintptr_t)(source))

static const unsigned long page_calls[] = {THAW_KMOD_FILL, THAW_KMOD_ZERO_PAGES, THAW_KMOD_POISON,
					   THAW_KMOD_WAKE, THAW_KMOD_PREFETCH};
#define PAGE_CALLS (sizeof(page_calls) / sizeof(page_calls[0]))

TEST_F(device, create_takes_a_version_and_a_size)
{
	EXPECT_EQ(-EINVAL, CREATE(.version = 0, .max_bytes = BYTES));
	EXPECT_EQ(-EINVAL, CREATE(.version = 2, .max_bytes = BYTES));
	EXPECT_EQ(-EINVAL, CREATE(.version = UINT32_MAX, .max_bytes = BYTES));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .zero = 1, .max_bytes = BYTES));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = 0));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = PAGE));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = BYTES + 1));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = BYTES + PAGE));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = THAW_KMOD_MAX_BYTES + 65536));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = 1ull << 63));
	EXPECT_EQ(-EINVAL, CREATE(.version = 1, .max_bytes = -(uint64_t)65536));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_CREATE, NULL));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_CREATE, NOWHERE));
	EXPECT_EQ(0, CREATE(.version = 1, .max_bytes = BYTES));
	EXPECT_EQ(-EBUSY, CREATE(.version = 1, .max_bytes = BYTES));
}

TEST_F(device, register_takes_sizes_and_a_file)
{
	int closed = dup(self->fd), directory = open("/", O_RDONLY | O_CLOEXEC);
	char *path = support_directory(), *name = support_format("%s/file", path);
	int only_path = open("/proc/self/exe", O_PATH | O_CLOEXEC);
	int write_only = open(name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600), pipes[2];

	ASSERT_EQ(0, pipe2(pipes, O_CLOEXEC));
	close(closed);
	EXPECT_EQ(-ENXIO, REGISTER(.page_bytes = PAGE, .image_fd = -1));
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 0, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 2048, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE + 1, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 3 * PAGE, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 131072, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 1u << 31, .image_fd = -1));
	for (uint32_t entries = 1; entries < 64; entries *= 2)
		EXPECT_EQ(-EINVAL,
			  REGISTER(.page_bytes = PAGE, .ring_entries = entries, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE, .ring_entries = 65, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE, .ring_entries = 2u << 20, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE, .ring_entries = 1u << 31, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE, .restored_bytes = 1, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = 16384, .restored_bytes = PAGE, .image_fd = -1));
	EXPECT_EQ(-EINVAL,
		  REGISTER(.page_bytes = PAGE, .restored_bytes = BYTES + PAGE, .image_fd = -1));
	EXPECT_EQ(-EINVAL,
		  REGISTER(.page_bytes = PAGE, .restored_bytes = -(uint64_t)PAGE, .image_fd = -1));
	EXPECT_EQ(-EINVAL, REGISTER(.page_bytes = PAGE, .zero = 1, .image_fd = -1));
	EXPECT_EQ(-EBADF, REGISTER(.page_bytes = PAGE, .image_fd = closed));
	EXPECT_EQ(-EBADF, REGISTER(.page_bytes = PAGE, .image_fd = INT32_MAX));
	EXPECT_EQ(-EBADF, REGISTER(.page_bytes = PAGE, .image_fd = only_path));
	/* What cannot be an image: it cannot be read, or is no file. */
	EXPECT_GT(0, REGISTER(.page_bytes = PAGE, .image_fd = -2));
	EXPECT_GT(0, REGISTER(.page_bytes = PAGE, .image_fd = write_only));
	EXPECT_GT(0, REGISTER(.page_bytes = PAGE, .image_fd = directory));
	EXPECT_GT(0, REGISTER(.page_bytes = PAGE, .image_fd = pipes[0]));
	EXPECT_GT(0, REGISTER(.page_bytes = PAGE, .image_fd = self->fd));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_REGISTER, NULL));

	EXPECT_EQ(0, REGISTER(.page_bytes = PAGE, .restored_bytes = BYTES, .image_fd = -1));
	EXPECT_EQ(-EBUSY, REGISTER(.page_bytes = PAGE, .restored_bytes = BYTES, .image_fd = -1));
	EXPECT_EQ(-EBUSY, CREATE(.version = 1, .max_bytes = BYTES));
	free(name);
	support_remove(path);
}

TEST_F(device, a_ring_may_have_the_least_and_the_most_entries)
{
	for (uint32_t entries = 64; entries <= 1u << 20; entries *= 128) {
		struct device device;

		device_start(&device, BYTES, 65536, entries, 0, -1);
		EXPECT_EQ(entries, device.ring->entries);
		EXPECT_EQ(0, device.ring->dirty);
		EXPECT_EQ(0, device.ring->reset);
		EXPECT_EQ(0, device.ring->overflowed);
		EXPECT_EQ(0, touch_read(&device.entries[entries - 1]));
		device_stop(&device);
	}
}

TEST_F(device, ranges_of_pages_are_checked)
{
	static char contents[4 * PAGE];

	for (size_t i = 0; i < PAGE_CALLS; i++)
		EXPECT_EQ(-ENXIO, PAGES_CALL(page_calls[i], 0, 1, 0));
	ASSERT_EQ(0, device_create(self->fd, 2 * BYTES));
	for (size_t i = 0; i < PAGE_CALLS; i++)
		EXPECT_EQ(-ENXIO, PAGES_CALL(page_calls[i], 0, 1, 0));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
	for (size_t i = 0; i < PAGE_CALLS; i++) {
		uint64_t source = page_calls[i] == THAW_KMOD_FILL ? (uintptr_t)contents : 0;

		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], PAGES, 1, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], PAGES - 1, 2, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], 0, PAGES + 1, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], 1, UINT64_MAX, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], UINT64_MAX, 1, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], UINT64_MAX, 2, source));
		EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], UINT64_MAX / PAGE + 1, 1, source));
		EXPECT_EQ(-EFAULT, device_call(self->fd, page_calls[i], NULL));
		if (page_calls[i] != THAW_KMOD_FILL)
			EXPECT_EQ(-EINVAL, PAGES_CALL(page_calls[i], 0, 1, (uintptr_t)contents));
	}
	EXPECT_EQ(0, device_counters(&(struct device){.fd = self->fd}).pages_restored);
}

TEST_F(device, filling_stops_where_the_source_does)
{
	char *source = mmap(NULL, 8 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
			    0),
	     *base;
	struct thaw_kmod_pages fill = {.first = 10, .count = 8, .source = (uintptr_t)source};

	ASSERT_NE(MAP_FAILED, source);
	memset(source, 'f', 8 * PAGE);
	munmap(source + 3 * PAGE, 5 * PAGE);
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
	EXPECT_EQ(-EFAULT, CALL(THAW_KMOD_FILL, fill));
	EXPECT_EQ(3, fill.done);
	fill = (struct thaw_kmod_pages){.first = 20, .count = 1};
	EXPECT_EQ(-EFAULT, CALL(THAW_KMOD_FILL, fill));
	EXPECT_EQ(0, fill.done);
	fill = (struct thaw_kmod_pages){.first = 20, .count = 1, .source = (uintptr_t)NOWHERE};
	EXPECT_EQ(-EFAULT, CALL(THAW_KMOD_FILL, fill));
	fill = (struct thaw_kmod_pages){.first = 20, .count = 2, .source = UINT64_MAX - PAGE};
	EXPECT_GT(0, CALL(THAW_KMOD_FILL, fill));
	EXPECT_EQ(3, device_counters(&(struct device){.fd = self->fd}).pages_restored);
	base = device_map(self->fd, BYTES);
	for (size_t page = 10; page < 13; page++)
		EXPECT_EQ('f', base[page * PAGE + 99]);
	/* What came in between is no hole: the call goes on behind it. */
	memset(source, 'g', 3 * PAGE);
	fill = (struct thaw_kmod_pages){.first = 12, .count = 3, .source = (uintptr_t)source};
	EXPECT_EQ(0, CALL(THAW_KMOD_FILL, fill));
	EXPECT_EQ(3, fill.done);
	EXPECT_EQ('f', base[12 * PAGE]);
	EXPECT_EQ('g', base[13 * PAGE]);
	EXPECT_EQ('g', base[14 * PAGE]);
}

TEST_F(device, extents_are_checked)
{
	struct thaw_kmod_extent extents[8] = {0};
	struct thaw_kmod_extents call = {.count = 8, .extents = (uintptr_t)extents};
	struct device device = {.fd = self->fd};

	EXPECT_EQ(-ENXIO, device_extents(&device, 0, 8, extents));
	ASSERT_EQ(0, device_create(self->fd, 2 * BYTES));
	EXPECT_EQ(-ENXIO, device_extents(&device, 0, 8, extents));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
	EXPECT_EQ(-EINVAL, device_extents(&device, PAGES - 7, 8, extents));
	EXPECT_EQ(-EINVAL, device_extents(&device, PAGES, 1, extents));
	EXPECT_EQ(-EINVAL, device_extents(&device, UINT64_MAX, 2, extents));
	EXPECT_EQ(-EINVAL, device_extents(&device, 8, UINT64_MAX - 3, extents));
	EXPECT_EQ(-EFAULT, device_extents(&device, 0, 8, NULL));
	EXPECT_EQ(-EFAULT, device_extents(&device, 0, 8, NOWHERE));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_EXTENTS, NULL));
	extents[5].encoding = 3;
	EXPECT_EQ(-EINVAL, CALL(THAW_KMOD_EXTENTS, call));
	EXPECT_LE(call.done, 5);
	extents[5] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_RAW, .zero = 1};
	EXPECT_EQ(-EINVAL, CALL(THAW_KMOD_EXTENTS, call));
	extents[5] = (struct thaw_kmod_extent){.encoding = UINT32_MAX};
	EXPECT_EQ(-EINVAL, CALL(THAW_KMOD_EXTENTS, call));
	extents[5] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_RAW, .offset = UINT64_MAX - 5};
	EXPECT_EQ(-EINVAL, CALL(THAW_KMOD_EXTENTS, call));
	extents[5] = (struct thaw_kmod_extent){.encoding = THAW_KMOD_RAW, .offset = 1ull << 63};
	EXPECT_EQ(-EINVAL, CALL(THAW_KMOD_EXTENTS, call));
	extents[5].encoding = THAW_KMOD_OTHER;
	EXPECT_EQ(0, CALL(THAW_KMOD_EXTENTS, call));
	EXPECT_EQ(8, call.done);
}

TEST_F(device, the_logs_are_checked)
{
	struct thaw_kmod_reset reset = {0};
	struct thaw_kmod_overflow overflow = {.room = 1};
	struct thaw_kmod_accessed accessed = {.room = 1};
	struct thaw_kmod_counters counters;

	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_RESET, reset));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_OVERFLOW, overflow));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_ACCESSED, accessed));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_COUNTERS, counters));
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_RESET, reset));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_OVERFLOW, overflow));
	EXPECT_EQ(-ENXIO, CALL(THAW_KMOD_ACCESSED, accessed));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	for (uint32_t most = 0; most < 3; most++) {
		reset = (struct thaw_kmod_reset){.most = most ? UINT32_MAX / most : 0, .done = 77};
		EXPECT_EQ(0, CALL(THAW_KMOD_RESET, reset));
		EXPECT_EQ(0, reset.done);
	}
	/* Nothing is in them, so nothing is written there. */
	overflow = (struct thaw_kmod_overflow){.first = UINT64_MAX, .room = UINT32_MAX};
	EXPECT_EQ(0, CALL(THAW_KMOD_OVERFLOW, overflow));
	EXPECT_EQ(0, overflow.done);
	accessed.room = UINT32_MAX;
	EXPECT_EQ(0, CALL(THAW_KMOD_ACCESSED, accessed));
	EXPECT_EQ(0, accessed.done);
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_RESET, NULL));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_OVERFLOW, NULL));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_ACCESSED, NULL));
	EXPECT_EQ(-EFAULT, device_call(self->fd, THAW_KMOD_COUNTERS, NOWHERE));
	memset(&counters, 0xff, sizeof(counters));
	ASSERT_EQ(0, CALL(THAW_KMOD_COUNTERS, counters));
	for (size_t i = 0; i < sizeof(counters) / sizeof(uint64_t); i++)
		EXPECT_EQ(0, ((uint64_t *)&counters)[i]);
}

TEST_F(device, calls_that_do_not_exist_are_refused)
{
	char argument[256] = {0};

	for (int registered = 0; registered < 2; registered++) {
		for (unsigned number = 0; number < 256; number++)
			if (number < 0xa0 || number > 0xab)
				EXPECT_EQ(-ENOTTY,
					  device_call(self->fd,
						      _IOWR('T', number, struct thaw_kmod_pages),
						      argument));
		/* The right number, and another size or direction. */
		EXPECT_EQ(-ENOTTY, device_call(self->fd, _IOW('T', 0xa0, uint64_t[1]), argument));
		EXPECT_EQ(-ENOTTY,
			  device_call(self->fd, _IOW('T', 0xa3, struct thaw_kmod_pages), argument));
		EXPECT_EQ(-ENOTTY, device_call(self->fd, _IO('T', 0xab), argument));
		EXPECT_EQ(-ENOTTY, device_call(self->fd, _IOR('U', 0xab, struct thaw_kmod_counters),
					       argument));
		if (!registered) {
			ASSERT_EQ(0, device_create(self->fd, BYTES));
			ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
		}
	}
}

/* ---- Mappings ---- */

#define MAP(length, protection, flags, offset) \
	mmap(NULL, length, protection, flags, self->fd, (off_t)(offset))
/* The memory's byte `at`. */
#define AT(at) (THAW_KMOD_MEMORY_OFFSET + (at))

TEST_F(device, mappings_are_shared_and_within_the_region)
{
	const int both = PROT_READ | PROT_WRITE;
	char *base, *last;

	EXPECT_EQ(MAP_FAILED, MAP(PAGE, both, MAP_SHARED, AT(0)));
	EXPECT_EQ(ENXIO, errno);
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	EXPECT_EQ(MAP_FAILED, MAP(BYTES, both, MAP_PRIVATE, AT(0)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(BYTES, PROT_READ, MAP_PRIVATE, AT(0)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(BYTES + PAGE, both, MAP_SHARED, AT(0)));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(BYTES, both, MAP_SHARED, AT(PAGE)));
	EXPECT_EQ(EINVAL, errno);
	/* In front of the memory, where nothing is. */
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, both, MAP_SHARED, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(2 * PAGE, both, MAP_SHARED, AT(0) - PAGE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, both, MAP_SHARED, AT(BYTES)));
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, both, MAP_SHARED, 1ull << 46));
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, both, MAP_SHARED, (1ull << 63) - PAGE));
	base = MAP(BYTES, both, MAP_SHARED, AT(0));
	ASSERT_NE(MAP_FAILED, base);
	/* Nothing is known of what is in it. */
	EXPECT_EQ(SIGBUS, touch_read(base));
	EXPECT_EQ(SIGBUS, touch_write(base + BYTES - 1, 1));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	last = MAP(PAGE, both, MAP_SHARED, AT(BYTES - PAGE));
	ASSERT_NE(MAP_FAILED, last);
	EXPECT_EQ(0, touch_write(base + BYTES - 1, 42));
	EXPECT_EQ(42, last[PAGE - 1]);
	/* Where the mapping grows beyond the region, nothing is. */
	last = mremap(last, PAGE, 4 * PAGE, MREMAP_MAYMOVE);
	if (last != MAP_FAILED)
		for (unsigned page = 1; page < 4; page++)
			EXPECT_EQ(SIGBUS, touch_read(last + page * PAGE));
}

/* A neighbour in the same file becomes one mapping with it, without the module being asked. */
TEST_F(device, what_a_mapping_grows_by_is_outside_of_the_region)
{
	const int both = PROT_READ | PROT_WRITE;
	struct thaw_kmod_counters counters;
	char *room, *base;

	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	room = mmap(NULL, BYTES + 32 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, room);
	base = room + 16 * PAGE;
	ASSERT_EQ(base, mmap(base, BYTES, both, MAP_SHARED | MAP_FIXED, self->fd, (off_t)AT(0)));
	/* Refused or not: nothing is there. */
	(void)mmap(room, 16 * PAGE, both, MAP_SHARED | MAP_FIXED, self->fd, 0);
	(void)mmap(base + BYTES, 16 * PAGE, both, MAP_SHARED | MAP_FIXED, self->fd,
		   (off_t)AT(BYTES));
	ASSERT_EQ(0, touch_read(base));
	EXPECT_NE(0, touch_read(base - PAGE));
	EXPECT_NE(0, touch_write(base - 1, 1));
	EXPECT_NE(0, touch_write(room, 1));
	EXPECT_NE(0, touch_read(base + BYTES));
	EXPECT_NE(0, touch_write(base + BYTES + 15 * PAGE, 1));
	ASSERT_EQ(0, CALL(THAW_KMOD_COUNTERS, counters));
	EXPECT_EQ(0, counters.pages_dirtied);
	EXPECT_EQ(1, counters.resident_pages);
	munmap(room, BYTES + 32 * PAGE);
}

/* How many lines of /proc/self/maps are of the device. */
static int mappings(void)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	char line[8192];
	int count = 0;

	while (maps && fgets(line, sizeof(line), maps))
		count += strstr(line, THAW_KMOD_DEVICE) != NULL;
	if (maps)
		fclose(maps);
	return count;
}

/* As a heap grows. A process has some 65,000 mappings. */
TEST_F(device, a_region_that_grows_in_many_steps_is_one_mapping)
{
	const size_t bytes = (size_t)64 << 20, step = 65536;
	char *base;

	ASSERT_EQ(0, device_create(self->fd, bytes));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	base = device_map(self->fd, bytes);
	ASSERT_EQ(0, mprotect(base, bytes, PROT_NONE));
	ASSERT_EQ(1, mappings());
	for (size_t at = 0; at < bytes; at += step) {
		ASSERT_EQ(0, mprotect(base + at, step, PROT_READ | PROT_WRITE));
		base[at] = 1;
	}
	EXPECT_EQ(1, mappings());
}

TEST_F(device, the_ring_is_mapped_where_it_is)
{
	const size_t ring_bytes = device_ring_bytes(512); /* three pages, or one of 64 KiB */
	char *ring, *tail;

	EXPECT_EQ(MAP_FAILED, MAP(PAGE, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET));
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET));
	EXPECT_EQ(ENXIO, errno);
	ASSERT_EQ(0, device_register(self->fd, PAGE, 512, 0, -1));
	EXPECT_EQ(MAP_FAILED,
		  MAP(ring_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE, THAW_KMOD_RING_OFFSET));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED,
		  MAP(ring_bytes + KERNEL_PAGE, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET + ring_bytes));
	EXPECT_EQ(MAP_FAILED, MAP(PAGE, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET - PAGE));
	ring = MAP(ring_bytes, PROT_READ, MAP_SHARED, THAW_KMOD_RING_OFFSET);
	ASSERT_NE(MAP_FAILED, ring);
	EXPECT_EQ(512, ((struct thaw_kmod_ring *)ring)->entries);
	/* A mapping of a part is that part, or is refused. */
	tail = MAP(KERNEL_PAGE, PROT_READ, MAP_SHARED,
		   THAW_KMOD_RING_OFFSET + ring_bytes - KERNEL_PAGE);
	if (tail != MAP_FAILED)
		EXPECT_EQ(0, memcmp(tail, ring + ring_bytes - KERNEL_PAGE, KERNEL_PAGE));
	ring = mremap(ring, ring_bytes, 8 * ring_bytes, MREMAP_MAYMOVE);
	if (ring != MAP_FAILED)
		for (size_t at = ring_bytes; at < 8 * ring_bytes; at += KERNEL_PAGE)
			EXPECT_EQ(SIGBUS, touch_read(ring + at));
}

TEST_F(device, the_largest_region_costs_nothing)
{
	struct thaw_kmod_counters counters;
	char *end;

	ASSERT_EQ(0, device_create(self->fd, THAW_KMOD_MAX_BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, THAW_KMOD_MAX_BYTES - 65536, -1));
	end = MAP(131072, PROT_READ | PROT_WRITE, MAP_SHARED, AT(THAW_KMOD_MAX_BYTES - 131072));
	ASSERT_NE(MAP_FAILED, end);
	EXPECT_EQ(0, PAGES_CALL(THAW_KMOD_ZERO_PAGES, (THAW_KMOD_MAX_BYTES - 131072) / PAGE, 1, 0));
	EXPECT_EQ(0, touch_read(end));
	EXPECT_EQ(0, touch_write(end + 131071, 5));
	EXPECT_EQ(0, touch_write(end, 5));
	ASSERT_EQ(0, CALL(THAW_KMOD_COUNTERS, counters));
	EXPECT_GE(counters.resident_pages, 2);
	EXPECT_LE(counters.resident_pages, 32);
	EXPECT_EQ(2, counters.pages_dirtied);
}

/* Memory is reached by mappings alone: what sparse files can do besides would pass the log by. */
TEST_F(device, there_is_no_other_way_into_the_memory)
{
	char byte = 1, *base;

	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	base = device_map(self->fd, BYTES);
	memset(base, 7, BYTES);
	EXPECT_EQ(-1, write(self->fd, &byte, 1));
	EXPECT_EQ(-1, pwrite(self->fd, &byte, 1, 0));
	EXPECT_EQ(-1, ftruncate(self->fd, PAGE));
	EXPECT_EQ(-1, fallocate(self->fd, 0x03, 0, PAGE)); /* a hole */
	EXPECT_EQ(-1, madvise(base, BYTES, MADV_REMOVE));
	for (size_t at = 0; at < BYTES; at += PAGE)
		ASSERT_EQ(7, base[at]);
}

/* ---- The descriptor ---- */

TEST_F(device, reading_gives_whole_requests_only)
{
	struct thaw_kmod_request request;
	struct pollfd ready = {self->fd, POLLIN, 0};

	EXPECT_EQ(-1, read(self->fd, &request, sizeof(request)));
	EXPECT_EQ(ENXIO, errno);
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	EXPECT_EQ(-1, read(self->fd, &request, sizeof(request)));
	EXPECT_EQ(ENXIO, errno);
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
	EXPECT_EQ(-1, read(self->fd, &request, sizeof(request)));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(-1, read(self->fd, &request, sizeof(request) - 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(0, poll(&ready, 1, 0));
}

static void do_nothing(int signal_number)
{
	(void)signal_number;
}

/* Sends signals until it is told that one has interrupted. */
struct interrupter {
	pthread_t thread, whom;
	_Atomic bool done;
};

static void *interrupt(void *argument)
{
	struct interrupter *interrupter = argument;

	while (!atomic_load(&interrupter->done)) {
		pthread_kill(interrupter->whom, SIGUSR1);
		support_sleep(0.01);
	}
	return NULL;
}

TEST_F(device, a_signal_interrupts_reading)
{
	struct sigaction action = {.sa_handler = do_nothing};
	struct interrupter interrupter = {.whom = pthread_self()};
	struct thaw_kmod_request request;

	fcntl(self->fd, F_SETFL, 0);
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, BYTES, -1));
	sigaction(SIGUSR1, &action, NULL);
	ASSERT_EQ(0, pthread_create(&interrupter.thread, NULL, interrupt, &interrupter));
	EXPECT_EQ(-1, read(self->fd, &request, sizeof(request)));
	EXPECT_EQ(EINTR, errno);
	atomic_store(&interrupter.done, true);
	pthread_join(interrupter.thread, NULL);
}

TEST_F(device, only_root_may_open_it)
{
	struct stat status;
	int result;

	ASSERT_EQ(0, stat(THAW_KMOD_DEVICE, &status));
	if ((status.st_mode & 0777) != 0600)
		SKIP(return, "the module was loaded with another mode, %o", status.st_mode & 0777);
	if (geteuid())
		SKIP(return, "only root can become somebody else");
	if (!fork()) {
		if (setgid(65534) || setuid(65534))
			_exit(2);
		_exit(open(THAW_KMOD_DEVICE, O_RDWR) >= 0 ? 1 : errno == EACCES ? 0 : 3);
	}
	ASSERT_LT(0, wait(&result));
	EXPECT_EQ(0, result);
}

/*
 * The kernel takes an open file for one of tmpfs, because its memory is, and looks for what tmpfs remembers of it in
 * front of the node's inode, where another file system has something else.
 */
TEST_F(device, a_node_elsewhere_than_in_a_tmpfs_is_refused)
{
	char *directory = support_directory(), *path = support_format("%s/node", directory);
	struct stat status;
	int fd;

	ASSERT_EQ(0, stat(THAW_KMOD_DEVICE, &status));
	if (mount("ramfs", directory, "ramfs", 0, NULL)) {
		support_remove(directory);
		SKIP(return, "only root can mount a file system");
	}
	EXPECT_EQ(0, mknod(path, S_IFCHR | 0600, status.st_rdev));
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(-1, fd);
	EXPECT_EQ(EOPNOTSUPP, errno);
	if (fd >= 0)
		close(fd);
	EXPECT_EQ(0, umount(directory));
	ASSERT_EQ(0, mount("tmpfs", directory, "tmpfs", 0, NULL));
	EXPECT_EQ(0, mknod(path, S_IFCHR | 0600, status.st_rdev));
	fd = open(path, O_RDWR | O_CLOEXEC);
	EXPECT_LE(0, fd);
	EXPECT_EQ(0, device_create(fd, BYTES));
	EXPECT_EQ(-1, fcntl(fd, F_ADD_SEALS, F_SEAL_GROW));
	close(fd);
	EXPECT_EQ(0, umount(directory));
	support_remove(directory);
	free(path);
}

/* A region is the open file's, not the process's. */
TEST_F(device, an_open_file_can_be_passed_on)
{
	int pair[2], status;
	union {
		struct cmsghdr header;
		char room[CMSG_SPACE(sizeof(int))];
	} control = {.header = {CMSG_LEN(sizeof(int)), SOL_SOCKET, SCM_RIGHTS}};
	struct iovec text = {"x", 1};
	struct msghdr message = {.msg_iov = &text,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	char *base;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	if (!fork()) {
		char byte;
		int fd;

		close(self->fd);
		text.iov_base = &byte;
		if (recvmsg(pair[1], &message, 0) != 1)
			_exit(2);
		memcpy(&fd, CMSG_DATA(&control.header), sizeof(fd));
		base = device_map(fd, BYTES);
		if (base[5] != 'p')
			_exit(3);
		base[7] = 'c';
		_exit(device_pages(&(struct device){.fd = fd}, THAW_KMOD_ZERO_PAGES, 1, 1, NULL)
			      ? 4
			      : 0);
	}
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 2 * PAGE, -1));
	base = device_map(self->fd, BYTES);
	ASSERT_EQ(0, PAGES_CALL(THAW_KMOD_ZERO_PAGES, 0, 1, 0));
	base[5] = 'p';
	memcpy(CMSG_DATA(&control.header), &self->fd, sizeof(self->fd));
	ASSERT_EQ(1, sendmsg(pair[0], &message, 0));
	ASSERT_LT(0, wait(&status));
	EXPECT_EQ(0, status);
	EXPECT_EQ('c', base[7]);
	EXPECT_EQ(0, base[PAGE]);
}

TEST_F(device, a_region_lives_as_long_as_a_mapping_of_it)
{
	char *base, *part;

	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	base = device_map(self->fd, BYTES);
	close(self->fd);
	memset(base, 3, BYTES);
	part = base + 8 * PAGE;
	munmap(base, 8 * PAGE);
	munmap(part + 2 * PAGE, BYTES - 10 * PAGE);
	EXPECT_EQ(3, part[0]);
	EXPECT_EQ(0, touch_write(part + PAGE, 4));
	EXPECT_EQ(4, part[PAGE]);
}

static int unload(void)
{
	return syscall(SYS_delete_module, "thaw", O_NONBLOCK) ? errno : 0;
}

TEST_F(device, the_module_stays_while_it_is_used)
{
	char *base;
	long users;

	if (geteuid())
		SKIP(return, "only root can unload a module");
	close(self->fd);
	users = module_users();
	if (users < 0)
		SKIP(return, "the kernel does not say how many use the module");
	self->fd = device_open(0);
	EXPECT_EQ(users + 1, module_users());
	EXPECT_EQ(EAGAIN, unload());
	ASSERT_EQ(0, device_create(self->fd, BYTES));
	ASSERT_EQ(0, device_register(self->fd, PAGE, 64, 0, -1));
	base = device_map(self->fd, BYTES);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(EAGAIN, unload());
	EXPECT_EQ(0, touch_write(base, 1));
	munmap(base, BYTES);
	EXPECT_TRUE(module_users_become(users));
}

TEST_HARNESS_MAIN
