// SPDX-License-Identifier: GPL-2.0-only
/*
 * What the kernel cannot bring alone: whoever touches it waits, and a request says which page, and why. Each of the
 * answers (where it is, its contents, zero, poison, try again) wakes who waits; nobody sees contents whose checksum
 * is wrong; who waits can be killed and interrupted, and is forgotten then.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "device.h"

#define PAGES 256u

FIXTURE(requests)
{
	char *directory;
	struct source source;
	struct device device;
	size_t page_bytes;
};
FIXTURE_VARIANT(requests)
{
	size_t page_bytes; /* 0: the kernel's */
};
FIXTURE_VARIANT_ADD(requests, of_the_kernels_pages){0};
FIXTURE_VARIANT_ADD(requests, of_64_kib){.page_bytes = 65536};

/* Nothing is known of any page. */
FIXTURE_SETUP(requests)
{
	NEEDS_DEVICE();
	touch_prepare();
	self->page_bytes = variant->page_bytes ? variant->page_bytes : KERNEL_PAGE;
	self->directory = support_directory();
	source_make(&self->source, self->directory, self->page_bytes, PAGES, 4096);
	device_start(&self->device, PAGES * self->page_bytes, self->page_bytes, 256,
		     PAGES * self->page_bytes, self->source.fd);
}
FIXTURE_TEARDOWN(requests)
{
	device_stop(&self->device);
	source_free(&self->source);
	support_remove(self->directory);
}

#define AT(page) (self->device.base + (page)*self->page_bytes)
#define ANSWER(request, page, source) device_pages(&self->device, request, page, 1, source)
#define TELL(page) device_extents(&self->device, page, 1, &self->source.extents[page])

/* A thread that touches a page, and what came of it. */
struct toucher {
	pthread_t thread;
	_Atomic int tid;
	const struct source *source;
	char *at;
	uint64_t page;
	int failed; /* by this signal */
	bool right;
};

static void *touch(void *argument)
{
	struct toucher *toucher = argument;

	atomic_store(&toucher->tid, (int)gettid());
	toucher->failed = touch_read(toucher->at);
	toucher->right = !toucher->failed &&
			 source_matches(toucher->source, toucher->page, toucher->at);
	return NULL;
}

static void touch_begin(struct toucher *toucher, const struct device *device,
			const struct source *source, uint64_t page)
{
	*toucher = (struct toucher){
		.source = source, .page = page, .at = device->base + page * source->page_bytes};
	if (pthread_create(&toucher->thread, NULL, touch, toucher))
		support_die("pthread_create");
}

#define TOUCH(toucher, page) touch_begin(toucher, &self->device, &self->source, page)

#define EXPECT_REQUEST(wanted, reason)                                 \
	do {                                                           \
		struct thaw_kmod_request request_ = {0};               \
		ASSERT_TRUE(device_request(&self->device, &request_)); \
		EXPECT_EQ(wanted, request_.page);                      \
		EXPECT_EQ(reason, request_.why);                       \
	} while (0)

#define EXPECT_NO_REQUEST()                                                        \
	do {                                                                       \
		struct thaw_kmod_request request_;                                 \
		struct pollfd ready_ = {self->device.fd, POLLIN, 0};               \
		EXPECT_EQ(0, poll(&ready_, 1, 0));                                 \
		EXPECT_EQ(-1, read(self->device.fd, &request_, sizeof(request_))); \
		EXPECT_EQ(EAGAIN, errno);                                          \
	} while (0)

#define EXPECT_RIGHT(toucher)                         \
	do {                                          \
		pthread_join((toucher).thread, NULL); \
		EXPECT_EQ(0, (toucher).failed);       \
		EXPECT_TRUE((toucher).right);         \
	} while (0)

