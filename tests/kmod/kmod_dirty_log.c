// SPDX-License-Identifier: GPL-2.0-only
/*
 * The log of first writes: each page once until it is watched again, whoever writes and through which mapping; reads
 * never; what finds no room is kept; a harvest watches again exactly what it took. What user space scribbles into the
 * ring harms nobody.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "device.h"

#define PAGES 1024u
#define RING 2048u

FIXTURE(log)
{
	struct device device;
	size_t page_bytes;
	uint8_t *set; /* how often each page came in the last harvest */
};
FIXTURE_VARIANT(log)
{
	size_t page_bytes; /* 0: the kernel's */
};
FIXTURE_VARIANT_ADD(log, of_the_kernels_pages){0};
FIXTURE_VARIANT_ADD(log, of_16_kib){.page_bytes = 16384};

FIXTURE_SETUP(log)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->page_bytes = variant->page_bytes ? variant->page_bytes : KERNEL_PAGE;
	if (self->page_bytes < KERNEL_PAGE)
		SKIP(return, "the kernel's pages are larger");
	self->set = calloc(1, PAGES);
	device_start(&self->device, PAGES * self->page_bytes, self->page_bytes, RING, 0, -1);
}
FIXTURE_TEARDOWN(log)
{
	device_stop(&self->device);
	free(self->set);
}

#define AT(page) (self->device.base + (size_t)(page)*self->page_bytes)
#define HARVEST() device_harvest_set(&self->device, self->set)

static int reset(const struct device *device, uint32_t most, uint32_t *done)
{
	struct thaw_kmod_reset call = {.most = most};
	int error = device_call(device->fd, THAW_KMOD_RESET, &call);

	*done = call.done;
	return error;
}

TEST_F(log, a_first_write_is_told_once)
{
	for (int round = 0; round < 5; round++) {
		for (int times = 0; times < 3; times++)
			for (unsigned page = round; page < PAGES; page += 7)
				AT(page)[(times * 1111 + round) % self->page_bytes]++;
		EXPECT_EQ((PAGES - round + 6) / 7, HARVEST());
		for (unsigned page = 0; page < PAGES; page++)
			ASSERT_EQ(page % 7 == (unsigned)round, self->set[page]);
		EXPECT_EQ(0, HARVEST());
	}
	EXPECT_EQ(5, device_counters(&self->device).harvests);
	EXPECT_EQ(device_counters(&self->device).pages_dirtied,
		  device_counters(&self->device).pages_harvested);
	EXPECT_EQ(0, device_counters(&self->device).overflows);
}

/* Of a page of several of the kernel's, each of these may be the one that is written. */
TEST_F(log, any_byte_of_a_page_is_the_page)
{
	for (size_t at = 0; at < self->page_bytes; at += KERNEL_PAGE) {
		AT(9)[at + KERNEL_PAGE - 1]++;
		ASSERT_EQ(1, HARVEST());
		ASSERT_EQ(1, self->set[9]);
		/* Written by another one in between, too. */
		AT(9)[self->page_bytes - 1 - at]++;
		AT(9)[at]++;
		ASSERT_EQ(1, HARVEST());
	}
}

TEST_F(log, reads_are_never_told)
{
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	for (int harvested = 0; harvested < 2; harvested++) {
		for (unsigned page = 0; page < PAGES; page++)
			ASSERT_EQ(0, touch_read(AT(page)));
		madvise(self->device.base, self->device.bytes, MADV_POPULATE_READ);
		ASSERT_EQ(100, write(pipes[1], AT(5), 100));
		EXPECT_EQ(0, self->device.ring->dirty - self->device.ring->reset);
		/* Again, when all have been written once. */
		memset(self->device.base, 1, self->device.bytes);
		EXPECT_EQ(PAGES, HARVEST());
	}
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_EQ(0, touch_read(AT(page)));
	EXPECT_EQ(0, HARVEST());
}

