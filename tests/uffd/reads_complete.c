// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every read that a reader begins completes once, with what is in the file, whatever reads for it:
 * io_uring; threads, whether the page cache has it or not, and however few of them can be had. It
 * says when faults wait, always wakes, and leaves no thread behind.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <pthread.h>
#include <stdatomic.h>

#include "reader.h"
#include "support.h"

#define READS 16u
#define BUFFER_BYTES 16384u
#define BLOCK 4096u
#define FILE_WORDS (1u << 20)
#define FILE_BYTES (FILE_WORDS * 4u)
#define WANTED 4000u

/* How many threads the library can still make (TEST_WRAPS); -1: as many as it likes. */
static _Atomic int threads_left = -1;

int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attributes, void *(*run)(void *),
			  void *arg)
{
	int left = atomic_load(&threads_left);

	if (!left)
		return EAGAIN;
	if (left > 0)
		atomic_fetch_sub(&threads_left, 1);
	return __real_pthread_create(thread, attributes, run, arg);
}

/* How many of the reader's threads there are, and how many of them would take SIGTERM. */
static unsigned thread_count(unsigned *open_to_signals)
{
	DIR *directory = opendir("/proc/self/task");
	unsigned count = 0;

	if (!directory)
		support_die("/proc/self/task");
	*open_to_signals = 0;
	for (struct dirent *entry; (entry = readdir(directory));) {
		char *path = support_format("/proc/self/task/%s/status", entry->d_name);
		FILE *file = entry->d_name[0] == '.' ? NULL : fopen(path, "re");
		unsigned long long blocked = 0;
		bool ours = false;
		char line[200];

		while (file && fgets(line, sizeof(line), file)) {
			ours |= !strcmp(line, "Name:\tthaw-reads\n");
			sscanf(line, "SigBlk: %llx", &blocked);
		}
		count += ours;
		*open_to_signals += ours && !(blocked >> (SIGTERM - 1) & 1);
		if (file)
			fclose(file);
		free(path);
	}
	closedir(directory);
	return count;
}

struct request {
	unsigned number;
	uint64_t offset;
	unsigned bytes, done;
	bool under_way;
};

FIXTURE(reads)
{
	char *directory;
	struct reader *reader;
	struct thaw_error error;
	int file, direct, faults[2];

	struct request requests[READS];
	unsigned begun, completed, wanted, under_way, wrong;
	int result; /* the latest */
	uint32_t random;
};
FIXTURE_VARIANT(reads)
{
	enum reader_kind kind;
	const char *inject;
	int threads;
	bool direct;
};
FIXTURE_VARIANT_ADD(reads, io_uring){.kind = READER_URING, .inject = "", .threads = -1};
FIXTURE_VARIANT_ADD(reads, cached){.kind = READER_THREADS, .inject = "", .threads = -1};
FIXTURE_VARIANT_ADD(reads, not_cached){
	.kind = READER_THREADS, .inject = "cached:EAGAIN:0:0", .threads = -1};
FIXTURE_VARIANT_ADD(reads, cached_in_part){
	.kind = READER_THREADS, .inject = "cached:EAGAIN:100:1000", .threads = -1};
FIXTURE_VARIANT_ADD(reads, cached_unknown){
	.kind = READER_THREADS, .inject = "cached:EOPNOTSUPP:0:0", .threads = -1};
FIXTURE_VARIANT_ADD(reads, one_thread){
	.kind = READER_THREADS, .inject = "cached:EAGAIN:0:0", .threads = 1};
FIXTURE_VARIANT_ADD(reads,
		    no_thread){.kind = READER_THREADS, .inject = "cached:EAGAIN:0:0", .threads = 0};

/* Past the page cache, which wants whole blocks. */
FIXTURE_VARIANT_ADD(reads, direct_io_uring){
	.kind = READER_URING, .inject = "", .threads = -1, .direct = true};
FIXTURE_VARIANT_ADD(reads, direct_threads){
	.kind = READER_THREADS, .inject = "", .threads = -1, .direct = true};

static void begin(FIXTURE_DATA(reads) * self, struct request *request)
{
	if (reader_read(self->reader, request,
			reader_buffer(self->reader, request->number) + request->done,
			request->bytes - request->done, request->offset + request->done,
			self->direct >= 0))
		self->wrong++;
}

