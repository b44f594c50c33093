// SPDX-License-Identifier: GPL-2.0-only
/*
 * Frozen heaps against a model, which is plain memory: random writes, growth, memory given back, freezes, reverts and
 * forks, by each way of finding what was written; what two frozen heaps differ in; frozen heaps of contents from
 * elsewhere and of an image; a thousand forks with few descriptors.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "support.h"
#include "thaw_frozen.h"

#define UNIT 65536u
#define MOST (8u << 20)
#define KEPT 6u

struct model {
	size_t bytes;
	char *memory;
};

FIXTURE(frozen)
{
	struct thaw *heap;
	struct model now, kept_model[KEPT];
	struct thaw_frozen *kept[KEPT];
	unsigned seed;
};
FIXTURE_VARIANT(frozen)
{
	const char *without;
};
FIXTURE_VARIANT_ADD(frozen, pagemap_scan){.without = ""};
FIXTURE_VARIANT_ADD(frozen, pagemap){.without = "pagemap-scan"};
FIXTURE_VARIANT_ADD(frozen, compared){.without = "pagemap-scan,pagemap"};

FIXTURE_SETUP(frozen)
{
	struct thaw_options options = {.max_bytes = MOST};
	struct thaw_error error;

	setenv("THAW_WITHOUT", variant->without, 1);
	ASSERT_EQ(0, thaw_open(&options, &self->heap, &error)) TH_LOG("%s", error.text);
	self->now.memory = calloc(1, MOST);
	for (unsigned i = 0; i < KEPT; i++)
		self->kept_model[i].memory = calloc(1, MOST);
	self->seed = 1;
}
FIXTURE_TEARDOWN(frozen)
{
	thaw_close(self->heap);
	for (unsigned i = 0; i < KEPT; i++) {
		thaw_frozen_drop(self->kept[i]);
		free(self->kept_model[i].memory);
	}
	free(self->now.memory);
}

static unsigned next(FIXTURE_DATA(frozen) * self)
{
	/* xorshift (Marsaglia): the low bits are as good as the others. */
	self->seed ^= self->seed << 13;
	self->seed ^= self->seed >> 17;
	self->seed ^= self->seed << 5;
	return self->seed;
}

static void copy_model(struct model *to, const struct model *from)
{
	to->bytes = from->bytes;
	memcpy(to->memory, from->memory, MOST);
}

static bool is(struct thaw *heap, const struct model *model)
{
	return thaw_size(heap) == model->bytes &&
	       !memcmp(thaw_base(heap), model->memory, model->bytes);
}

static void change(FIXTURE_DATA(frozen) * self)
{
	char *base = thaw_base(self->heap);
	size_t bytes = self->now.bytes, offset, count;

	switch (next(self) % 8) {
	case 0:
		count = bytes + UNIT * (1 + next(self) % 16);
		if (!thaw_resize(self->heap, count < MOST ? count : MOST))
			self->now.bytes = thaw_size(self->heap);
		return;
	case 1: /* given back, in small and large pieces */
		if (!bytes)
			return;
		offset = next(self) % bytes / 4096 * 4096;
		count = (next(self) % 2 ? 1u << 20 : 8192) + next(self) % (1u << 20) / 4096 * 4096;
		count = count < bytes - offset ? count : bytes - offset;
		if (!thaw_release(self->heap, offset, count))
			memset(self->now.memory + offset, 0, count);
		return;
	case 2: /* the contents it has, and zeros, written */
		if (!bytes)
			return;
		offset = next(self) % bytes / 4096 * 4096;
		memcpy(base + offset, self->now.memory + offset, 4096);
		memset(base + offset, 0, 4096);
		memset(self->now.memory + offset, 0, 4096);
		return;
	default:
		for (unsigned i = next(self) % 20; bytes && i; i--) {
			offset = next(self) % bytes;
			base[offset] = self->now.memory[offset] = (char)next(self);
		}
	}
}

static int read_all(const struct thaw_frozen *frozen, const struct model *model)
{
	char *read = malloc(MOST);
	int wrong = thaw_frozen_bytes(frozen) != model->bytes ||
		    thaw_frozen_read(frozen, 0, read, model->bytes, NULL) ||
		    memcmp(read, model->memory, model->bytes);

	/* And parts of it, from anywhere to anywhere. */
	for (size_t at = 1, bytes = 5; !wrong && at < model->bytes; at += 300000, bytes += 9001) {
		size_t part = bytes < model->bytes - at ? bytes : model->bytes - at;

		wrong = thaw_frozen_read(frozen, at, read, part, NULL) ||
			memcmp(read, model->memory + at, part);
	}
	free(read);
	return wrong;
}