TEST_F(log, the_kernel_writes_for_a_process)
{
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(3, write(pipes[1], "abc", 3));
	ASSERT_EQ(3, read(pipes[0], AT(17) + 100, 3));
	EXPECT_EQ(1, HARVEST());
	EXPECT_EQ(1, self->set[17]);
	ASSERT_EQ(1, write(pipes[1], "d", 1));
	ASSERT_EQ(1, read(pipes[0], AT(17), 1));
	ASSERT_EQ(0, clock_gettime(CLOCK_REALTIME, (void *)AT(18)));
	ASSERT_EQ(0, clock_getres(CLOCK_REALTIME, (void *)AT(18)));
	EXPECT_EQ(2, HARVEST());
	EXPECT_EQ(1, self->set[17]);
	EXPECT_EQ(1, self->set[18]);
}

TEST_F(log, a_harvest_watches_what_it_took_and_nothing_else)
{
	struct thaw_kmod_ring *ring = self->device.ring;
	uint32_t done, before;

	for (unsigned page = 0; page < 10; page++)
		AT(100 + page)[0]++;
	ASSERT_EQ(10, ring->dirty);
	/* Entries 0 to 4, 6 and 7 are marked: what lies behind the first that is not, stays. */
	for (unsigned i = 0; i < 8; i++)
		if (i != 5)
			self->device.entries[i].flags = THAW_KMOD_HARVESTED;
	ASSERT_EQ(0, reset(&self->device, 3, &done));
	EXPECT_EQ(3, done);
	EXPECT_EQ(3, ring->reset);
	ASSERT_EQ(0, reset(&self->device, 0, &done));
	EXPECT_EQ(2, done);
	EXPECT_EQ(5, ring->reset);
	ASSERT_EQ(0, reset(&self->device, 0, &done));
	EXPECT_EQ(0, done);
	before = ring->dirty;
	for (unsigned page = 0; page < 10; page++)
		AT(100 + page)[0]++;
	ASSERT_EQ(before + 5, ring->dirty);
	for (unsigned i = 0; i < 5; i++)
		EXPECT_EQ(100 + i, self->device.entries[10 + i].page);
}

/* What user space marks that no write has made is none of the ring. */
TEST_F(log, a_reset_ends_where_the_writes_do)
{
	uint32_t done;

	for (unsigned i = 0; i < RING; i++)
		self->device.entries[i] =
			(struct thaw_kmod_dirty){.flags = THAW_KMOD_HARVESTED, .page = i};
	for (unsigned page = 0; page < 3; page++)
		AT(page)[0]++;
	for (unsigned i = 0; i < 3; i++)
		self->device.entries[i].flags = THAW_KMOD_HARVESTED;
	ASSERT_EQ(0, reset(&self->device, 0, &done));
	EXPECT_EQ(3, done);
	EXPECT_EQ(3, self->device.ring->reset);
	EXPECT_EQ(3, self->device.ring->dirty);
}

TEST_F(log, what_finds_no_room_is_kept)
{
	struct device small;
	uint64_t pages[100], told = 0, first = 0;
	struct thaw_kmod_overflow call;
	uint32_t done;
	uint8_t *set = calloc(1, PAGES);

	device_start(&small, self->device.bytes, self->page_bytes, 64, 0, -1);
	for (unsigned page = 0; page < PAGES; page++)
		small.base[(PAGES - 1 - page) * self->page_bytes]++;
	EXPECT_EQ(64, small.ring->dirty);
	EXPECT_EQ(PAGES - 64, small.ring->overflowed);
	EXPECT_EQ(PAGES - 64, device_counters(&small).overflows);
	/* A call that fails keeps what it could not give. */
	call = (struct thaw_kmod_overflow){.room = 10};
	EXPECT_EQ(-EFAULT, device_call(small.fd, THAW_KMOD_OVERFLOW, &call));
	EXPECT_EQ(0, call.done);
	do {
		call = (struct thaw_kmod_overflow){
			.first = first, .pages = (uintptr_t)pages, .room = 100};
		ASSERT_EQ(0, device_call(small.fd, THAW_KMOD_OVERFLOW, &call));
		for (unsigned i = 0; i < call.done; i++) {
			ASSERT_LT(pages[i], PAGES);
			ASSERT_LE(first, pages[i]);
			first = pages[i] + 1;
			set[pages[i]]++;
		}
		told += call.done;
	} while (call.done == call.room);
	EXPECT_EQ(PAGES - 64, told);
	EXPECT_EQ(0, small.ring->overflowed);
	/* They are watched again, those of the ring are not yet. */
	memset(small.base, 9, small.bytes);
	EXPECT_EQ(PAGES - 64, small.ring->overflowed);
	for (unsigned i = 0; i < 64; i++) {
		set[small.entries[i].page]++;
		small.entries[i].flags = THAW_KMOD_HARVESTED;
	}
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_EQ(1, set[page]);
	ASSERT_EQ(0, reset(&small, 0, &done));
	EXPECT_EQ(64, done);
	memset(small.base, 8, small.bytes);
	EXPECT_EQ(128, small.ring->dirty);
	EXPECT_EQ(PAGES, device_harvest_set(&small, set));
	for (unsigned page = 0; page < PAGES; page++)
		ASSERT_EQ(1, set[page]);
	device_stop(&small);
	free(set);
}

