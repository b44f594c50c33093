// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel can bring alone: each page of an image arrives with the contents that its checksum tells, whoever
 * touches it first and how: in any order, from several threads, through system calls and from other processes,
 * whatever lies where in the file. Nobody ever sees another content in between. What is counted adds up.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <liburing.h>
#include <linux/futex.h>
#include <sys/uio.h>

#include "device.h"

#define BYTES ((size_t)4 << 20)
#define THREADS 4

FIXTURE(arrival)
{
	char *directory;
	struct source source;
	struct device device;
	size_t page_bytes;
	uint32_t pages;
};
FIXTURE_VARIANT(arrival)
{
	size_t page_bytes; /* 0: the kernel's */
	uint64_t offset;   /* of the first page in the file */
};
FIXTURE_VARIANT_ADD(arrival, of_the_kernels_pages){.offset = 65536};
FIXTURE_VARIANT_ADD(arrival, of_pages_that_lie_across_the_kernels){.offset = 512 + 8};
FIXTURE_VARIANT_ADD(arrival, of_16_kib){.page_bytes = 16384, .offset = 4096};
FIXTURE_VARIANT_ADD(arrival, of_64_kib){.page_bytes = 65536, .offset = 3 * 4096};

FIXTURE_SETUP(arrival)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->page_bytes = variant->page_bytes ? variant->page_bytes : KERNEL_PAGE;
	if (self->page_bytes < KERNEL_PAGE)
		SKIP(return, "the kernel's pages are larger");
	self->pages = (uint32_t)(BYTES / self->page_bytes);
	self->directory = support_directory();
	source_make(&self->source, self->directory, self->page_bytes, self->pages, variant->offset);
	device_restore(&self->device, &self->source, BYTES);
}
FIXTURE_TEARDOWN(arrival)
{
	device_stop(&self->device);
	source_free(&self->source);
	support_remove(self->directory);
}

/* Another region of the same image, of which nothing has arrived. */
static void again(struct device *device, const struct source *source)
{
	device_stop(device);
	device_restore(device, source, BYTES);
}

static uint32_t wrong_pages(const struct device *device, const struct source *source)
{
	uint32_t wrong = 0;

	for (uint64_t page = 0; page < source->pages; page++)
		wrong += !source_matches(source, page, device->base + page * source->page_bytes);
	return wrong;
}

/* Nobody was asked, and nothing failed. */
#define EXPECT_SERVED_ALONE(counters)                    \
	do {                                             \
		EXPECT_EQ(0, (counters).faults_passed);  \
		EXPECT_EQ(0, (counters).read_errors);    \
		EXPECT_EQ(0, (counters).pages_poisoned); \
	} while (0)

TEST_F(arrival, every_page_is_right_in_any_order)
{
	uint32_t *order = shuffled(self->pages, 1), pages = self->pages;

	for (int way = 0; way < 4; way++) {
		uint64_t raw = 0;
		struct thaw_kmod_counters counters;

		for (uint32_t i = 0; i < pages; i++) {
			uint32_t page = way == 0   ? i
					: way == 1 ? pages - 1 - i
					: way == 2 ? order[i]
						   : (i * 37) % pages;
			const char *at = self->device.base + page * self->page_bytes;

			/* Its end first, for a page of several of the kernel's. */
			ASSERT_EQ(0, touch_read(at + self->page_bytes - 1));
			ASSERT_TRUE(source_matches(&self->source, page, at))
			{
				TH_LOG("way %d, page %u", way, page);
			}
			raw += !source_is_zero(&self->source, page);
		}
		counters = device_counters(&self->device);
		EXPECT_SERVED_ALONE(counters);
		EXPECT_EQ(pages, counters.pages_restored);
		EXPECT_LE(raw * self->page_bytes, counters.bytes_read);
		EXPECT_LE(1, counters.faults_served);
		EXPECT_LE(counters.faults_served, pages);
		EXPECT_LE(BYTES / KERNEL_PAGE, counters.resident_pages);
		EXPECT_EQ(0, counters.pages_dirtied);
		again(&self->device, &self->source);
	}
	free(order);
}