/* The sum, however it was found, is that of all pages. */
static int sum_all(const struct thaw_frozen *frozen, const struct model *model)
{
	unsigned __int128 sum = 0;
	uint64_t part[2], told[2];

	for (uint64_t i = 0; i < model->bytes / 4096; i++) {
		thaw_frozen_sum_of(i, model->memory + i * 4096, part);
		sum += (unsigned __int128)part[1] << 64 | part[0];
	}
	part[0] = (uint64_t)sum;
	part[1] = (uint64_t)(sum >> 64);
	if (model->bytes / 65536 % 2) /* it follows from one that is told, too */
		thaw_frozen_sum_is(frozen, part);
	return thaw_frozen_sum(frozen, told, NULL) || told[0] != (uint64_t)sum ||
	       told[1] != (uint64_t)(sum >> 64);
}

/* Any byte of `changed` that is not told of, or any page told of that is the same, is wrong. */
struct told {
	const struct model *from, *to;
	uint64_t up_to;
	int wrong;
};

static bool same(const struct told *told, uint64_t first, uint64_t pages)
{
	return !memcmp(told->from->memory + first * 4096, told->to->memory + first * 4096,
		       pages * 4096);
}

static int tell(void *arg, const struct thaw_page_change *change)
{
	struct told *told = arg;

	told->wrong |= !same(told, told->up_to, change->first - told->up_to);
	for (uint64_t i = 0; i < change->pages; i++)
		told->wrong |= same(told, change->first + i, 1);
	told->up_to = change->first + change->pages;
	return 0;
}

static int data(void *arg, uint64_t first, uint64_t pages)
{
	struct told *told = arg;

	told->wrong |= !same(told, told->up_to, first - told->up_to);
	told->up_to = first + pages;
	return 0;
}

TEST_F(frozen, heaps_are_what_they_were)
{
	static const char zeros[MOST];
	const struct model nothing = {0, (char *)zeros};

	/* Large enough for all ways of giving memory back, from the beginning. */
	ASSERT_EQ(0, thaw_resize(self->heap, MOST / 2));
	self->now.bytes = MOST / 2;
	for (size_t i = 0; i < MOST / 2; i += 512)
		((char *)thaw_base(self->heap))[i] = self->now.memory[i] = (char)next(self);
	for (unsigned round = 0; round < 400; round++) {
		unsigned i = next(self) % KEPT, k = next(self) % KEPT;
		struct thaw_error error = {0};

		change(self);
		switch (next(self) % 4) {
		case 0: /* freeze */
			thaw_frozen_drop(self->kept[i]);
			ASSERT_EQ(0, thaw_freeze(self->heap, &round, sizeof(round), &self->kept[i],
						 &error))
			TH_LOG("%s", error.text);
			copy_model(&self->kept_model[i], &self->now);
			break;
		case 1: /* revert */
			if (!self->kept[i])
				break;
			ASSERT_EQ(0, thaw_revert(self->heap, self->kept[i], &error))
			TH_LOG("%s", error.text);
			copy_model(&self->now, &self->kept_model[i]);
			memset(self->now.memory + self->now.bytes, 0, MOST - self->now.bytes);
			break;
		case 2: /* go on in a fork */
			if (!self->kept[i])
				break;
			thaw_close(self->heap);
			ASSERT_EQ(0, thaw_open(&(struct thaw_options){.max_bytes = MOST,
								      .frozen = self->kept[i]},
					       &self->heap, &error))
			TH_LOG("%s", error.text);
			copy_model(&self->now, &self->kept_model[i]);
			break;
		default:
			if (self->kept[i] && self->kept[k]) {
				struct told told = {&self->kept_model[i], &self->kept_model[k], 0,
						    0};

				ASSERT_EQ(0, thaw_frozen_diff(self->kept[i], self->kept[k], tell,
							      &told, &error));
				ASSERT_EQ(0, told.wrong) TH_LOG("round %u", round);
				ASSERT_TRUE(same(&told, told.up_to, MOST / 4096 - told.up_to));
			}
			if (self->kept[i]) {
				struct told told = {&nothing, &self->kept_model[i], 0, 0};

				ASSERT_EQ(0, thaw_frozen_pages(self->kept[i], data, &told));
				ASSERT_EQ(0, told.wrong);
				ASSERT_TRUE(same(&told, told.up_to, MOST / 4096 - told.up_to));
				ASSERT_EQ(0, sum_all(self->kept[i], &self->kept_model[i]))
				TH_LOG("round %u", round);
			}
		}
		ASSERT_TRUE(is(self->heap, &self->now)) TH_LOG("round %u", round);
		if (self->kept[i])
			ASSERT_EQ(0, read_all(self->kept[i], &self->kept_model[i]))
		TH_LOG("round %u", round);
	}
}