/* The indices go round and round; what comes is right every time. */
TEST_F(log, the_ring_is_used_again_and_again)
{
	struct device small;
	uint64_t random = 12345;
	uint8_t *set = calloc(1, PAGES), *wanted = calloc(1, PAGES);

	device_start(&small, self->device.bytes, self->page_bytes, 64, 0, -1);
	for (int round = 0; round < 300; round++) {
		unsigned writes = (unsigned)(next_random(&random) % (round % 10 ? 64 : 150));

		memset(wanted, 0, PAGES);
		for (unsigned i = 0; i < writes; i++) {
			unsigned page = (unsigned)(next_random(&random) % PAGES);

			small.base[page * self->page_bytes + i]++;
			wanted[page] = 1;
		}
		ASSERT_LE(0, device_harvest_set(&small, set));
		ASSERT_EQ(0, memcmp(wanted, set, PAGES));
	}
	EXPECT_LT(64 * 50, small.ring->dirty);
	device_stop(&small);
	free(wanted);
	free(set);
}

/* ---- Mappings ---- */

TEST_F(log, all_mappings_are_one_log)
{
	char *other = device_map(self->device.fd, self->device.bytes);
	char *part = mmap(NULL, 8 * self->page_bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			  self->device.fd,
			  (off_t)(THAW_KMOD_MEMORY_OFFSET + 16 * self->page_bytes));

	ASSERT_NE(MAP_FAILED, part);
	for (int round = 0; round < 4; round++) {
		AT(16)[0]++;
		other[16 * self->page_bytes]++;
		part[0]++;
		EXPECT_EQ(1, HARVEST());
		EXPECT_EQ(1, self->set[16]);
	}
	/* A harvest watches all of them. */
	other[17 * self->page_bytes]++;
	part[2 * self->page_bytes]++;
	AT(19)[0]++;
	EXPECT_EQ(3, HARVEST());
	AT(16)[0]++;
	EXPECT_EQ(1, HARVEST());
	part[0]++;
	EXPECT_EQ(1, HARVEST());
	EXPECT_EQ(AT(16)[0], part[0]);
	EXPECT_EQ(other[16 * self->page_bytes], part[0]);
}

TEST_F(log, a_childs_writes_are_told_too)
{
	int status;

	memset(self->device.base, 1, self->device.bytes);
	ASSERT_EQ(PAGES, HARVEST());
	for (int round = 0; round < 3; round++) {
		AT(1)[0]++;
		if (!fork()) {
			for (unsigned page = 1; page < PAGES; page += 9)
				AT(page)[4]++;
			/* And harvests, for the child has the log as well. */
			if (round == 2) {
				_exit(HARVEST() != (PAGES + 7) / 9);
			}
			_exit(0);
		}
		ASSERT_LT(0, wait(&status));
		ASSERT_EQ(0, status);
		ASSERT_EQ(round == 2 ? 0 : (PAGES + 7) / 9, HARVEST());
		for (unsigned page = 0; page < PAGES; page++)
			ASSERT_EQ(round < 2 && page % 9 == 1, self->set[page]);
	}
	/* The parent's pages are watched after the child's harvest. */
	AT(1)[0]++;
	EXPECT_EQ(1, HARVEST());
}