struct toucher {
	pthread_t thread;
	const struct device *device;
	const struct source *source;
	unsigned number;
	uint32_t wrong;
};

static void *touch_all(void *argument)
{
	struct toucher *toucher = argument;
	uint32_t pages = (uint32_t)toucher->source->pages,
		 *order = shuffled(pages, toucher->number);

	for (uint32_t i = 0; i < pages; i++) {
		/* Two of them in the same order: they meet at every page. */
		uint32_t page = toucher->number < 2 ? i : order[i];

		toucher->wrong +=
			!source_matches(toucher->source, page,
					toucher->device->base + page * toucher->source->page_bytes);
	}
	free(order);
	return NULL;
}

TEST_F(arrival, threads_that_meet_at_a_page_all_see_it_right)
{
	for (int round = 0; round < 3; round++) {
		struct toucher touchers[THREADS];

		for (unsigned i = 0; i < THREADS; i++) {
			touchers[i] = (struct toucher){
				.device = &self->device, .source = &self->source, .number = i};
			ASSERT_EQ(0, pthread_create(&touchers[i].thread, NULL, touch_all,
						    &touchers[i]));
		}
		for (unsigned i = 0; i < THREADS; i++) {
			pthread_join(touchers[i].thread, NULL);
			EXPECT_EQ(0, touchers[i].wrong);
		}
		EXPECT_SERVED_ALONE(device_counters(&self->device));
		EXPECT_EQ(self->pages, device_counters(&self->device).pages_restored);
		again(&self->device, &self->source);
	}
}

TEST_F(arrival, a_first_touch_may_be_a_write)
{
	char right[65536];
	uint8_t *written = calloc(1, 2 * self->pages);

	for (uint32_t page = 1; page < self->pages; page += 3)
		self->device.base[page * self->page_bytes + 77] = 'w';
	for (uint32_t page = 0; page < self->pages; page++) {
		source_page(&self->source, page, right);
		if (page % 3 == 1)
			right[77] = 'w';
		ASSERT_EQ(0, memcmp(right, self->device.base + page * self->page_bytes,
				    self->page_bytes));
	}
	EXPECT_LT(0, device_harvest_set(&self->device, written));
	for (uint32_t page = 0; page < 2 * self->pages; page++)
		ASSERT_EQ(page < self->pages && page % 3 == 1, written[page]);
	free(written);
}

TEST_F(arrival, fresh_pages_are_zero_and_ask_nobody)
{
	for (size_t at = BYTES; at < 2 * BYTES; at += KERNEL_PAGE)
		ASSERT_EQ(0, *(uint64_t *)(self->device.base + at));
	EXPECT_EQ(0, device_counters(&self->device).faults_passed);
	EXPECT_EQ(0, device_counters(&self->device).pages_restored);
	EXPECT_EQ(0, device_counters(&self->device).bytes_read);
}

/* ---- By system calls ---- */

static int scratch_file(const char *directory, int flags)
{
	char *path = support_format("%s/scratch", directory);
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | flags, 0600);

	free(path);
	return fd;
}

TEST_F(arrival, missing_pages_can_be_written_to_a_file)
{
	int fd = scratch_file(self->directory, 0);
	char *contents;

	ASSERT_LE(0, fd);
	/* From one page's middle to another's, and then all of it. */
	ASSERT_EQ(3 * self->page_bytes,
		  pwrite(fd, self->device.base + self->page_bytes / 2, 3 * self->page_bytes, 0));
	ASSERT_EQ(BYTES, pwrite(fd, self->device.base, BYTES, 0));
	contents = mmap(NULL, BYTES, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, contents);
	for (uint32_t page = 0; page < self->pages; page++)
		ASSERT_TRUE(
			source_matches(&self->source, page, contents + page * self->page_bytes));
	munmap(contents, BYTES);
	close(fd);
	EXPECT_SERVED_ALONE(device_counters(&self->device));
}

