// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm_images.c - VMs of libthawvm with an image: generations that become durable while the VM goes on, their names and lists, what
 * the program's own checkpoint() comes to, host functions that an image lacks, and the ids of effects.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"

FIXTURE(image)
{
	char directory[40], path[64], copy[64];
	struct thaw_vm_options options;
};
FIXTURE_SETUP(image)
{
	strcpy(self->directory, "/tmp/thaw-test-embed-XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->directory));
	snprintf(self->path, sizeof(self->path), "%s/a.thaw", self->directory);
	snprintf(self->copy, sizeof(self->copy), "%s/b.thaw", self->directory);
	self->options.image = self->path;
	self->options.size = sizeof(self->options);
}
FIXTURE_TEARDOWN(image)
{
	unlink(self->path);
	unlink(self->copy);
	rmdir(self->directory);
}

static void notify(void *arg)
{
	eventfd_write(*(int *)arg, 1);
}

TEST_F(image, becomes_durable_while_the_vm_goes_on)
{
	int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), code;
	struct thaw_error error;
	uint64_t number = 0, none;
	eventfd_t events;
	struct thaw_vm *vm;

	self->options.notify = notify;
	self->options.arg = &wake;
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_EQ(-ENOENT, thaw_vm_checkpoint_poll(vm, &none, &error));
	ASSERT_EQ(0, run(vm,
			 "let n = 1, fill = new Array(1e6).fill(0).map((_, i) => i);"
			 "const get = () => n, check = () => fill.every((v, i) => v === i)",
			 &error));
	ASSERT_EQ(0, thaw_vm_checkpoint_begin(vm, "early", &error));
	EXPECT_EQ(-EBUSY, thaw_vm_checkpoint_begin(vm, NULL, &error));
	ASSERT_EQ(0, run(vm, "n = 2; fill.fill(-1)", &error));
	while (!(code = thaw_vm_checkpoint_poll(vm, &number, &error)))
		if (poll(&(struct pollfd){wake, POLLIN, 0}, 1, 10000) == 1)
			eventfd_read(wake, &events);
	ASSERT_EQ(1, code);
	EXPECT_EQ(number, thaw_vm_generation(vm));
	EXPECT_EQ(-ENOENT, thaw_vm_checkpoint_poll(vm, &none, &error));
	thaw_vm_close(vm);

	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "get", NULL, "1"));
	EXPECT_TRUE(gives(vm, "check", NULL, "true"));
	ASSERT_EQ(0, run(vm, "n = 3", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint_begin(vm, NULL, &error));
	thaw_vm_close(vm); /* waits */
	vm = vm_with(self->options);
	EXPECT_TRUE(gives(vm, "get", NULL, "3"));
	thaw_vm_close(vm);
	close(wake);
}

TEST_F(image, generations_have_names)
{
	struct thaw_vm *vm = vm_with(self->options);
	struct thaw_vm_generation *list;
	struct thaw_error error;
	uint64_t first, second;

	ASSERT_NE(NULL, vm);
	EXPECT_EQ(0, thaw_vm_generation(vm));
	ASSERT_EQ(0, run(vm, "let n = 1; const get = () => n", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, "one", &first, &error));
	ASSERT_EQ(0, run(vm, "n = 2", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, &second, &error));
	ASSERT_EQ(0, thaw_vm_tag(vm, "two", 0, &error));
	ASSERT_EQ(0, thaw_vm_tag(vm, "also", first, &error));
	ASSERT_EQ(2, thaw_vm_generations(self->path, &list, &error)); /* in use */
	EXPECT_EQ(first, list[0].number);
	EXPECT_EQ(first, list[1].parent);
	EXPECT_TRUE(!strcmp(list[0].names, "one also") || !strcmp(list[0].names, "also one"));
	EXPECT_STREQ("two", list[1].names);
	EXPECT_LT(16 << 10, list[0].heap_bytes);
	free(list);
	EXPECT_EQ(0, thaw_vm_untag(vm, "also", &error));
	EXPECT_EQ(THAW_ENOGEN, thaw_vm_untag(vm, "also", &error));
	thaw_vm_close(vm);

	self->options.at = "one";
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "get", NULL, "1"));
	thaw_vm_close(vm);
	self->options.at = "none";
	EXPECT_EQ(THAW_ENOGEN, thaw_vm_open(&self->options, &vm, &error));
	self->options.generation = first;
	EXPECT_EQ(-EINVAL, thaw_vm_open(&self->options, &vm, &error));
	EXPECT_EQ(-ENOENT, thaw_vm_generations(self->copy, &list, &error));
}

static int get_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)make, (void)error;
	memset(key, *(int *)arg, THAW_KEY_BYTES);
	return 0;
}