/* The child that lives on has its own page tables: they are watched, too. */
TEST_F(log, a_harvest_reaches_the_child)
{
	int to[2], back[2], status;
	char byte = 0;

	ASSERT_EQ(0, pipe(to) | pipe(back));
	if (!fork()) {
		while (read(to[0], &byte, 1) == 1 && byte) {
			AT(50)[0]++;
			if (write(back[1], &byte, 1) != 1)
				_exit(2);
		}
		_exit(0);
	}
	for (int round = 0; round < 5; round++) {
		byte = 1;
		ASSERT_EQ(1, write(to[1], &byte, 1));
		ASSERT_EQ(1, read(back[0], &byte, 1));
		ASSERT_EQ(1, HARVEST());
		ASSERT_EQ(1, self->set[50]);
	}
	byte = 0;
	ASSERT_EQ(1, write(to[1], &byte, 1));
	ASSERT_LT(0, wait(&status));
	EXPECT_EQ(0, status);
}

TEST_F(log, changed_mappings_stay_watched)
{
	const size_t part = 8 * self->page_bytes;
	char *moved;

	memset(self->device.base, 1, self->device.bytes);
	ASSERT_EQ(PAGES, HARVEST());
	/* Protection taken and given back. */
	ASSERT_EQ(0, mprotect(AT(8), part, PROT_READ));
	EXPECT_EQ(SIGSEGV, touch_write(AT(8), 1));
	ASSERT_EQ(0, mprotect(AT(8), part, PROT_READ | PROT_WRITE));
	EXPECT_EQ(0, HARVEST());
	AT(8)[0]++;
	EXPECT_EQ(1, HARVEST());
	/* Dirty, not harvested yet, and protected meanwhile: told once. */
	AT(9)[0]++;
	ASSERT_EQ(0, mprotect(AT(8), part, PROT_NONE));
	EXPECT_EQ(1, HARVEST());
	ASSERT_EQ(0, mprotect(AT(8), part, PROT_READ | PROT_WRITE));
	AT(9)[0]++;
	EXPECT_EQ(1, HARVEST());
	/* Moved. */
	moved = mremap(AT(24), part, part, MREMAP_MAYMOVE | MREMAP_FIXED, AT(40));
	ASSERT_EQ(AT(40), moved);
	moved[0]++;
	moved[self->page_bytes]++;
	EXPECT_EQ(2, HARVEST());
	EXPECT_EQ(1, self->set[24]);
	EXPECT_EQ(1, self->set[25]);
	moved[0]++;
	EXPECT_EQ(1, HARVEST());
	/* Unmapped while dirty; and mapped again. */
	AT(100)[0] = 77;
	ASSERT_EQ(0, munmap(AT(96), part));
	EXPECT_EQ(1, HARVEST());
	ASSERT_EQ(AT(96),
		  mmap(AT(96), part, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
		       self->device.fd, (off_t)(THAW_KMOD_MEMORY_OFFSET + 96 * self->page_bytes)));
	EXPECT_EQ(77, AT(100)[0]);
	EXPECT_EQ(0, HARVEST());
	AT(100)[0]++;
	EXPECT_EQ(1, HARVEST());
	EXPECT_EQ(1, self->set[100]);
	/* Forgotten by the page table, not by the region. */
	AT(200)[0] = 5;
	ASSERT_EQ(0, madvise(AT(200), part, MADV_DONTNEED));
	EXPECT_EQ(5, AT(200)[0]);
	EXPECT_EQ(1, HARVEST());
	ASSERT_EQ(0, madvise(AT(200), part, MADV_DONTNEED));
	AT(200)[0]++;
	EXPECT_EQ(1, HARVEST());
}