TEST_F(requests, each_answer_wakes_who_waits)
{
	struct thaw_kmod_request request;
	char *contents = malloc(self->page_bytes);
	struct thaw_kmod_counters counters;
	struct toucher toucher;

	TOUCH(&toucher, 3);
	ASSERT_TRUE(device_request(&self->device, &request));
	EXPECT_EQ(3, request.page);
	EXPECT_EQ(THAW_KMOD_NO_EXTENT, request.why);
	EXPECT_EQ(atomic_load(&toucher.tid), request.thread);
	ASSERT_EQ(0, TELL(3));
	EXPECT_RIGHT(toucher);

	TOUCH(&toucher, 4);
	EXPECT_REQUEST(4, THAW_KMOD_NO_EXTENT);
	source_page(&self->source, 4, contents);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, 4, contents));
	EXPECT_RIGHT(toucher);

	TOUCH(&toucher, 5); /* which is zero */
	EXPECT_REQUEST(5, THAW_KMOD_NO_EXTENT);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_ZERO_PAGES, 5, NULL));
	EXPECT_RIGHT(toucher);

	TOUCH(&toucher, 6);
	EXPECT_REQUEST(6, THAW_KMOD_NO_EXTENT);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_WAKE, 6, NULL));
	EXPECT_REQUEST(6, THAW_KMOD_NO_EXTENT); /* still not */
	ASSERT_EQ(0, ANSWER(THAW_KMOD_POISON, 6, NULL));
	pthread_join(toucher.thread, NULL);
	EXPECT_EQ(SIGBUS, toucher.failed);

	counters = device_counters(&self->device);
	EXPECT_EQ(3, counters.pages_restored);
	EXPECT_EQ(1, counters.pages_poisoned);
	EXPECT_LE(4, counters.faults_passed);
	EXPECT_NO_REQUEST();
	free(contents);
}

TEST_F(requests, threads_at_one_page_are_woken_together)
{
	char *contents = malloc(self->page_bytes);
	struct toucher touchers[8];
	struct thaw_kmod_request request;

	for (int i = 0; i < 8; i++)
		TOUCH(&touchers[i], 7);
	ASSERT_TRUE(device_request(&self->device, &request));
	EXPECT_EQ(7, request.page);
	source_page(&self->source, 7, contents);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, 7, contents));
	for (int i = 0; i < 8; i++)
		EXPECT_RIGHT(touchers[i]);
	/* What others had asked meanwhile is answered. */
	EXPECT_NO_REQUEST();
	free(contents);
}

TEST_F(requests, many_are_read_at_once_and_oldest_first)
{
	struct thaw_kmod_request requests[32];
	struct toucher touchers[20];
	uint32_t *order = shuffled(20, 9);
	ssize_t got;

	for (int i = 0; i < 20; i++) {
		struct pollfd ready = {self->device.fd, POLLIN, 0};
		double end = support_deadline(20);

		TOUCH(&touchers[i], order[i] * 8);
		ASSERT_EQ(1, poll(&ready, 1, 60000));
		/* Each is asked before the next one is touched: its thread sleeps in the kernel. */
		while (device_counters(&self->device).faults_passed < i + 1u &&
		       support_seconds() < end)
			sched_yield();
	}
	got = read(self->device.fd, requests, 3 * sizeof(requests[0]) + 5);
	ASSERT_EQ(3 * sizeof(requests[0]), got);
	got = read(self->device.fd, requests + 3, sizeof(requests) - 3 * sizeof(requests[0]));
	ASSERT_EQ(17 * sizeof(requests[0]), got);
	for (int i = 0; i < 20; i++)
		EXPECT_EQ(order[i] * 8, requests[i].page);
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	for (int i = 0; i < 20; i++)
		EXPECT_RIGHT(touchers[i]);
	free(order);
}

TEST_F(requests, a_request_that_cannot_be_delivered_is_not_lost)
{
	void *volatile nowhere = NULL;
	struct toucher toucher;

	TOUCH(&toucher, 1);
	ASSERT_EQ(1, poll(&(struct pollfd){self->device.fd, POLLIN, 0}, 1, 60000));
	EXPECT_EQ(-1, read(self->device.fd, nowhere, sizeof(struct thaw_kmod_request)));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_REQUEST(1, THAW_KMOD_NO_EXTENT);
	ASSERT_EQ(0, TELL(1));
	EXPECT_RIGHT(toucher);
}