TEST_F(image, is_made_and_kept_as_the_flags_say)
{
	const unsigned calls = 60;
	struct thaw_vm_generation *list;
	struct thaw_error error;
	struct thaw_vm *vm;
	char wanted[16];
	int count, secret = 1;

	self->options.flags = THAW_VM_LOG;
	self->options.retain = 3;
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "let n = 0; const get = () => n", &error));
	for (unsigned i = 0; i < calls; i++) {
		ASSERT_EQ(0, run(vm, "n++", &error));
		ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	}
	EXPECT_LE(calls, thaw_vm_generation(vm));
	thaw_vm_close(vm);
	count = thaw_vm_generations(self->path, &list, &error);
	EXPECT_TRUE(count >= 1 && count <= 3) TH_LOG("%d", count);
	free(list);
	vm = vm_with(self->options);
	snprintf(wanted, sizeof(wanted), "%u", calls);
	EXPECT_TRUE(gives(vm, "get", NULL, wanted));
	thaw_vm_close(vm);

	self->options.flags = THAW_VM_FRESH | THAW_VM_PREFETCH;
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(vm, "n", &error));
	thaw_vm_close(vm); /* nothing of it was made durable */
	self->options.flags = THAW_VM_PREFETCH;
	vm = vm_with(self->options);
	EXPECT_TRUE(gives(vm, "get", NULL, wanted));
	thaw_vm_close(vm);

	self->options.flags = 0;
	self->options.compress = 12345;
	EXPECT_EQ(-EINVAL, thaw_vm_open(&self->options, &vm, &error));
	self->options.compress = THAW_COMPRESS_ZSTD(3);
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "const text = new Uint8Array(1 << 20).map((_, i) => i % 251 & 15)",
			 &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	thaw_vm_close(vm);
	count = thaw_vm_generations(self->path, &list, &error);
	ASSERT_LT(0, count);
	EXPECT_LT(list[count - 1].bytes_written, 1 << 19); /* of more than 1 << 20 */
	free(list);
	self->options.compress = THAW_COMPRESS_NONE;
	vm = vm_with(self->options);
	EXPECT_TRUE(gives(vm, "get", NULL, wanted));
	ASSERT_EQ(0, run(vm, "if (text.some((v, i) => v !== (i % 251 & 15))) throw 1", &error));
	thaw_vm_close(vm);

	thaw_use_key(&(struct thaw_key_source){.get = get_key, .arg = &secret});
	self->options.flags = THAW_VM_ENCRYPTED;
	EXPECT_EQ(THAW_EKEY, thaw_vm_open(&self->options, &vm, &error));
	self->options.image = self->copy;
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "const get = () => 'a secret'", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	thaw_vm_close(vm);
	secret = 2;
	thaw_use_key(&(struct thaw_key_source){.get = get_key, .arg = &secret});
	EXPECT_EQ(THAW_EKEY, thaw_vm_open(&self->options, &vm, &error));
	secret = 1;
	thaw_use_key(&(struct thaw_key_source){.get = get_key, .arg = &secret});
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "get", NULL, "\"a secret\""));
	thaw_vm_close(vm);
	self->options.flags = 64;
	EXPECT_EQ(-EINVAL, thaw_vm_open(&self->options, &vm, &error));
}

static const char asks[] =
	"let told = 'nothing'; const what = () => told;"
	"const ask = name => import('thaw').then(t => t.checkpoint(name ? { name } : undefined))"
	".then(g => told = [g.generation, g.name ?? null], e => told = e.message)";

TEST_F(image, programs_wait_for_generations_of_the_host)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_error error;
	uint64_t number;
	char wanted[64], later[64];

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, asks, &error));
	ASSERT_EQ(0, run(vm, "ask()", &error));
	EXPECT_FALSE(thaw_vm_wants_checkpoint(vm));
	EXPECT_TRUE(
		gives(vm, "what", NULL,
		      "\"there is no image: the program that this one is inside of has to open it "
		      "with one (thaw_vm_options.image)\""));
	thaw_vm_close(vm);

	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, asks, &error));
	ASSERT_EQ(0, run(vm, "ask('mine')", &error));
	EXPECT_TRUE(thaw_vm_wants_checkpoint(vm));
	EXPECT_EQ(UINT64_MAX, thaw_vm_next_due(vm));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, &number, &error));
	EXPECT_FALSE(thaw_vm_wants_checkpoint(vm));
	EXPECT_TRUE(gives(vm, "what", NULL, "\"nothing\""));
	EXPECT_EQ(0, thaw_vm_next_due(vm));
	EXPECT_EQ(0, thaw_vm_step(vm, &error));
	snprintf(wanted, sizeof(wanted), "[%llu,\"mine\"]", (unsigned long long)number);
	EXPECT_TRUE(gives(vm, "what", NULL, wanted));
	EXPECT_EQ(UINT64_MAX, thaw_vm_next_due(vm));
	/* While one is written, a name is for the next. */
	ASSERT_EQ(0, thaw_vm_checkpoint_begin(vm, NULL, &error));
	ASSERT_EQ(0, run(vm, "ask('after'); ask('also')", &error));
	ASSERT_EQ(1, thaw_vm_checkpoint_wait(vm, NULL, &error));
	EXPECT_TRUE(thaw_vm_wants_checkpoint(vm));
	EXPECT_TRUE(gives(vm, "what", NULL, wanted));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, &number, &error));
	EXPECT_EQ(0, thaw_vm_step(vm, &error));
	snprintf(later, sizeof(later), "[%llu,\"also\"]", (unsigned long long)number);
	EXPECT_TRUE(gives(vm, "what", NULL, later));
	thaw_vm_close(vm);
	/* Who goes on from it has been told by that. */
	self->options.at = "mine";
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "what", NULL, wanted));
	thaw_vm_close(vm);
}