TEST_F(log, a_mapping_that_is_made_later_is_watched)
{
	char *later;

	memset(self->device.base, 1, self->device.bytes);
	ASSERT_EQ(PAGES, HARVEST());
	later = mmap(NULL, self->device.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE,
		     self->device.fd, (off_t)THAW_KMOD_MEMORY_OFFSET);
	ASSERT_NE(MAP_FAILED, later);
	HARVEST(); /* to populate for writing is to write */
	for (unsigned page = 3; page < PAGES; page += 100)
		later[page * self->page_bytes]++;
	EXPECT_EQ((PAGES - 3 + 99) / 100, HARVEST());
	EXPECT_EQ(1, self->set[103]);
}

/* ---- Being told ---- */

struct writer {
	pthread_t thread;
	struct device *device;
	unsigned from, to;
};

static void *write_pages(void *argument)
{
	struct writer *writer = argument;

	for (unsigned page = writer->from; page < writer->to; page++)
		writer->device->base[page * writer->device->page_bytes]++;
	return NULL;
}

TEST_F(log, poll_reports_a_ring_that_fills)
{
	struct pollfd ready = {.events = POLLPRI};
	struct writer writer;
	struct device ring;
	unsigned limit;

	device_start(&ring, self->device.bytes, self->page_bytes, 64, 0, -1);
	limit = ring.ring->soft_limit;
	ASSERT_LT(1, limit);
	ASSERT_LT(limit, 62);
	ready.fd = ring.fd;
	writer = (struct writer){.device = &ring, .from = limit - 1, .to = limit + 2};
	EXPECT_EQ(0, poll(&ready, 1, 0));
	for (unsigned page = 0; page < limit - 1; page++)
		ring.base[page * self->page_bytes]++;
	EXPECT_EQ(0, poll(&ready, 1, 0));
	/* Who waits is woken. */
	ASSERT_EQ(0, pthread_create(&writer.thread, NULL, write_pages, &writer));
	EXPECT_EQ(1, poll(&ready, 1, 60000));
	EXPECT_EQ(POLLPRI, ready.revents);
	pthread_join(writer.thread, NULL);
	EXPECT_EQ(1, poll(&ready, 1, 0));
	EXPECT_EQ(limit + 2, device_harvest_set(&ring, self->set));
	EXPECT_EQ(0, poll(&ready, 1, 0));
	device_stop(&ring);
}

/* ---- A ring that somebody spoils ---- */

TEST_F(log, a_spoiled_ring_harms_nobody)
{
	uint64_t random = 777, numbers[64];
	struct device other;

	device_start(&other, self->device.bytes, self->page_bytes, 64, 0, -1);
	for (int round = 0; round < 400; round++) {
		struct thaw_kmod_overflow overflow = {.pages = (uintptr_t)numbers, .room = 64};
		uint64_t *words = (uint64_t *)self->device.ring;
		uint32_t done;

		for (int i = 0; i < 50; i++)
			AT(next_random(&random) % PAGES)[i]++;
		/* All of it, or single fields: the indices, the number of entries, an entry's page. */
		for (size_t i = 0; i < (round % 8 ? 30 : self->device.ring_bytes / 8); i++) {
			size_t word = round % 8 == 0 ? i
				      : round % 2    ? next_random(&random) % 4
						     : 512 + i;

			words[word] = round % 3 ? next_random(&random) : UINT64_MAX;
		}
		for (unsigned i = 0; i < RING; i += 1 + round % 3)
			self->device.entries[i].flags = THAW_KMOD_HARVESTED;
		reset(&self->device, (uint32_t)(next_random(&random) % 40), &done);
		EXPECT_LE(done, RING);
		device_call(self->device.fd, THAW_KMOD_OVERFLOW, &overflow);
		poll(&(struct pollfd){self->device.fd, POLLPRI | POLLIN, 0}, 1, 0);
		ASSERT_LE(device_counters(&self->device).pages_harvested,
			  device_counters(&self->device).pages_dirtied);
		other.base[round % PAGES * self->page_bytes]++;
	}
	EXPECT_LE(64, device_harvest_set(&other, self->set));
	for (unsigned page = 0; page < 400; page++)
		EXPECT_EQ(1, self->set[page]);
	device_stop(&other);
}

TEST_HARNESS_MAIN
