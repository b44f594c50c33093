// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm_damage.c - a VM of libthawvm whose image is damaged, or whose program breaks out of what its sandbox allows: that VM ends with
 * an error, whoever has touched it, and everything else in the process goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"
#include "image_forge.h"
#include "thaw.h"

FIXTURE(damaged)
{
	char directory[40], path[64];
	struct thaw_vm_options options;
	struct thaw_vm *other; /* that has nothing to do with it */
};
FIXTURE_VARIANT(damaged)
{
	const char *delivery, *without;
};
/* Each of them where the kernel has it. */
FIXTURE_VARIANT_ADD(damaged, at_its_best){"", ""};
FIXTURE_VARIANT_ADD(damaged, without_poison){"", "poison"};
FIXTURE_VARIANT_ADD(damaged, by_sigsegv){"sigsegv", ""};
FIXTURE_VARIANT_ADD(damaged, loaded_at_the_start){"eager", ""};

static thaw_vm_value inner(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	struct thaw_error error;
	int *codes = arg;

	(void)ticket, (void)count, (void)values;
	codes[0] = thaw_vm_eval(vm, "sum()", SIZE_MAX, "inner.js", 0, NULL, &error);
	codes[1] = thaw_vm_eval(vm, "1", SIZE_MAX, "inner.js", 0, NULL, &error);
	thaw_vm_undefined(vm);
	codes[2]++; /* this function has come to its end */
	return 0;
}

static int codes[3];
static const struct thaw_vm_function functions[] = {{"inner", inner, codes, 0}};

static const char program[] =
	"const big = new Uint8Array(1 << 19).map((_, i) => i * 7);"
	"const sum = () => { let s = 0; for (let i = 0; i < big.length; i += 512) s += big[i]; return s };"
	"const small = () => 42;"
	"const caught = () => { try { inner() } catch (e) { } return 'went on' }";

/*
 * Every other page of the array, which are found in the file by what is in them, gets another byte. How many are there.
 */
static unsigned damage_pages(const char *path)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	unsigned found = 0;
	uint8_t page[4096];

	for (off_t at = 0; pread(fd, page, sizeof(page), at) == sizeof(page); at += 4096) {
		bool like = true;

		for (unsigned i = 1; like && i < 4096; i++)
			like = page[i] == (uint8_t)(page[i - 1] + 7);
		if (!like || found++ % 2)
			continue;
		page[100] ^= 1;
		if (pwrite(fd, page, sizeof(page), at) != sizeof(page))
			found = 0;
	}
	close(fd);
	return found;
}

FIXTURE_SETUP(damaged)
{
	struct thaw_error error;
	struct thaw_vm *vm;

	if (*variant->delivery)
		setenv("THAW_DELIVERY", variant->delivery, 1);
	if (*variant->without)
		setenv("THAW_WITHOUT", variant->without, 1);
	strcpy(self->directory, "/tmp/thaw-test-embed-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->directory));
	snprintf(self->path, sizeof(self->path), "%s/a.thaw", self->directory);
	self->options = (struct thaw_vm_options){.image = self->path,
						 .size = sizeof(self->options),
						 .functions = functions,
						 .function_count = 1};
	self->other = vm_with((struct thaw_vm_options){0});
	ASSERT_NE(NULL, self->other);
	ASSERT_EQ(0, run(self->other, "const small = () => 42", &error));
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, program, &error)) TH_LOG("%s", error.text);
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	ASSERT_EQ(0, thaw_vm_close(vm));
	ASSERT_LT(100, damage_pages(self->path));
}
FIXTURE_TEARDOWN(damaged)
{
	if (self->other) {
		EXPECT_TRUE(gives(self->other, "small", NULL, "42"));
	}
	thaw_vm_close(self->other);
	unlink(self->path);
	rmdir(self->directory);
}

TEST_F(damaged, ends_the_vm_that_touches_it)
{
	struct thaw_error error = {0};
	struct thaw_vm_snapshot *snapshot;
	struct thaw_vm_usage usage;
	struct thaw_vm *vm = vm_with(self->options);
	char *json;

	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "small", NULL, "42"));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_call(vm, "sum", NULL, &json, &error));
	EXPECT_NE(NULL, strstr(error.text, self->path));
	EXPECT_NE(NULL, strstr(error.text, "page "));
	EXPECT_NE(NULL, strstr(error.text, "checksum"));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_call(vm, "small", NULL, &json, &error));
	EXPECT_NE(NULL, strstr(error.text, "checksum"));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_snapshot(vm, &snapshot, &error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_usage(vm, &usage));
	EXPECT_EQ(0, thaw_vm_string(vm, "a", 1));
	EXPECT_EQ(UINT64_MAX, thaw_vm_next_due(vm));
	EXPECT_EQ(0, thaw_vm_close(vm));
	/* What is whole of it can be opened again. */
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "small", NULL, "42"));
	EXPECT_EQ(0, thaw_vm_close(vm));
}