/* The file's inode is locked while it is written: what reads its pages must not need that lock. */
TEST_F(arrival, missing_pages_can_be_written_to_the_image_itself)
{
	uint64_t end = support_size(self->source.path);
	char *contents = malloc(BYTES);

	ASSERT_EQ(BYTES, pwrite(self->source.fd, self->device.base, BYTES, (off_t)end));
	ASSERT_EQ(BYTES, pread(self->source.fd, contents, BYTES, (off_t)end));
	for (uint32_t page = 0; page < self->pages; page++)
		ASSERT_TRUE(
			source_matches(&self->source, page, contents + page * self->page_bytes));
	free(contents);
}

TEST_F(arrival, missing_pages_can_be_read_into)
{
	const size_t half = self->page_bytes / 2;
	char right[65536], *text = malloc(self->page_bytes);
	uint8_t *written = calloc(1, 2 * self->pages);
	int fd = scratch_file(self->directory, 0);

	memset(text, 'r', self->page_bytes);
	ASSERT_EQ(half, pwrite(fd, text, half, 0));
	for (uint32_t page = 2; page < self->pages; page += 5)
		ASSERT_EQ(half, pread(fd, self->device.base + page * self->page_bytes + half / 2,
				      half, 0));
	for (uint32_t page = 2; page < self->pages; page += 5) {
		source_page(&self->source, page, right);
		memcpy(right + half / 2, text, half);
		ASSERT_EQ(0, memcmp(right, self->device.base + page * self->page_bytes,
				    self->page_bytes));
	}
	EXPECT_EQ((self->pages - 3) / 5 + 1, device_harvest_set(&self->device, written));
	for (uint32_t page = 0; page < self->pages; page++)
		ASSERT_EQ(page % 5 == 2, written[page]);
	close(fd);
	free(text);
	free(written);
}

TEST_F(arrival, missing_pages_can_be_read_into_past_the_page_cache)
{
	int direct, fd = scratch_file(self->directory, 0);
	uint8_t *written = calloc(1, 2 * self->pages);
	const size_t length = 2 * self->page_bytes;
	char *text = aligned_alloc(65536, 131072);

	memset(text, 'd', 131072);
	ASSERT_EQ(length, pwrite(fd, text, length, 0));
	close(fd);
	text = support_format("%s/scratch", self->directory);
	direct = open(text, O_RDWR | O_DIRECT | O_CLOEXEC);
	free(text);
	if (direct < 0)
		SKIP(return, "this file system reads nothing past its page cache");
	ASSERT_EQ(length, pread(direct, self->device.base + 6 * self->page_bytes, length, 0));
	for (size_t at = 0; at < length; at++)
		ASSERT_EQ('d', self->device.base[6 * self->page_bytes + at]);
	EXPECT_EQ(2, device_harvest_set(&self->device, written));
	EXPECT_EQ(1, written[6]);
	EXPECT_EQ(1, written[7]);
	/* And from them. */
	ASSERT_EQ(length, pwrite(direct, self->device.base + 14 * self->page_bytes, length, 0));
	text = malloc(length);
	ASSERT_EQ(length, pread(direct, self->device.base, length, 0));
	memcpy(text, self->device.base, length);
	EXPECT_TRUE(source_matches(&self->source, 14, text));
	EXPECT_TRUE(source_matches(&self->source, 15, text + self->page_bytes));
	close(direct);
	free(written);
	free(text);
}