static thaw_vm_value nothing(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			     const thaw_vm_value *values)
{
	struct thaw_error error;

	(void)arg, (void)ticket, (void)count, (void)values;
	if (thaw_vm_step(vm, &error) != -EBUSY || thaw_vm_run(vm, 0, &error) != -EBUSY)
		return thaw_vm_throw(vm, "Error", "timers ran");
	return 0;
}

TEST_F(image, tells_which_functions_it_needs)
{
	static const struct thaw_vm_function functions[] = {
		{"first", nothing, NULL, 0},
		{"a_second_of_a_longer_name", nothing, NULL, 0},
		{"third", nothing, NULL, 0},
	};
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error;
	struct thaw_vm *vm;
	char **names;

	self->options.functions = functions;
	EXPECT_EQ(0, thaw_vm_missing(&self->options, &names, &error));
	free(names);
	self->options.function_count = 3;
	vm = vm_with(self->options);
	ASSERT_NE(NULL, vm);
	EXPECT_EQ(0, run(vm, "first()", &error));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	self->options.function_count = 1;
	ASSERT_EQ(2, thaw_vm_missing(&self->options, &names, &error)); /* in use */
	EXPECT_STREQ("a_second_of_a_longer_name", names[0]);
	EXPECT_STREQ("third", names[1]);
	EXPECT_EQ(NULL, names[2]);
	free(names);
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	thaw_vm_close(vm);
	ASSERT_EQ(3, thaw_vm_missing(&(struct thaw_vm_options){.size = sizeof(self->options),
							       .snapshot = snapshot},
				     &names, &error));
	EXPECT_STREQ("first", names[0]);
	free(names);
	thaw_vm_snapshot_drop(snapshot);
	EXPECT_EQ(THAW_VM_EMISSING, thaw_vm_open(&self->options, &vm, &error));
}

/* "branch-number", malloc'ed. */
static char *effect(struct thaw_vm *vm)
{
	char *json = NULL;

	thaw_vm_call(vm, "effect", NULL, &json, NULL);
	return json ? json : strdup("none");
}

TEST_F(image, effects_have_ids_by_the_line_of_history)
{
	struct thaw_vm *vm = vm_with(self->options);
	struct thaw_error error;
	char *before, *after, *older, *cloned;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0,
		  run(vm, "const effect = () => import('thaw').then(t => t.effectId())", &error));
	free(effect(vm));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, "old", NULL, &error));
	free(effect(vm));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	before = effect(vm); /* after the newest generation: the same after a crash */
	thaw_vm_close(vm);
	ASSERT_EQ(0, thaw_image_clone(self->path, self->copy, 0, NULL, NULL, &error));

	vm = vm_with(self->options);
	after = effect(vm);
	EXPECT_STREQ(before, after);
	thaw_vm_close(vm);
	self->options.at = "old";
	vm = vm_with(self->options);
	older = effect(vm);
	thaw_vm_close(vm);
	self->options.at = NULL;
	self->options.image = self->copy;
	vm = vm_with(self->options);
	cloned = effect(vm);
	thaw_vm_close(vm);
	EXPECT_EQ(strlen(before), strlen(cloned));
	EXPECT_STREQ(strrchr(before, '-'), strrchr(cloned, '-')); /* the number goes on */
	EXPECT_STRNE(before, cloned);
	EXPECT_NE(0, strncmp(before, older, 33));
	EXPECT_NE(0, strncmp(cloned, older, 33));
	free(before), free(after), free(older), free(cloned);
}

/* An image without a generation is gone with its VM; but a child by fork() lets go of a copy of that. */
TEST_F(image, a_forked_child_takes_no_image_away)
{
	struct thaw_error error;
	struct thaw_vm *vm;
	uint64_t generation;
	int status;
	pid_t child;

	ASSERT_EQ(0, thaw_vm_open(&self->options, &vm, &error));
	child = fork();
	if (!child)
		_exit(thaw_vm_close(vm) != 0);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, thaw_vm_checkpoint(vm, NULL, &generation, &error));
	thaw_vm_close(vm);
	ASSERT_EQ(0, thaw_vm_open(&self->options, &vm, &error));
	EXPECT_EQ(1, thaw_vm_generation(vm));
	thaw_vm_close(vm);
}

TEST_HARNESS_MAIN
