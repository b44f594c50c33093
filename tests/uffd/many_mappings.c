// SPDX-License-Identifier: GPL-2.0-only
/*
 * Every change of protection in the middle of a mapping makes more mappings, of which a process has some 65,000. Where
 * pages come or are tracked by SIGSEGV, a program that touches or writes a heap in the worst of all patterns goes on, leaves
 * mappings for others, and nothing it wrote is lost; also where the kernel refuses a change of protection once.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>

#include "support.h"
#include "thaw.h"

#define PAGE 4096ul
#define CLUSTER 16ul /* pages */
#define ROOM 40000ul /* mappings, of the 65,530 that vm.max_map_count gives */

static unsigned long mappings(void)
{
	FILE *file = fopen("/proc/self/maps", "re");
	unsigned long lines = 0;
	int letter;

	if (!file)
		support_die("/proc/self/maps");
	while ((letter = fgetc(file)) != EOF)
		lines += letter == '\n';
	fclose(file);
	return lines;
}

static int heap_open(struct thaw **heap, const char *path, size_t max_bytes,
		     struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = max_bytes, .engine = "test"};

	return thaw_open(&options, heap, error);
}

static volatile size_t *word_of(struct thaw *heap, size_t page)
{
	return (volatile size_t *)((char *)thaw_base(heap) + page * PAGE);
}

FIXTURE(mappings)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(mappings)
{
	const char *delivery;
};
FIXTURE_VARIANT_ADD(mappings, userfaultfd){.delivery = "userfaultfd"};
FIXTURE_VARIANT_ADD(mappings, sigsegv){.delivery = "sigsegv"};
FIXTURE_VARIANT_ADD(mappings, eager){.delivery = "eager"};

FIXTURE_SETUP(mappings)
{
	setenv("THAW_DELIVERY", variant->delivery, 1);
	setenv("THAW_TRACKER", "mprotect", 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (heap_open(&self->heap, self->path, 4ul << 30, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap)
	{
		TH_LOG("%s", self->error.text);
	}
}
FIXTURE_TEARDOWN(mappings)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

static int reopen(struct thaw **heap, const char *path, struct thaw_error *error)
{
	thaw_close(*heap);
	*heap = NULL;
	return heap_open(heap, path, 4ul << 30, error);
}

TEST_F(mappings, every_other_page_is_written)
{
	const size_t pages = (320ul << 20) / PAGE;
	struct thaw_result result;

	ASSERT_EQ(0, thaw_resize(self->heap, pages * PAGE));
	for (size_t page = 0; page < pages; page++)
		*word_of(self->heap, page) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_TIMER, "s", 2, &result));
	for (size_t page = 0; page < pages; page += 2)
		*word_of(self->heap, page) = page + 7;
	EXPECT_LT(mappings(), ROOM);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "t", 2, &result))
	{
		TH_LOG("%s", result.error.text);
	}
	EXPECT_EQ(pages / 2, result.generation.pages_stored);
	/* What was collected is watched again, a page at a time. */
	*word_of(self->heap, 11) = 0;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "u", 2, &result));
	EXPECT_EQ(1, result.generation.pages_written);
	ASSERT_EQ(0, reopen(&self->heap, self->path, &self->error));
	for (size_t page = 0; page < pages; page++)
		ASSERT_EQ(page == 11 ? 0
			  : page % 2 ? page + 1
				     : page + 7,
			  *word_of(self->heap, page));
}

/* Of 4 GiB, in which one page of every other cluster is more than zero. */
TEST_F(mappings, every_other_cluster_is_touched)
{
	const size_t pages = (4ul << 30) / PAGE;

	if (!strcmp(variant->delivery, "eager"))
		SKIP(return, "all of it is there before it is touched");
	ASSERT_EQ(0, thaw_resize(self->heap, pages * PAGE));
	for (size_t page = 3; page < pages; page += 2 * CLUSTER)
		*word_of(self->heap, page) = page;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	ASSERT_EQ(0, reopen(&self->heap, self->path, &self->error));
	for (size_t page = 3; page < pages; page += 2 * CLUSTER)
		ASSERT_EQ(page, *word_of(self->heap, page));
	EXPECT_LT(mappings(), ROOM);
	/* And then written, as far as they are. */
	for (size_t page = 3; page < pages; page += 2 * CLUSTER)
		*word_of(self->heap, page) += 1;
	EXPECT_LT(mappings(), ROOM);
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, NULL));
	ASSERT_EQ(0, reopen(&self->heap, self->path, &self->error));
	for (size_t page = 3; page < pages; page += 2 * CLUSTER)
		ASSERT_EQ(page + 1, *word_of(self->heap, page));
}

#define FEW 400ul

static unsigned mix(size_t page)
{
	return (unsigned)(page * 2654435761u) % FEW;
}

/* What a child does whose `skip`th change of protection fails: all that it does is right all the same. */
static int touch_and_write(const char *path)
{
	struct thaw_error error;
	struct thaw *heap;

	if (heap_open(&heap, path, 64ul << 20, &error))
		return 3;
	for (size_t i = 0; i < FEW; i++)
		if (*word_of(heap, mix(i)) != mix(i) + 1)
			return 4;
	for (size_t i = 0; i < FEW / 2; i++)
		*word_of(heap, mix(i * 3)) = mix(i * 3) + 1000;
	if (thaw_checkpoint(heap, THAW_REASON_EXIT, "s", 2, NULL))
		return 5;
	for (size_t i = 0; i < FEW / 2; i++)
		*word_of(heap, mix(i * 3)) = mix(i * 3) + 1;
	if (thaw_checkpoint(heap, THAW_REASON_EXIT, "s", 2, NULL))
		return 6;
	thaw_close(heap);
	return 0;
}

TEST_F(mappings, a_change_of_protection_is_refused_once)
{
	struct thaw_result result;
	unsigned refused = 0;

	ASSERT_EQ(0, thaw_resize(self->heap, 64ul << 20));
	for (size_t page = 0; page < FEW; page++)
		*word_of(self->heap, page) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result));
	thaw_close(self->heap);
	self->heap = NULL;
	for (unsigned skip = 0; skip < 300; skip = skip * 5 / 4 + 1) {
		char *inject = support_format("mprotect:ENOMEM:%u", skip);
		int status;
		pid_t child = fork();

		if (!child) {
			setenv("THAW_INJECT", inject, 1);
			execl("/proc/self/exe", "many_mappings", "--workload", self->path, NULL);
			_exit(2);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		free(inject);
		/* Loading all of it, and collecting, fail as a whole and say so. */
		ASSERT_TRUE(WIFEXITED(status) &&
			    (!WEXITSTATUS(status) || WEXITSTATUS(status) == 3 ||
			     WEXITSTATUS(status) == 5 || WEXITSTATUS(status) == 6))
		{
			TH_LOG("skip %u: status 0x%x", skip, status);
		}
		if (WEXITSTATUS(status))
			refused++;
		/* Whatever it was, the image has one or the other, or some of both in no page. */
		ASSERT_EQ(0, heap_open(&self->heap, self->path, 64ul << 20, &self->error));
		for (size_t page = 0; page < FEW; page++) {
			size_t value = *word_of(self->heap, page);

			ASSERT_TRUE(value == page + 1 || value == page + 1000);
			*word_of(self->heap, page) = page + 1;
		}
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_EXIT, "s", 2, &result));
		thaw_close(self->heap);
		self->heap = NULL;
	}
	TH_LOG("%u of them were told", refused);
	EXPECT_LT(refused, 6);
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "--workload"))
		return touch_and_write(argv[2]);
	return test_harness_run(argc, argv);
}