TEST_F(frozen, of_contents_from_elsewhere)
{
	struct thaw_frozen *first, *second;
	struct model model = {4 * UNIT, calloc(1, MOST)};
	size_t bytes;

	ASSERT_EQ(0, thaw_frozen_begin(4 * UNIT, &first, NULL));
	ASSERT_EQ(0, thaw_frozen_write(first, 5000, "first", 5, NULL));
	ASSERT_EQ(-ERANGE, thaw_frozen_write(first, 4 * UNIT, "x", 1, NULL));
	ASSERT_EQ(0, thaw_frozen_end(first, "state", 6, NULL));
	memcpy(model.memory + 5000, "first", 5);
	EXPECT_EQ(0, read_all(first, &model));
	EXPECT_STREQ("state", thaw_frozen_state(first, &bytes));
	ASSERT_EQ(0, thaw_frozen_begin_over(first, 6 * UNIT, &second, NULL));
	ASSERT_EQ(0, thaw_frozen_write(second, 4095, "over pages", 10, NULL));
	ASSERT_EQ(0, thaw_frozen_write(second, 5 * UNIT, "behind", 6, NULL));
	ASSERT_EQ(0, thaw_frozen_end(second, NULL, 0, NULL));
	EXPECT_EQ(0, read_all(first, &model));
	thaw_frozen_drop(first);
	model.bytes = 6 * UNIT;
	memcpy(model.memory + 4095, "over pages", 10);
	memcpy(model.memory + 5 * UNIT, "behind", 6);
	EXPECT_EQ(0, read_all(second, &model));
	EXPECT_EQ(0, sum_all(second, &model));
	ASSERT_EQ(0, thaw_revert(self->heap, second, NULL));
	EXPECT_TRUE(is(self->heap, &model));
	thaw_frozen_drop(second);
	free(model.memory);
}

/* Nobody but the heap has what it was when it is frozen again. Large blocks of malloc's are gone when they are freed. */
TEST_F(frozen, what_nobody_keeps_is_not_needed)
{
	struct thaw_frozen *frozen;

	mallopt(M_MMAP_THRESHOLD, 8192);
	ASSERT_EQ(0, thaw_resize(self->heap, MOST));
	self->now.bytes = MOST;
	for (unsigned round = 0; round < 20; round++) {
		for (size_t at = round; at < MOST; at += 4096 + round % 2 * 4096)
			((char *)thaw_base(self->heap))[at] = self->now.memory[at] =
				(char)(round + 1);
		ASSERT_EQ(0, thaw_freeze(self->heap, NULL, 0, &frozen, NULL));
		if (round % 5 == 4)
			EXPECT_EQ(0, read_all(frozen, &self->now));
		thaw_frozen_drop(frozen);
	}
	EXPECT_TRUE(is(self->heap, &self->now));
}

/* Any bytes any number of times, in any order, over one that has copies of its own; larger and smaller. */
TEST_F(frozen, written_over_another_in_any_order)
{
	struct model model = {0, calloc(1, MOST)};
	struct thaw_frozen *under, *over;

	ASSERT_EQ(0, thaw_frozen_begin(8 * UNIT, &under, NULL));
	ASSERT_EQ(0, thaw_frozen_end(under, NULL, 0, NULL));
	for (unsigned round = 0; round < 12; round++) {
		size_t units = 4 + next(self) % 12;

		ASSERT_EQ(0, thaw_frozen_begin_over(under, units * UNIT, &over, NULL));
		model.bytes = units * UNIT;
		memset(model.memory + model.bytes, 0, MOST - model.bytes);
		for (unsigned i = 0; i < 40; i++) {
			size_t at = next(self) % model.bytes, bytes = next(self) % 20000;
			size_t most = model.bytes - at;

			bytes = bytes < most ? bytes : most;
			memset(model.memory + at, next(self) % 3, bytes);
			ASSERT_EQ(0, thaw_frozen_write(over, at, model.memory + at, bytes, NULL));
		}
		ASSERT_EQ(0, thaw_frozen_end(over, NULL, 0, NULL));
		EXPECT_EQ(0, read_all(over, &model)) TH_LOG("round %u", round);
		EXPECT_EQ(0, sum_all(over, &model)) TH_LOG("round %u", round);
		thaw_frozen_drop(under);
		under = over;
	}
	thaw_frozen_drop(under);
	free(model.memory);
}

