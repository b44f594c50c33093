// SPDX-License-Identifier: GPL-2.0-only
/*
 * A heap whose pages are larger than the kernel's, because another kernel made its image: it opens, and
 * whatever the program does to single pages of the kernel's is right; one whose pages are smaller is
 * refused in one line. THAW_PAGE_BYTES stands for the other kernels. (tests/uffd/heap_persists.c,
 * restore_lazy.c, restore_damaged.c, write_tracking.c and javascript_kills.c have such pages too.)
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>

#include "by_path.h"
#include "support.h"
#include "thaw.h"

#define HEAP (4u << 20)
#define KERNEL_PAGE ((size_t)sysconf(_SC_PAGESIZE))

static int open_heap(struct thaw **heap, const char *path, const char *page_bytes,
		     struct thaw_error *error)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = HEAP, .engine = "test"};
	int code;

	if (page_bytes)
		setenv("THAW_PAGE_BYTES", page_bytes, 1);
	*heap = NULL;
	code = thaw_open(&options, heap, error);
	unsetenv("THAW_PAGE_BYTES");
	return code;
}

FIXTURE(sizes)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	struct program program;
};
FIXTURE_SETUP(sizes)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, NULL, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", self->error.text);
	thaw_close(self->heap);
	self->heap = NULL;
	unlink(self->path);
}
FIXTURE_TEARDOWN(sizes)
{
	thaw_close(self->heap);
	program_free(&self->program);
	free(self->path);
	support_remove(self->directory);
}

TEST_F(sizes, larger_than_the_images_are_refused)
{
	static const char *const made[] = {"16384", "32768", "65536"};
	struct thaw_image_info info;

	for (unsigned i = 0; i < 3; i++) {
		if (strtoul(made[i], NULL, 10) < KERNEL_PAGE)
			continue;
		unlink(self->path);
		ASSERT_EQ(0, open_heap(&self->heap, self->path, made[i], &self->error));
		ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
		memset(thaw_base(self->heap), 5, HEAP);
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, NULL));
		thaw_close(self->heap);
		for (unsigned opened = 0; opened < 3; opened++) {
			int code;

			if (strtoul(made[opened], NULL, 10) < KERNEL_PAGE)
				continue;
			code = open_heap(&self->heap, self->path, made[opened], &self->error);

			ASSERT_EQ(opened > i ? THAW_EFORMAT : 0, code);
			if (code) {
				EXPECT_NE(NULL, strstr(self->error.text, made[i]));
				EXPECT_NE(NULL, strstr(self->error.text, made[opened]));
				EXPECT_EQ(NULL, strchr(self->error.text, '\n'));
				continue;
			}
			ASSERT_EQ(5, ((volatile char *)thaw_base(self->heap))[HEAP - 1]);
			thaw_close(self->heap);
			self->heap = NULL;
		}
		ASSERT_EQ(0, path_info(self->path, false, &info, &self->error));
		EXPECT_EQ(strtoul(made[i], NULL, 10), info.page_bytes);
	}
}

TEST_F(sizes, that_cannot_be)
{
	static const char *const wrong[] = {
		"0",	  "1024",   "2048", "5000",   "131072",
		"-16384", "16384k", "lots", "0x4000", "18446744073709568000"};

	for (unsigned i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		ASSERT_EQ(-EINVAL, open_heap(&self->heap, self->path, wrong[i], &self->error))
		TH_LOG("%s", wrong[i]);
		EXPECT_NE(NULL, strstr(self->error.text, wrong[i]));
		EXPECT_NE(0, access(self->path, F_OK));
	}
}

/* The commands say it, too, and those that only read do not mind. */
TEST_F(sizes, of_an_image_in_commands)
{
	char *script = support_format("%s/counter.js", self->directory);
	char *image = support_format("%s/counter.thaw", self->directory);
	char *here = support_format("%zu", KERNEL_PAGE);

	if (!strcmp(here, "65536"))
		SKIP(return, "no pages are larger than this kernel's");
	support_write(script, "globalThis.n = 41; n++");
	ASSERT_EQ(0, program_run(&self->program, NULL, THAW("run", script)))
	TH_LOG("%s", self->program.errors);
	program_free(&self->program);
	setenv("THAW_PAGE_BYTES", "65536", 1);
	EXPECT_EQ(76, program_run(&self->program, NULL, THAW("run", script)));
	TH_LOG("%s", self->program.errors);
	EXPECT_NE(NULL, strstr(self->program.errors, here));
	EXPECT_NE(NULL, strstr(self->program.errors, "65536"));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("export", image)));
	EXPECT_NE(NULL, strstr(self->program.output, "42"));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("verify", image)));
	program_free(&self->program);
	EXPECT_EQ(0, unlink(image));
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("run", script)));
	program_free(&self->program);
	EXPECT_EQ(0, program_run(&self->program, NULL, THAW("inspect", "--json", image)));
	EXPECT_NE(NULL, strstr(self->program.output, "\"pageBytes\":65536"));
	free(here);
	free(image);
	free(script);
}