/* Some other bytes, with a tail that may be behind the end of the file. */
static void begin_next(FIXTURE_DATA(reads) * self, struct request *request)
{
	self->random = self->random * 1664525u + 1013904223u;
	request->offset = self->random % (FILE_BYTES + BUFFER_BYTES) / 4 * 4;
	self->random = self->random * 1664525u + 1013904223u;
	request->bytes = (self->random >> 8) % (BUFFER_BYTES / 4) * 4 + 4;
	if (self->direct >= 0) {
		request->offset -= request->offset % BLOCK;
		request->bytes += BLOCK - 1 - (request->bytes + BLOCK - 1) % BLOCK;
	}
	request->done = 0;
	request->under_way = true;
	self->begun++;
	self->under_way++;
	begin(self, request);
}

static bool right(FIXTURE_DATA(reads) * self, const struct request *request)
{
	const uint32_t *words = (uint32_t *)reader_buffer(self->reader, request->number);
	uint64_t end = request->offset + request->bytes;
	uint64_t there = end <= FILE_BYTES		? request->bytes
			 : request->offset < FILE_BYTES ? FILE_BYTES - request->offset
							: 0;

	for (unsigned i = 0; i < request->done / 4; i++)
		if (words[i] != (uint32_t)(request->offset / 4 + i) * 2654435761u)
			return false;
	return request->done == there;
}

static void completed(void *arg, void *token, int result)
{
	FIXTURE_DATA(reads) *self = arg;
	struct request *request = token;

	self->result = result;
	if (!request->under_way || result > (int)(request->bytes - request->done))
		self->wrong++;
	if (result > 0) {
		request->done += (unsigned)result;
		if (request->done < request->bytes) {
			begin(self, request);
			return;
		}
	}
	if (!right(self, request))
		self->wrong++;
	request->under_way = false;
	self->completed++;
	self->under_way--;
	if (self->begun < self->wanted)
		begin_next(self, request);
}

static void reader_make(struct __test_metadata *_metadata, FIXTURE_DATA(reads) * self,
			const FIXTURE_VARIANT(reads) * variant, int file)
{
	struct reader_options options = {
		.kind = variant->kind,
		.image_fd = file,
		.direct_fd = self->direct,
		.faults_fd = self->faults[0],
		.reads = READS,
		.buffer_bytes = BUFFER_BYTES,
		.completed = completed,
		.arg = self,
	};

	ASSERT_EQ(0, reader_open(&self->reader, &options, &self->error))
	{
		TH_LOG("%s", self->error.text);
	}
}

FIXTURE_SETUP(reads)
{
	char *path;
	FILE *file;

	if (variant->kind == READER_URING && probe_ask(ASK_IO_URING))
		SKIP(return, "io_uring: %s", thaw_strerror(probe_ask(ASK_IO_URING)));
	setenv("THAW_INJECT", variant->inject, 1);
	atomic_store(&threads_left, variant->threads);
	self->directory = support_directory();
	path = support_format("%s/file", self->directory);
	file = fopen(path, "w");
	ASSERT_NE(NULL, file);
	for (uint32_t i = 0; i < FILE_WORDS; i++) {
		uint32_t word = i * 2654435761u;

		fwrite(&word, sizeof(word), 1, file);
	}
	ASSERT_EQ(0, fclose(file));
	self->file = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	self->direct = variant->direct ? open(path, O_RDONLY | O_CLOEXEC | O_DIRECT) : -1;
	free(path);
	if (variant->direct && self->direct < 0) {
		support_remove(self->directory);
		self->directory = NULL;
		SKIP(return, "O_DIRECT: %s", strerror(errno));
	}
	ASSERT_EQ(0, pipe2(self->faults, O_NONBLOCK | O_CLOEXEC));
	for (unsigned i = 0; i < READS; i++)
		self->requests[i].number = i;
	reader_make(_metadata, self, variant, self->file);
}
FIXTURE_TEARDOWN(reads)
{
	double end = support_deadline(10);
	unsigned unused;

	if (!self->directory)
		return;
	reader_close(self->reader);
	/* One that was joined is listed for a moment longer. */
	while (thread_count(&unused) && support_seconds() < end)
		support_sleep(0.01);
	EXPECT_EQ(0, thread_count(&unused));
	close(self->file);
	if (self->direct >= 0)
		close(self->direct);
	support_remove(self->directory);
}

static void begin_all(FIXTURE_DATA(reads) * self, unsigned wanted)
{
	self->wanted += wanted;
	for (unsigned i = 0; i < READS && self->begun < self->wanted; i++)
		if (!self->requests[i].under_way)
			begin_next(self, &self->requests[i]);
}

TEST_F(reads, each_once_and_right)
{
	begin_all(self, WANTED);
	EXPECT_EQ(READS, self->under_way);
	while (self->under_way)
		ASSERT_LE(0, reader_wait(self->reader, READER_READ));
	EXPECT_EQ(WANTED, self->begun);
	EXPECT_EQ(WANTED, self->completed);
	EXPECT_EQ(0, self->wrong);
	/* There is no other. */
	ASSERT_EQ(0, reader_wait(self->reader, READER_NOW));
	EXPECT_EQ(WANTED, self->completed);
}