/* ---- Why ---- */

/* All that are to be seen of the page are what is right, and nothing: how often was it seen? */
struct watcher {
	pthread_t thread;
	struct toucher *toucher;
	pid_t process;
	_Atomic bool stop;
	unsigned wrong;
};

static void *watch(void *argument)
{
	struct watcher *watcher = argument;
	const struct source *source = watcher->toucher->source;
	char *path = support_format("/proc/%d/mem", watcher->process),
	     *seen = malloc(source->page_bytes);
	int memory = open(path, O_RDONLY | O_CLOEXEC);

	while (!atomic_load(&watcher->stop))
		if (pread(memory, seen, source->page_bytes,
			  (off_t)(uintptr_t)watcher->toucher->at) > 0)
			watcher->wrong += !source_matches(source, watcher->toucher->page, seen);
	close(memory);
	free(seen);
	free(path);
	return NULL;
}

TEST_F(requests, a_wrong_checksum_is_never_seen)
{
	char *contents = malloc(self->page_bytes);
	struct watcher watcher = {.process = getpid()};
	struct toucher toucher;

	for (int half = 0; half < 2; half++)
		for (unsigned page = 1 + 32 * half; page < 4 + 32 * half; page++) {
			struct thaw_kmod_extent wrong = self->source.extents[page];

			wrong.checksum[half] ^= 1ull << (page * 7 % 64);
			ASSERT_EQ(0, device_extents(&self->device, page, 1, &wrong));
			TOUCH(&toucher, page);
			watcher.toucher = &toucher;
			atomic_store(&watcher.stop, false);
			ASSERT_EQ(0, pthread_create(&watcher.thread, NULL, watch, &watcher));
			EXPECT_REQUEST(page, THAW_KMOD_WRONG_CHECKSUM);
			EXPECT_LE(1, device_counters(&self->device).read_errors);
			EXPECT_EQ(0, ANSWER(THAW_KMOD_WAKE, page, NULL));
			EXPECT_REQUEST(page, THAW_KMOD_WRONG_CHECKSUM);
			source_page(&self->source, page, contents);
			ASSERT_EQ(0,
				  page % 2 ? ANSWER(THAW_KMOD_FILL, page, contents) : TELL(page));
			EXPECT_RIGHT(toucher);
			atomic_store(&watcher.stop, true);
			pthread_join(watcher.thread, NULL);
		}
	EXPECT_EQ(0, watcher.wrong);
	free(contents);
}

/* One byte of the file is another one; its neighbours in the cluster arrive all the same. */
TEST_F(requests, a_damaged_page_does_not_keep_its_neighbours)
{
	struct toucher toucher;

	support_flip(self->source.path, self->source.extents[2].offset + self->page_bytes - 1,
		     0x10);
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	for (unsigned page = 0; page < PAGES; page++)
		if (page != 2)
			ASSERT_TRUE(source_matches(&self->source, page, AT(page)));
	TOUCH(&toucher, 2);
	EXPECT_REQUEST(2, THAW_KMOD_WRONG_CHECKSUM);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_POISON, 2, NULL));
	pthread_join(toucher.thread, NULL);
	EXPECT_EQ(SIGBUS, toucher.failed);
	EXPECT_EQ(PAGES - 1, device_counters(&self->device).pages_restored);
	EXPECT_NO_REQUEST();
}