static int count_change(void *arg, const struct thaw_page_change *change)
{
	*(uint64_t *)arg += change->pages;
	return 0;
}

static void *fork_and_drop(void *arg)
{
	struct thaw_frozen *frozen = arg;
	unsigned long wrong = 0;
	uint64_t sums[2][2], changed;

	for (unsigned i = 0; i < 50; i++) {
		struct thaw *heap;
		struct thaw_frozen *mine;
		char *base;

		if (thaw_open(&(struct thaw_options){.max_bytes = MOST, .frozen = frozen}, &heap,
			      NULL))
			return (void *)1;
		base = thaw_base(heap);
		wrong += base[UNIT] != 'k' || base[2 * UNIT] != 'o';
		base[UNIT] = (char)i;
		if (thaw_freeze(heap, NULL, 0, &mine, NULL))
			return (void *)1;
		wrong += thaw_revert(heap, frozen, NULL) || base[UNIT] != 'k';
		wrong += thaw_frozen_sum(frozen, sums[i % 2], NULL) ||
			 (i && memcmp(sums[0], sums[1], sizeof(sums[0])));
		changed = 0;
		wrong += thaw_frozen_diff(frozen, mine, count_change, &changed, NULL) ||
			 changed != (i != 'k');
		thaw_close(heap);
		thaw_frozen_drop(mine);
	}
	thaw_frozen_drop(frozen);
	return (void *)wrong;
}

TEST_F(frozen, by_several_threads)
{
	struct thaw_frozen *frozen, *before;
	pthread_t threads[4];
	void *wrong;

	ASSERT_EQ(0, thaw_resize(self->heap, 16 * UNIT));
	((char *)thaw_base(self->heap))[UNIT] = 'k';
	ASSERT_EQ(0, thaw_freeze(self->heap, NULL, 0, &before, NULL));
	((char *)thaw_base(self->heap))[2 * UNIT] = 'o';
	ASSERT_EQ(0, thaw_freeze(self->heap, NULL, 0, &frozen, NULL));
	thaw_frozen_drop(before);
	for (unsigned i = 0; i < 4; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, fork_and_drop,
					    thaw_frozen_hold(frozen)));
	thaw_frozen_drop(frozen);
	for (unsigned i = 0; i < 4; i++) {
		ASSERT_EQ(0, pthread_join(threads[i], &wrong));
		EXPECT_EQ(NULL, wrong);
	}
}

TEST_F(frozen, a_thousand_forks)
{
	struct rlimit few = {64, 64};
	static struct thaw *forks[1000];
	struct thaw_frozen *frozen;

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
	ASSERT_EQ(0, thaw_resize(self->heap, 4 * UNIT));
	memset(thaw_base(self->heap), 'x', 4 * UNIT);
	ASSERT_EQ(0, thaw_freeze(self->heap, NULL, 0, &frozen, NULL));
	for (unsigned i = 0; i < 1000; i++) {
		ASSERT_EQ(0, thaw_open(&(struct thaw_options){.max_bytes = MOST, .frozen = frozen},
				       &forks[i], NULL));
		*(unsigned *)((char *)thaw_base(forks[i]) + UNIT) = i;
		ASSERT_EQ(0, thaw_touch(thaw_base(forks[i]), 1, true));
	}
	for (unsigned i = 0; i < 1000; i++) {
		EXPECT_EQ(i, *(unsigned *)((char *)thaw_base(forks[i]) + UNIT));
		EXPECT_EQ('x', *(char *)thaw_base(forks[i]));
		thaw_close(forks[i]);
	}
	thaw_frozen_drop(frozen);
}

/* How many flat files are in the directory. */
static unsigned flat_files(const char *directory)
{
	DIR *list = opendir(directory);
	const struct dirent *entry;
	unsigned count = 0;

	while ((entry = readdir(list)))
		count += strstr(entry->d_name, ".thaw-flat-") != NULL;
	closedir(list);
	return count;
}