/* What single pages of the kernel's go through, of which one of the image's is several. */
FIXTURE(parts)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
};
FIXTURE_VARIANT(parts)
{
	const char *tracker, *backing, *page_bytes, *delivery;
};
FIXTURE_VARIANT_ADD(parts, kmod_of_64_kib){.tracker = "kmod", .backing = "", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(parts, kmod_of_16_kib){.tracker = "kmod", .backing = "", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(parts, wp_async_anonymous_of_64_kib){
	.tracker = "wp-async", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(parts, wp_async_anonymous_of_16_kib){
	.tracker = "wp-async", .backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(parts, wp_sync_anonymous_of_16_kib){
	.tracker = "wp-sync", .backing = "anonymous", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(parts, wp_sync_anonymous_of_64_kib){
	.tracker = "wp-sync", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(parts, mprotect_anonymous_of_64_kib){
	.tracker = "mprotect", .backing = "anonymous", .page_bytes = "65536"};
FIXTURE_VARIANT_ADD(parts, mprotect_sigsegv_of_16_kib){
	.tracker = "mprotect", .backing = "", .delivery = "sigsegv", .page_bytes = "16384"};
FIXTURE_VARIANT_ADD(parts, mprotect_eager_of_64_kib){
	.tracker = "mprotect", .backing = "", .delivery = "eager", .page_bytes = "65536"};

static volatile uint64_t *word_at(struct thaw *heap, size_t page)
{
	return (volatile uint64_t *)((char *)thaw_base(heap) + page * KERNEL_PAGE);
}

static int reopen(FIXTURE_DATA(parts) * self)
{
	thaw_close(self->heap);
	return open_heap(&self->heap, self->path, NULL, &self->error);
}

FIXTURE_SETUP(parts)
{
	setenv("THAW_TRACKER", variant->tracker, 1);
	setenv("THAW_BACKING", variant->backing, 1);
	setenv("THAW_DELIVERY", variant->delivery ? variant->delivery : "", 1);
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	if (open_heap(&self->heap, self->path, variant->page_bytes, &self->error) == THAW_EKERNEL)
		SKIP(return, "%s", self->error.text);
	ASSERT_NE(NULL, self->heap) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
	for (size_t page = 0; page < HEAP / KERNEL_PAGE; page++)
		*word_at(self->heap, page) = page + 1;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	ASSERT_EQ(0, reopen(self)) TH_LOG("%s", self->error.text);
}
FIXTURE_TEARDOWN(parts)
{
	thaw_close(self->heap);
	free(self->path);
	support_remove(self->directory);
}

/* mprotect() cuts the mapping in the middle of the image's pages: the ioctls end there. */
TEST_F(parts, protected_by_the_program)
{
	const size_t pages = HEAP / KERNEL_PAGE;
	struct thaw_status status;

	thaw_status(self->heap, &status);
	if (!strcmp(status.delivery, "sigsegv") || !strcmp(status.delivery, "eager"))
		SKIP(return, "without userfaultfd, protection says what has arrived");
	for (size_t page = 3; page < pages; page += 7)
		ASSERT_EQ(0, mprotect((void *)word_at(self->heap, page), KERNEL_PAGE, PROT_READ));
	for (size_t page = 0; page < pages; page++) {
		ASSERT_EQ(page + 1, *word_at(self->heap, page));
		if (page % 7 != 3)
			*word_at(self->heap, page) = page + 1000;
	}
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	for (size_t page = 0; page < pages; page += 5)
		if (page % 7 != 3)
			*word_at(self->heap, page) = page + 2000;
	ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	ASSERT_EQ(0, reopen(self)) TH_LOG("%s", self->error.text);
	for (size_t page = 0; page < pages; page++)
		ASSERT_EQ(page % 7 == 3	  ? page + 1
			  : page % 5 == 0 ? page + 2000
					  : page + 1000,
			  *word_at(self->heap, page));
}

/* One word of one of the kernel's pages was written: all of the image's page is stored, as it is. */
TEST_F(parts, written_one_by_one)
{
	const uint32_t each = (uint32_t)(strtoul(variant->page_bytes, NULL, 10) / KERNEL_PAGE);
	const size_t pages = HEAP / KERNEL_PAGE;
	struct thaw_result result;

	for (uint32_t part = 0; part < each; part++) {
		for (size_t page = part; page < pages; page += 2 * each)
			word_at(self->heap, page)[100] = part + 1;
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, &result));
		EXPECT_EQ(pages / each / 2, result.generation.pages_stored);
		EXPECT_EQ(pages / each / 2, result.generation.pages_written);
		if (part % 3 == 2)
			ASSERT_EQ(0, reopen(self)) TH_LOG("%s", self->error.text);
	}
	ASSERT_EQ(0, reopen(self)) TH_LOG("%s", self->error.text);
	for (size_t page = 0; page < pages; page++) {
		ASSERT_EQ(page + 1, *word_at(self->heap, page));
		ASSERT_EQ(page / each % 2 ? 0 : page % each + 1, word_at(self->heap, page)[100]);
	}
}

/* New memory of which single pages of the kernel's were touched; the rest of them is zero. */
TEST_F(parts, fresh)
{
	const size_t pages = HEAP / KERNEL_PAGE;

	thaw_close(self->heap);
	self->heap = NULL;
	unlink(self->path);
	ASSERT_EQ(0, open_heap(&self->heap, self->path, variant->page_bytes, &self->error));
	ASSERT_EQ(0, thaw_resize(self->heap, HEAP));
	for (size_t round = 0; round < 4; round++) {
		for (size_t page = round * 11; page < pages; page += 37)
			*word_at(self->heap, page) = page + 1;
		ASSERT_EQ(0, thaw_checkpoint(self->heap, THAW_REASON_REQUEST, NULL, 0, NULL));
	}
	ASSERT_EQ(0, reopen(self)) TH_LOG("%s", self->error.text);
	for (size_t page = 0; page < pages; page++) {
		bool touched = false;

		for (size_t round = 0; round < 4; round++)
			touched |= page >= round * 11 && (page - round * 11) % 37 == 0;
		ASSERT_EQ(touched ? page + 1 : 0, *word_at(self->heap, page));
	}
}

TEST_HARNESS_MAIN