TEST_F(requests, a_file_that_ends_too_early_is_told)
{
	char *contents = malloc(self->page_bytes);
	struct toucher toucher;

	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	/* In the middle of page 100. */
	ASSERT_EQ(0, ftruncate(self->source.fd,
			       (off_t)(self->source.extents[100].offset + self->page_bytes / 2)));
	TOUCH(&toucher, 200);
	EXPECT_REQUEST(200, THAW_KMOD_READ_FAILED);
	source_page(&self->source, 200, contents);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, 200, contents));
	EXPECT_RIGHT(toucher);
	EXPECT_LE(1, device_counters(&self->device).read_errors);
	TOUCH(&toucher, 100);
	EXPECT_REQUEST(100, THAW_KMOD_READ_FAILED);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_POISON, 100, NULL));
	pthread_join(toucher.thread, NULL);
	EXPECT_EQ(SIGBUS, toucher.failed);
	free(contents);
}

TEST_F(requests, an_encoding_of_the_librarys_is_asked_for)
{
	struct thaw_kmod_extent other = {.encoding = THAW_KMOD_OTHER};
	struct toucher toucher;

	ASSERT_EQ(0, device_extents(&self->device, 8, 1, &other));
	TOUCH(&toucher, 8);
	EXPECT_REQUEST(8, THAW_KMOD_CANNOT_DECODE);
	ASSERT_EQ(0, TELL(8));
	EXPECT_RIGHT(toucher);
}

TEST_F(requests, without_a_file_every_page_is_asked_for)
{
	struct toucher toucher;

	device_stop(&self->device);
	device_start(&self->device, PAGES * self->page_bytes, self->page_bytes, 256,
		     PAGES * self->page_bytes, -1);
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	for (unsigned page = 1; page < 4; page++) {
		char *contents = malloc(self->page_bytes);

		TOUCH(&toucher, page);
		EXPECT_REQUEST(page, THAW_KMOD_CANNOT_DECODE);
		source_page(&self->source, page, contents);
		ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, page, contents));
		EXPECT_RIGHT(toucher);
		free(contents);
	}
	EXPECT_EQ(0, device_counters(&self->device).bytes_read);
}

/* Of tmpfs, nothing is to be read through its page cache by who is not tmpfs. */
TEST_F(requests, pages_of_an_image_in_memory_are_asked_for)
{
	char *contents = malloc(self->page_bytes);
	struct source source;
	struct toucher toucher;

	if (access("/dev/shm", W_OK))
		SKIP(return, "there is no /dev/shm");
	source_make(&source, "/dev/shm", self->page_bytes, PAGES, 4096);
	device_stop(&self->device);
	device_restore(&self->device, &source, 0);
	TOUCH(&toucher, 2);
	EXPECT_REQUEST(2, THAW_KMOD_CANNOT_DECODE);
	source_page(&self->source, 2, contents);
	ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, 2, contents));
	EXPECT_RIGHT(toucher);
	EXPECT_EQ(0, device_counters(&self->device).bytes_read);
	source_free(&source);
	free(contents);
}

TEST_F(requests, prefetching_skips_what_it_cannot_bring)
{
	struct thaw_kmod_pages prefetch = {.count = PAGES};

	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES / 2, self->source.extents));
	support_flip(self->source.path, self->source.extents[40].offset, 1);
	ASSERT_EQ(0, device_call(self->device.fd, THAW_KMOD_PREFETCH, &prefetch));
	EXPECT_EQ(PAGES, prefetch.done);
	EXPECT_EQ(PAGES / 2 + 1, prefetch.skipped);
	EXPECT_EQ(PAGES / 2 - 1, device_counters(&self->device).pages_restored);
	EXPECT_NO_REQUEST();
}

/* ---- Poison, and who comes second ---- */