TEST_F(frozen, a_generation_of_an_image)
{
	char *directory = support_directory(), *image;
	struct thaw_frozen *one, *two, *copy;
	struct thaw_error alone, error = {0};
	struct thaw *persists;
	size_t bytes;

	ASSERT_LT(0, asprintf(&image, "%s/an.thaw", directory));
	ASSERT_EQ(0, thaw_open(&(struct thaw_options){.image = image,
						      .flags = THAW_CREATE,
						      .max_bytes = MOST,
						      .engine = "test"},
			       &persists, &error))
	TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_resize(persists, 4 * UNIT));
	strcpy(thaw_base(persists), "generation 1");
	ASSERT_EQ(0, thaw_checkpoint(persists, THAW_REASON_REQUEST, "s", 2, NULL));
	strcpy(thaw_base(persists), "later");
	/* Of the open heap itself. */
	ASSERT_EQ(0, thaw_freeze(persists, NULL, 0, &copy, &error)) TH_LOG("%s", error.text);
	strcpy(thaw_base(persists), "latest");
	ASSERT_EQ(0, thaw_revert(self->heap, copy, NULL));
	EXPECT_STREQ("later", thaw_base(self->heap));
	EXPECT_EQ(-EINVAL, thaw_revert(persists, copy, NULL));
	thaw_frozen_drop(copy);

	ASSERT_EQ(0, thaw_frozen_open(image, "1", &one, &alone, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(0, alone.code) TH_LOG("%s", alone.text);
	ASSERT_EQ(0, thaw_frozen_open(image, NULL, &two, &alone, &error));
	EXPECT_EQ(0, alone.code) TH_LOG("%s", alone.text);
	EXPECT_EQ(1, flat_files(directory));
	ASSERT_EQ(0, thaw_revert(self->heap, two, NULL));
	EXPECT_STREQ("generation 1", thaw_base(self->heap));
	EXPECT_STREQ("s", thaw_state(self->heap, &bytes));
	EXPECT_EQ(1, thaw_opened(self->heap)->number);
	thaw_frozen_drop(one);
	EXPECT_EQ(1, flat_files(directory));
	thaw_frozen_drop(two);
	thaw_close(self->heap);
	self->heap = NULL;
	EXPECT_EQ(0, flat_files(directory));
	thaw_close(persists);
	support_remove(directory);
	free(image);
}

/* How many bytes this process has written, by system calls. */
static uint64_t written(void)
{
	FILE *file = fopen("/proc/self/io", "r");
	unsigned long long bytes = 0;

	while (file && !fscanf(file, "wchar: %llu", &bytes) && fgetc(file) != EOF)
		;
	if (file)
		fclose(file);
	return bytes;
}

static _Noreturn void open_flat(const char *image, int begin, int tell)
{
	struct thaw_frozen *frozen;
	struct thaw_error alone, error;
	char byte;
	uint64_t told[2] = {0};

	if (read(begin, &byte, 1)) /* all at once: when the last one closes it */
		_exit(1);
	told[0] = written();
	if (thaw_frozen_open(image, NULL, &frozen, &alone, &error) || alone.code)
		_exit(2);
	told[1] = written() - told[0];
	if (write(tell, &told[1], sizeof(told[1])) != sizeof(told[1]))
		_exit(3);
	pause();
	_exit(4);
}

/* One of those who begin at the same time writes the file, the others wait for it. */
TEST(many_processes_write_one_file)
{
	char *directory = support_directory(), *image;
	struct thaw_error error = {0};
	struct thaw *heap;
	pid_t children[8];
	int begin[2], tell[2];
	uint64_t all = 0, one;

	ASSERT_LT(0, asprintf(&image, "%s/an.thaw", directory));
	ASSERT_EQ(0, thaw_open(&(struct thaw_options){.image = image,
						      .flags = THAW_CREATE,
						      .max_bytes = MOST,
						      .engine = "test"},
			       &heap, &error));
	ASSERT_EQ(0, thaw_resize(heap, MOST));
	memset(thaw_base(heap), 'x', MOST);
	ASSERT_EQ(0, thaw_checkpoint(heap, THAW_REASON_REQUEST, "s", 2, NULL));
	thaw_close(heap);
	ASSERT_EQ(0, pipe(begin));
	ASSERT_EQ(0, pipe(tell));
	for (unsigned i = 0; i < 8; i++) {
		children[i] = fork();
		if (!children[i]) {
			close(begin[1]);
			open_flat(image, begin[0], tell[1]);
		}
	}
	close(begin[1]);
	close(tell[1]);
	for (unsigned i = 0; i < 8; i++) {
		ASSERT_EQ(sizeof(one), read(tell[0], &one, sizeof(one)));
		all += one;
	}
	EXPECT_LE(MOST, all);
	EXPECT_GT(MOST * 3 / 2, all);
	EXPECT_EQ(1, flat_files(directory));
	for (unsigned i = 0; i < 8; i++) {
		kill(children[i], SIGKILL);
		waitpid(children[i], NULL, 0);
	}
	support_remove(directory);
	free(image);
}

TEST_HARNESS_MAIN