TEST_F(arrival, io_uring_reads_into_missing_pages_and_writes_from_them)
{
	int fd = scratch_file(self->directory, 0);
	struct io_uring_sqe *entry;
	struct io_uring_cqe *done;
	struct io_uring ring;
	char *contents = malloc(self->page_bytes);

	if (io_uring_queue_init(4, &ring, 0))
		SKIP(return, "io_uring is not permitted here");
	entry = io_uring_get_sqe(&ring);
	io_uring_prep_write(entry, fd, self->device.base + 3 * self->page_bytes,
			    (unsigned)self->page_bytes, 0);
	entry->flags |= IOSQE_ASYNC | IOSQE_IO_LINK; /* by a thread of the kernel's */
	entry = io_uring_get_sqe(&ring);
	io_uring_prep_read(entry, fd, self->device.base + 40 * self->page_bytes,
			   (unsigned)self->page_bytes, 0);
	entry->flags |= IOSQE_ASYNC;
	ASSERT_EQ(2, io_uring_submit(&ring));
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(0, io_uring_wait_cqe(&ring, &done));
		EXPECT_EQ(self->page_bytes, done->res);
		io_uring_cqe_seen(&ring, done);
	}
	io_uring_queue_exit(&ring);
	ASSERT_EQ(self->page_bytes, pread(fd, contents, self->page_bytes, 0));
	EXPECT_TRUE(source_matches(&self->source, 3, contents));
	EXPECT_TRUE(source_matches(&self->source, 3, self->device.base + 40 * self->page_bytes));
	close(fd);
	free(contents);
}

TEST_F(arrival, another_process_reads_and_writes_missing_pages)
{
	struct iovec theirs = {self->device.base, BYTES / 2};
	uint8_t *written = calloc(1, 2 * self->pages);
	char *contents = malloc(BYTES);
	int status;

	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	if (!fork()) {
		struct iovec ours = {contents, BYTES / 2};
		char *path = support_format("/proc/%d/mem", getppid());
		int memory = open(path, O_RDWR);
		uintptr_t half = (uintptr_t)self->device.base + BYTES / 2;
		char byte = 'm';

		if (process_vm_readv(getppid(), &ours, 1, &theirs, 1, 0) != (ssize_t)BYTES / 2)
			_exit(2);
		/* By ptrace's way in, which cannot let go of the other's lock to read a file. */
		if (pread(memory, contents + BYTES / 2, BYTES / 2, (off_t)half) !=
		    (ssize_t)BYTES / 2)
			_exit(3);
		for (uint32_t page = 0; page < self->pages; page++)
			if (!source_matches(&self->source, page,
					    contents + page * self->page_bytes))
				_exit(4);
		if (pwrite(memory, &byte, 1, (off_t)(half + 9)) != 1)
			_exit(5);
		_exit(0);
	}
	ASSERT_LT(0, wait(&status));
	EXPECT_EQ(0, status);
	EXPECT_EQ('m', self->device.base[BYTES / 2 + 9]);
	EXPECT_EQ(1, device_harvest_set(&self->device, written));
	EXPECT_EQ(1, written[self->pages / 2]);
	EXPECT_EQ(0, wrong_pages(&self->device, &self->source) - 1);
	free(contents);
	free(written);
}

static long futex(void *word, int operation, uint32_t value)
{
	return syscall(SYS_futex, word, operation, value, NULL, NULL, 0);
}

TEST_F(arrival, a_futex_may_lie_in_a_missing_page)
{
	uint32_t *word = (void *)(self->device.base + 2 * self->page_bytes), value;
	char right[65536];
	int status;
	long late;

	source_page(&self->source, 2, right);
	memcpy(&value, right, sizeof(value));
	EXPECT_EQ(-1, futex(word, FUTEX_WAIT, value + 1));
	EXPECT_EQ(EAGAIN, errno);
	/* And two processes meet there: the child changes it and wakes until somebody has been woken. */
	again(&self->device, &self->source);
	word = (void *)(self->device.base + 2 * self->page_bytes);
	if (!fork()) {
		double end = support_deadline(20);

		__atomic_store_n(word, value + 1, __ATOMIC_SEQ_CST);
		while (futex(word, FUTEX_WAKE, 1) != 1 && support_seconds() < end)
			;
		_exit(support_seconds() >= end);
	}
	while ((late = futex(word, FUTEX_WAIT, value)) && errno == EINTR)
		;
	/* Where it had changed before, the child goes on until it has woken somebody here. */
	while (late && futex(word, FUTEX_WAIT, value + 1) && errno == EINTR)
		;
	EXPECT_EQ(value + 1, *word);
	ASSERT_LT(0, wait(&status));
	EXPECT_EQ(0, status);
}