TEST_F(requests, poison_takes_away_what_had_arrived)
{
	char *contents = malloc(self->page_bytes);
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	ASSERT_EQ(0, touch_read(AT(10)));
	ASSERT_EQ(0, touch_write(AT(11), 1));
	ASSERT_EQ(0, device_pages(&self->device, THAW_KMOD_POISON, 10, 3, NULL));
	for (unsigned page = 10; page < 13; page++) {
		EXPECT_EQ(SIGBUS, touch_read(AT(page) + self->page_bytes - 1));
		EXPECT_EQ(SIGBUS, touch_write(AT(page), 1));
		EXPECT_EQ(-1, write(pipes[1], AT(page), 1));
		EXPECT_EQ(EFAULT, errno);
	}
	EXPECT_TRUE(source_matches(&self->source, 9, AT(9)));
	EXPECT_TRUE(source_matches(&self->source, 13, AT(13)));
	/* And nothing brings it back. */
	memset(contents, 1, self->page_bytes);
	EXPECT_EQ(0, ANSWER(THAW_KMOD_FILL, 10, contents));
	EXPECT_EQ(0, ANSWER(THAW_KMOD_ZERO_PAGES, 11, NULL));
	EXPECT_EQ(0, TELL(12));
	EXPECT_EQ(0, device_pages(&self->device, THAW_KMOD_PREFETCH, 10, 3, NULL));
	for (unsigned page = 10; page < 13; page++)
		EXPECT_EQ(SIGBUS, touch_read(AT(page)));
	EXPECT_EQ(3, device_counters(&self->device).pages_poisoned);
	ASSERT_EQ(0, device_pages(&self->device, THAW_KMOD_POISON, 10, 3, NULL));
	EXPECT_EQ(3, device_counters(&self->device).pages_poisoned);
	free(contents);
}

TEST_F(requests, what_has_arrived_is_not_filled_again)
{
	char *other = malloc(self->page_bytes);

	memset(other, 'o', self->page_bytes);
	ASSERT_EQ(0, device_extents(&self->device, 0, PAGES, self->source.extents));
	ASSERT_EQ(0, touch_write(AT(20) + 5, 'w'));
	ASSERT_EQ(0, ANSWER(THAW_KMOD_FILL, 20, other));
	ASSERT_EQ(0, ANSWER(THAW_KMOD_ZERO_PAGES, 20, NULL));
	ASSERT_EQ(0, TELL(20));
	EXPECT_EQ('w', AT(20)[5]);
	EXPECT_NE('o', AT(20)[6]);
	free(other);
}

/* The kernel's contents and others are brought at once: a page is one of them, all of it and from the first touch on. */
struct filler {
	pthread_t thread;
	const struct device *device;
	const struct source *source;
	int error;
};

static void *fill_all(void *argument)
{
	struct filler *filler = argument;
	char *contents = malloc(filler->source->page_bytes);

	for (uint64_t page = 0; page < PAGES && !filler->error; page++) {
		memset(contents, 'a' + (int)(page % 26), filler->source->page_bytes);
		filler->error = device_pages(filler->device, THAW_KMOD_FILL, page, 1, contents);
	}
	free(contents);
	return NULL;
}

TEST_F(requests, whoever_fills_first_fills_the_whole_page)
{
	char *before = malloc(self->page_bytes), *filled = malloc(self->page_bytes);
	unsigned by_kernel = 0, by_user = 0;

	for (int round = 0; round < 10; round++) {
		struct filler filler = {.device = &self->device, .source = &self->source};

		device_stop(&self->device);
		device_restore(&self->device, &self->source, 0);
		ASSERT_EQ(0, pthread_create(&filler.thread, NULL, fill_all, &filler));
		for (unsigned i = 0; i < PAGES; i++) {
			unsigned page = round % 2 ? i : PAGES - 1 - i;

			memcpy(before, AT(page), self->page_bytes);
			memset(filled, 'a' + (int)(page % 26), self->page_bytes);
			if (!memcmp(before, filled, self->page_bytes))
				by_user++;
			else if (source_matches(&self->source, page, before))
				by_kernel++;
			else
				ASSERT_TRUE(false && "neither of both");
			sched_yield();
			ASSERT_EQ(0, memcmp(before, AT(page), self->page_bytes));
		}
		pthread_join(filler.thread, NULL);
		ASSERT_EQ(0, filler.error);
		EXPECT_EQ(PAGES, device_counters(&self->device).pages_restored);
	}
	TH_LOG("%u pages filled by the kernel first, %u by user space", by_kernel, by_user);
	EXPECT_LT(0, by_kernel);
	free(before);
	free(filled);
}