/* A copy of all pages, made by the library and not by code in the sandbox. */
TEST_F(damaged, is_met_outside_of_the_sandbox)
{
	struct thaw_vm *vm = vm_with(self->options);
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error = {0};
	char *json;

	ASSERT_NE(NULL, vm);
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_snapshot(vm, &snapshot, &error));
	EXPECT_EQ(NULL, snapshot);
	EXPECT_NE(NULL, strstr(error.text, "checksum"));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_call(vm, "small", NULL, &json, &error));
	EXPECT_EQ(0, thaw_vm_close(vm));
}

/* No function of the host's is jumped over. */
TEST_F(damaged, is_met_in_a_call_of_a_host_function)
{
	struct thaw_vm *vm = vm_with(self->options);
	struct thaw_error error = {0};
	char *json;

	ASSERT_NE(NULL, vm);
	memset(codes, 0, sizeof(codes));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_call(vm, "caught", NULL, &json, &error));
	EXPECT_EQ(THAW_EDAMAGED, codes[0]);
	EXPECT_EQ(THAW_EDAMAGED, codes[1]);
	EXPECT_EQ(1, codes[2]);
	EXPECT_EQ(0, thaw_vm_close(vm));
}

TEST_F(damaged, is_told_where_an_older_generation_was_opened)
{
	struct thaw_vm *vm = vm_with(self->options);
	struct thaw_error error = {.code = 1};
	struct bytes bytes;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "var later = 1", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	thaw_vm_close(vm);
	ASSERT_EQ(0, thaw_vm_open(&self->options, &vm, &error));
	EXPECT_EQ(0, error.code);
	EXPECT_EQ(0, run(vm, "later", NULL));
	thaw_vm_close(vm);
	bytes = file_bytes(self->path);
	newest_slot(&bytes)->sequence ^= 1;
	file_write(self->path, &bytes);
	free(bytes.at);
	ASSERT_EQ(0, thaw_vm_open(&self->options, &vm, &error));
	EXPECT_EQ(THAW_EDAMAGED, error.code) TH_LOG("%s", error.text);
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(vm, "later", NULL));
	EXPECT_TRUE(gives(vm, "small", NULL, "42"));
	thaw_vm_close(vm);
}

/* A handle that is none leads anywhere in the addresses of the sandbox. */
TEST(a_wild_handle_ends_the_vm)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.max_bytes = 64 << 20});
	struct thaw_vm *other = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;

	ASSERT_NE(NULL, vm);
	ASSERT_NE(NULL, other);
	thaw_vm_kind(vm, 0xfffffff8);
	thaw_vm_apply(vm, 0xffff0000, 0, 0, NULL, NULL, &error);
	EXPECT_EQ(THAW_VM_ETRAPPED, run(vm, "1", &error));
	EXPECT_EQ(0, run(other, "1", &error));
	EXPECT_EQ(0, thaw_vm_close(vm));
	EXPECT_EQ(0, thaw_vm_close(other));
}

/* ---- Stacks for signals ---- */

struct thread {
	struct thaw_vm *vm;
	void *own;
	bool good;
};

static void *with_a_stack_of_its_own(void *arg)
{
	struct thread *thread = arg;
	stack_t stack = {.ss_size = 64 << 10, .ss_sp = thread->own}, now;

	sigaltstack(&stack, NULL);
	thread->good = !run(thread->vm, "1", NULL) && !sigaltstack(NULL, &now) &&
		       now.ss_sp == thread->own;
	stack.ss_flags = SS_DISABLE;
	sigaltstack(&stack, NULL);
	return NULL;
}

static void *without(void *arg)
{
	struct thread *thread = arg;
	stack_t now;

	thread->good = !run(thread->vm, "1", NULL) && !sigaltstack(NULL, &now) &&
		       !(now.ss_flags & SS_DISABLE);
	thread->own = now.ss_sp;
	return NULL;
}

TEST(threads_have_a_stack_for_signals_while_they_live)
{
	struct thread thread = {.vm = vm_with((struct thaw_vm_options){0})};
	unsigned char resident;
	pthread_t id;

	ASSERT_NE(NULL, thread.vm);
	thread.own = malloc(64 << 10);
	pthread_create(&id, NULL, with_a_stack_of_its_own, &thread);
	pthread_join(id, NULL);
	EXPECT_TRUE(thread.good);
	free(thread.own);
	pthread_create(&id, NULL, without, &thread);
	pthread_join(id, NULL);
	EXPECT_TRUE(thread.good);
	EXPECT_EQ(-1, mincore(thread.own, 4096, &resident)); /* and is gone with it */
	EXPECT_EQ(ENOMEM, errno);
	thaw_vm_close(thread.vm);
}

TEST_HARNESS_MAIN