/* ---- Ahead, and in which order ---- */

TEST_F(arrival, prefetched_pages_are_there_when_touched)
{
	struct thaw_kmod_pages prefetch = {.first = 3, .count = self->pages / 2};
	struct thaw_kmod_counters counters;

	ASSERT_EQ(0, device_call(self->device.fd, THAW_KMOD_PREFETCH, &prefetch));
	EXPECT_EQ(self->pages / 2, prefetch.done);
	EXPECT_EQ(0, prefetch.skipped);
	counters = device_counters(&self->device);
	EXPECT_LE(self->pages / 2, counters.pages_restored);
	for (uint32_t page = 3; page < 3 + self->pages / 2; page++)
		ASSERT_TRUE(source_matches(&self->source, page,
					   self->device.base + page * self->page_bytes));
	EXPECT_EQ(counters.faults_served, device_counters(&self->device).faults_served);
	EXPECT_EQ(counters.pages_restored, device_counters(&self->device).pages_restored);
	prefetch = (struct thaw_kmod_pages){.count = self->pages};
	ASSERT_EQ(0, device_call(self->device.fd, THAW_KMOD_PREFETCH, &prefetch));
	EXPECT_EQ(0, wrong_pages(&self->device, &self->source));
	EXPECT_SERVED_ALONE(device_counters(&self->device));
}

TEST_F(arrival, clusters_are_told_in_the_order_they_were_touched)
{
	const uint32_t clusters = BYTES / CLUSTER, each = CLUSTER / (uint32_t)self->page_bytes;
	uint32_t *order = shuffled(clusters, 5), told = 0;
	uint64_t pages[BYTES / CLUSTER];
	struct thaw_kmod_pages prefetch = {.first = order[7] * each, .count = each};

	ASSERT_EQ(0, device_call(self->device.fd, THAW_KMOD_PREFETCH, &prefetch));
	for (uint32_t i = 0; i < clusters; i++)
		ASSERT_EQ(0, touch_read(self->device.base + order[i] * (size_t)CLUSTER + i * 512));
	for (;;) {
		struct thaw_kmod_accessed accessed = {.pages = (uintptr_t)(pages + told),
						      .room = 10};

		ASSERT_EQ(0, device_call(self->device.fd, THAW_KMOD_ACCESSED, &accessed));
		told += accessed.done;
		ASSERT_LT(told, clusters + 1);
		if (accessed.done < 10)
			break;
	}
	/* What was there already was not waited for. */
	EXPECT_EQ(clusters - 1, told);
	for (uint32_t i = 0, at = 0; i < clusters && at < told; i++)
		if (i != 7)
			EXPECT_EQ(order[i], pages[at++] / each);
	free(order);
}

TEST_F(arrival, several_regions_and_processes_share_an_image)
{
	struct device other;
	int status;

	device_restore(&other, &self->source, 0);
	for (int child = 0; child < 3; child++)
		if (!fork()) {
			again(&self->device, &self->source);
			_exit(!!wrong_pages(&self->device, &self->source));
		}
	self->device.base[0]++;
	EXPECT_EQ(0, wrong_pages(&other, &self->source));
	EXPECT_EQ(1, wrong_pages(&self->device, &self->source));
	for (int child = 0; child < 3; child++) {
		ASSERT_LT(0, wait(&status));
		EXPECT_EQ(0, status);
	}
	device_stop(&other);
}

/* The region keeps a description of its own; the file may lose its name. */
TEST_F(arrival, the_image_may_be_closed_and_unlinked)
{
	close(self->source.fd);
	unlink(self->source.path);
	EXPECT_EQ(0, wrong_pages(&self->device, &self->source));
	self->source.fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

TEST_HARNESS_MAIN