/* ---- Who waits and goes ---- */

static pid_t child_that_touches(const struct device *device, uint64_t page)
{
	pid_t child = fork();

	if (!child) {
		touch_read(device->base + page * device->page_bytes);
		_exit(0);
	}
	return child;
}

TEST_F(requests, who_waits_can_be_killed)
{
	struct toucher toucher;
	int status;
	pid_t child;

	/* After the request was read, and before. */
	for (int read_before = 0; read_before < 2; read_before++) {
		child = child_that_touches(&self->device, 30);
		ASSERT_EQ(1, poll(&(struct pollfd){self->device.fd, POLLIN, 0}, 1, 60000));
		if (read_before)
			EXPECT_REQUEST(30, THAW_KMOD_NO_EXTENT);
		kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		EXPECT_NO_REQUEST();
	}
	TOUCH(&toucher, 30);
	EXPECT_REQUEST(30, THAW_KMOD_NO_EXTENT);
	ASSERT_EQ(0, TELL(30));
	EXPECT_RIGHT(toucher);
}

static _Atomic int signals_handled;

static void count_signal(int signal_number)
{
	(void)signal_number;
	atomic_fetch_add(&signals_handled, 1);
}

TEST_F(requests, who_waits_handles_signals)
{
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
	struct toucher toucher;

	sigaction(SIGUSR1, &action, NULL);
	TOUCH(&toucher, 31);
	EXPECT_REQUEST(31, THAW_KMOD_NO_EXTENT);
	for (int i = 1; i <= 5; i++) {
		double end = support_deadline(20);

		pthread_kill(toucher.thread, SIGUSR1);
		while (atomic_load(&signals_handled) < i && support_seconds() < end)
			sched_yield();
		ASSERT_EQ(i, atomic_load(&signals_handled));
	}
	/* It has come back, and asked again, or waits as before. */
	ASSERT_EQ(0, TELL(31));
	EXPECT_RIGHT(toucher);
	EXPECT_NO_REQUEST();
}

/* In the middle of write(2), too, which is not torn by a signal. */
struct writer {
	pthread_t thread;
	int fd;
	const char *from;
	size_t bytes;
	ssize_t result;
};

static void *write_it(void *argument)
{
	struct writer *writer = argument;

	writer->result = write(writer->fd, writer->from, writer->bytes);
	return NULL;
}

TEST_F(requests, a_system_call_waits_for_the_answer)
{
	struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
	char *path = support_format("%s/written", self->directory),
	     *contents = malloc(self->page_bytes);
	struct writer writer = {.fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600),
				.from = AT(33),
				.bytes = self->page_bytes};

	sigaction(SIGUSR1, &action, NULL);
	ASSERT_EQ(0, pthread_create(&writer.thread, NULL, write_it, &writer));
	EXPECT_REQUEST(33, THAW_KMOD_NO_EXTENT);
	pthread_kill(writer.thread, SIGUSR1);
	ASSERT_EQ(0, TELL(33));
	pthread_join(writer.thread, NULL);
	ASSERT_EQ(self->page_bytes, writer.result);
	ASSERT_EQ(self->page_bytes, pread(writer.fd, contents, self->page_bytes, 0));
	EXPECT_TRUE(source_matches(&self->source, 33, contents));
	close(writer.fd);
	free(contents);
	free(path);
}

/* What could answer is gone, with its descriptor; who waits can still be killed. */
TEST_F(requests, who_waits_for_nobody_can_be_killed)
{
	pid_t child = child_that_touches(&self->device, 34);
	int status;

	ASSERT_EQ(1, poll(&(struct pollfd){self->device.fd, POLLIN, 0}, 1, 60000));
	close(self->device.fd);
	munmap(self->device.base, self->device.bytes);
	kill(child, SIGKILL);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	self->device = (struct device){0};
}

TEST_HARNESS_MAIN