TEST_F(reads, none_more_than_was_said)
{
	if (variant->kind == READER_URING)
		SKIP(return, "the ring has room for more");
	begin_all(self, READS);
	EXPECT_EQ(-EBUSY,
		  reader_read(self->reader, self, reader_buffer(self->reader, 0), 4, 0, false));
	while (self->under_way)
		ASSERT_LE(0, reader_wait(self->reader, READER_READ));
	EXPECT_EQ(READS, self->completed);
}

TEST_F(reads, what_cannot_be_read_is_an_error)
{
	int directory = open(self->directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (variant->direct)
		SKIP(return, "a directory has no O_DIRECT");
	reader_close(self->reader);
	reader_make(_metadata, self, variant, directory);
	begin_all(self, 1);
	while (self->under_way)
		ASSERT_LE(0, reader_wait(self->reader, READER_READ));
	EXPECT_EQ(1, self->completed);
	EXPECT_EQ(-EISDIR, self->result) TH_LOG("%s", thaw_strerror(self->result));
	close(directory);
}

static void faults_read(FIXTURE_DATA(reads) * self)
{
	char bytes[16];

	while (read(self->faults[0], bytes, sizeof(bytes)) > 0)
		;
}

TEST_F(reads, faults_are_said)
{
	for (unsigned i = 0; i < 100; i++) {
		int said;

		ASSERT_EQ(1, write(self->faults[1], "x", 1));
		while (!(said = reader_wait(self->reader, READER_ANYTHING)))
			;
		ASSERT_EQ(1, said);
		faults_read(self);
	}
}

/* Who cannot serve faults now hears of them all the same: then, or later. */
TEST_F(reads, faults_between_reads_are_said)
{
	for (unsigned i = 0; i < 100; i++) {
		int said = 0;

		ASSERT_EQ(1, write(self->faults[1], "x", 1));
		begin_all(self, 20);
		while (self->under_way) {
			int result = reader_wait(self->reader, READER_READ);

			ASSERT_LE(0, result);
			said |= result;
		}
		while (!said)
			said = reader_wait(self->reader, READER_ANYTHING);
		ASSERT_EQ(1, said);
		faults_read(self);
	}
	EXPECT_EQ(2000, self->completed);
	EXPECT_EQ(0, self->wrong);
}

/* Which would be the program's, in a thread that the program does not know of. */
TEST_F(reads, its_threads_run_no_signal_handler)
{
	bool some = variant->kind == READER_THREADS && variant->threads && variant->inject[0];
	unsigned open_to_signals;

	begin_all(self, 200);
	while (self->under_way)
		ASSERT_LE(0, reader_wait(self->reader, READER_READ));
	EXPECT_LE(some, thread_count(&open_to_signals));
	EXPECT_EQ(0, open_to_signals);
}

struct waker {
	struct reader *reader;
	_Atomic unsigned wanted, given;
	_Atomic bool stop;
};

static void *waker_main(void *arg)
{
	struct waker *waker = arg;

	while (!atomic_load(&waker->stop)) {
		if (atomic_load(&waker->given) == atomic_load(&waker->wanted)) {
			sched_yield();
			continue;
		}
		atomic_fetch_add(&waker->given, 1);
		reader_wake(waker->reader);
	}
	return NULL;
}

/* A wake that was lost is a wait without end. */
static void wake(struct __test_metadata *_metadata, FIXTURE_DATA(reads) * self, bool reading)
{
	struct waker waker = {.reader = self->reader};
	pthread_t thread;

	ASSERT_EQ(0, __real_pthread_create(&thread, NULL, waker_main, &waker));
	for (unsigned i = 1; i <= 1000; i++) {
		if (reading)
			begin_all(self, 4);
		atomic_store(&waker.wanted, i);
		while (atomic_load(&waker.given) < i)
			ASSERT_EQ(0, reader_wait(self->reader, READER_ANYTHING));
	}
	atomic_store(&waker.stop, true);
	pthread_join(thread, NULL);
	while (self->under_way)
		ASSERT_EQ(0, reader_wait(self->reader, READER_READ));
	EXPECT_EQ(reading ? 4000 : 0, self->completed);
	EXPECT_EQ(0, self->wrong);
}

TEST_F(reads, waking_ends_a_wait)
{
	wake(_metadata, self, false);
}

TEST_F(reads, waking_among_reads)
{
	wake(_metadata, self, true);
}

TEST_HARNESS_MAIN
