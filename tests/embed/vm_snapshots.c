// SPDX-License-Identifier: GPL-2.0-only
/*
 * vm_snapshots.c - what a VM was is kept: others begin from it, it goes back to it, and it is an array of bytes.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"
#include "thaw_frozen.h"

static struct thaw_vm *vm_from(struct thaw_vm_snapshot *snapshot)
{
	return vm_with((struct thaw_vm_options){.snapshot = snapshot});
}

/* A VM that counts, and its snapshot with n = 1. */
FIXTURE(vm)
{
	struct thaw_vm *vm;
	struct thaw_vm_snapshot *one;
};

FIXTURE_SETUP(vm)
{
	struct thaw_error error = {0};

	self->vm = vm_from(NULL);
	ASSERT_NE(NULL, self->vm);
	ASSERT_EQ(0, run(self->vm,
			 "let n = 1; const up = () => ++n, get = () => n, many = [];"
			 "const grow = () => { for (let i = 0; i < 3e5; i++) many.push({ i });"
			 " return many.length }, random = () => Math.random()",
			 NULL));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &self->one, &error));
}

FIXTURE_TEARDOWN(vm)
{
	thaw_vm_snapshot_drop(self->one);
	EXPECT_EQ(0, thaw_vm_close(self->vm));
}

TEST_F(vm, forks_go_their_own_ways)
{
	struct thaw_vm *forks[3];
	struct thaw_vm_snapshot *second;
	struct thaw_error error = {0};

	for (unsigned i = 0; i < 2; i++) {
		forks[i] = vm_from(self->one);
		ASSERT_NE(NULL, forks[i]);
	}
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_TRUE(gives(forks[0], "up", NULL, "2"));
	EXPECT_TRUE(gives(forks[0], "up", NULL, "3"));
	EXPECT_TRUE(gives(forks[0], "grow", NULL, "300000"));
	EXPECT_TRUE(gives(forks[1], "get", NULL, "1"));
	ASSERT_EQ(0, thaw_vm_snapshot(forks[0], &second, &error));
	EXPECT_TRUE(gives(forks[0], "up", NULL, "4"));
	forks[2] = vm_from(second);
	ASSERT_NE(NULL, forks[2]);
	thaw_vm_snapshot_drop(second);
	EXPECT_TRUE(gives(forks[2], "get", NULL, "3"));
	EXPECT_TRUE(gives(forks[2], "grow", NULL, "600000"));
	EXPECT_TRUE(gives(self->vm, "get", NULL, "2"));
	for (unsigned i = 0; i < 3; i++)
		EXPECT_EQ(0, thaw_vm_close(forks[i]));
}

TEST_F(vm, each_draws_its_own_random_numbers)
{
	struct thaw_vm *forks[2] = {vm_from(self->one), vm_from(self->one)};
	char *first = NULL, *second = NULL, *third = NULL;
	struct thaw_error error;

	ASSERT_NE(NULL, forks[0]);
	ASSERT_NE(NULL, forks[1]);
	ASSERT_EQ(0, thaw_vm_call(forks[0], "random", NULL, &first, &error));
	ASSERT_EQ(0, thaw_vm_call(forks[1], "random", NULL, &second, &error));
	ASSERT_EQ(0, thaw_vm_rollback(forks[0], self->one, &error));
	ASSERT_EQ(0, thaw_vm_call(forks[0], "random", NULL, &third, &error));
	EXPECT_STRNE(first, second);
	EXPECT_STRNE(first, third);
	EXPECT_STRNE(second, third);
	free(first);
	free(second);
	free(third);
	thaw_vm_close(forks[0]);
	thaw_vm_close(forks[1]);
}

TEST_F(vm, it_goes_back_any_number_of_times)
{
	struct thaw_vm_snapshot *grown;
	struct thaw_error error = {0};

	EXPECT_TRUE(gives(self->vm, "grow", NULL, "300000"));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &grown, &error));
	for (unsigned i = 0; i < 20; i++) {
		ASSERT_EQ(0, thaw_vm_rollback(self->vm, self->one, &error));
		EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
		EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
		ASSERT_EQ(0, thaw_vm_rollback(self->vm, grown, &error));
		EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
		EXPECT_TRUE(gives(self->vm, "grow", NULL, "600000"));
	}
	thaw_vm_snapshot_drop(grown);
}

/* The third seed's promise: what ended, or loops, is not lost. */
TEST_F(vm, what_has_ended_goes_back_too)
{
	struct thaw_vm_snapshot *none;
	struct thaw_error error = {0};
	const char *code = "import { exit } from 'thaw'; exit(3)";

	EXPECT_EQ(THAW_VM_EENDED, thaw_vm_eval(self->vm, code, strlen(code), "end.js",
					       THAW_VM_MODULE, NULL, &error));
	EXPECT_EQ(THAW_VM_EENDED, thaw_vm_eval(self->vm, "1", 1, "a.js", 0, NULL, &error));
	EXPECT_EQ(-EBUSY, thaw_vm_snapshot(self->vm, &none, &error));
	EXPECT_EQ(NULL, none);
	ASSERT_EQ(0, thaw_vm_rollback(self->vm, self->one, &error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
}

static thaw_vm_value later(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *values)
{
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error;

	(void)ticket, (void)count, (void)values;
	if (thaw_vm_rollback(vm, arg, &error) != -EBUSY ||
	    thaw_vm_snapshot(vm, &snapshot, &error) != -EBUSY)
		return thaw_vm_throw(vm, "Error", "in the middle of a call");
	return 0;
}

TEST_F(vm, functions_of_the_host_are_asked_for)
{
	const struct thaw_vm_function function = {"later", later, self->one, THAW_VM_PROMISE};
	struct thaw_vm_options options = {.size = sizeof(options),
					  .snapshot = self->one,
					  .functions = &function,
					  .function_count = 1};
	struct thaw_vm_snapshot *waiting;
	struct thaw_error error = {0};
	struct thaw_vm *vm, *fork;
	uint64_t ticket;

	ASSERT_EQ(0, thaw_vm_open(&options, &vm, &error));
	ASSERT_EQ(0, run(vm,
			 "var got; later().then(v => got = v, e => got = e.message);"
			 "function what() { return got }",
			 NULL));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &waiting, &error));
	EXPECT_EQ(THAW_VM_EMISSING, thaw_vm_rollback(self->vm, waiting, &error));
	EXPECT_NE(NULL, strstr(error.text, "later"));
	EXPECT_TRUE(gives(self->vm, "get", NULL, "1"));
	options.snapshot = waiting;
	ASSERT_EQ(0, thaw_vm_open(&options, &fork, &error));
	EXPECT_EQ(1, thaw_vm_tickets(fork, &ticket, 1, &error));
	EXPECT_EQ(0, thaw_vm_settle(fork, ticket, 0, "anew", &error));
	EXPECT_TRUE(gives(fork, "what", NULL, "\"anew\""));
	EXPECT_EQ(1, thaw_vm_tickets(vm, &ticket, 1, &error));
	thaw_vm_snapshot_drop(waiting);
	thaw_vm_close(fork);
	thaw_vm_close(vm);
}

TEST_F(vm, as_bytes_it_opens_again)
{
	void *data, *again;
	size_t bytes, again_bytes;
	struct thaw_vm_snapshot *opened;
	struct thaw_error error = {0};
	uint8_t ids[2][16];
	struct thaw_vm *vm;

	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, NULL, &data, &bytes, &error));
	EXPECT_EQ(-EFBIG, thaw_vm_snapshot_open(data, bytes, NULL, 65536, &opened, &error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_snapshot_open(data, bytes - 1, NULL, 0, &opened, &error));
	EXPECT_EQ(THAW_EFOREIGN,
		  thaw_vm_snapshot_open("no snapshot of any kind", 23, NULL, 0, &opened, &error));
	EXPECT_EQ(NULL, opened);
	ASSERT_EQ(0, thaw_vm_snapshot_open(data, bytes, NULL, 0, &opened, &error));
	EXPECT_EQ(0, thaw_vm_snapshot_id(self->one, ids[0], &error));
	EXPECT_EQ(0, thaw_vm_snapshot_id(opened, ids[1], &error));
	EXPECT_EQ(0, memcmp(ids[0], ids[1], 16));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(opened, NULL, &again, &again_bytes, &error));
	EXPECT_EQ(bytes, again_bytes);
	EXPECT_EQ(0, memcmp(data, again, bytes));
	vm = vm_from(opened);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "up", NULL, "2"));
	thaw_vm_close(vm);
	thaw_vm_snapshot_drop(opened);
	free(data);
	free(again);
}

struct writing {
	int fd;
	const char *data;
	size_t bytes;
};

static void *write_all(void *arg)
{
	const struct writing *writing = arg;
	ssize_t wrote;

	for (size_t at = 0; at < writing->bytes; at += (size_t)wrote) {
		wrote = write(writing->fd, writing->data + at, writing->bytes - at);
		if (wrote <= 0)
			break;
	}
	close(writing->fd);
	return NULL;
}

/* Of a file behind other bytes, whose position stays; of a pipe; and what is no file, or too short. */
TEST_F(vm, it_opens_from_a_descriptor)
{
	struct thaw_vm_snapshot *opened;
	struct thaw_error error = {0};
	uint8_t ids[2][16];
	struct writing writing;
	pthread_t writer;
	size_t bytes;
	void *data;
	int fd = memfd_create("bytes", 0), pipes[2];

	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, NULL, &data, &bytes, &error));
	EXPECT_EQ(0, thaw_vm_snapshot_id(self->one, ids[0], &error));
	ASSERT_EQ(5, write(fd, "other", 5));
	ASSERT_EQ((ssize_t)bytes, write(fd, data, bytes));
	EXPECT_EQ(THAW_EFOREIGN, thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error));
	ASSERT_EQ(0, lseek(fd, 0, SEEK_SET));
	EXPECT_EQ(THAW_EFOREIGN, thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error));
	ASSERT_EQ(5, lseek(fd, 5, SEEK_SET));
	ASSERT_EQ(0, thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error))
	TH_LOG("%s", error.text);
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(0, thaw_vm_snapshot_id(opened, ids[1], &error));
	EXPECT_EQ(0, memcmp(ids[0], ids[1], 16));
	thaw_vm_snapshot_drop(opened);
	ASSERT_EQ(0, ftruncate(fd, 5 + (off_t)bytes / 2));
	EXPECT_EQ(THAW_EDAMAGED, thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error));
	EXPECT_EQ(NULL, opened);
	close(fd);
	EXPECT_EQ(-EBADF, thaw_vm_snapshot_open_fd(fd, NULL, 0, &opened, &error));

	ASSERT_EQ(0, pipe(pipes));
	writing = (struct writing){pipes[1], data, bytes};
	ASSERT_EQ(0, pthread_create(&writer, NULL, write_all, &writing));
	ASSERT_EQ(0, thaw_vm_snapshot_open_fd(pipes[0], NULL, 0, &opened, &error))
	TH_LOG("%s", error.text);
	pthread_join(writer, NULL);
	EXPECT_EQ(0, thaw_vm_snapshot_id(opened, ids[1], &error));
	EXPECT_EQ(0, memcmp(ids[0], ids[1], 16));
	thaw_vm_snapshot_drop(opened);
	close(pipes[0]);
	free(data);
}

/* An image like any other: a VM goes on from it, and so does the program, which knows what the bytes are, too. */
TEST_F(vm, it_is_an_image)
{
	char directory[] = "/tmp/thaw-test-XXXXXX", image[64], other[64], command[256], line[400];
	struct thaw_vm_options options = {.image = image};
	struct thaw_error error = {0};
	struct thaw_vm *vm;
	size_t bytes;
	void *data;
	FILE *file;

	ASSERT_NE(NULL, mkdtemp(directory));
	snprintf(image, sizeof(image), "%s/an.thaw", directory);
	snprintf(other, sizeof(other), "%s/bytes", directory);
	ASSERT_EQ(0, thaw_vm_snapshot_write(self->one, image, &error)) TH_LOG("%s", error.text);
	EXPECT_EQ(-EEXIST, thaw_vm_snapshot_write(self->one, image, &error));
	EXPECT_EQ(-ENOENT, thaw_vm_snapshot_write(self->one, "/nowhere/an.thaw", &error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	vm = vm_with(options);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "up", NULL, "2"));
	EXPECT_TRUE(gives(vm, "grow", NULL, "300000"));
	ASSERT_EQ(0, thaw_vm_checkpoint(vm, NULL, NULL, &error));
	thaw_vm_close(vm);
	snprintf(command, sizeof(command), "%s eval %s 'up() + many.length' 2>&1", THAW_BINARY,
		 image);
	file = popen(command, "r");
	ASSERT_NE(NULL, fgets(line, sizeof(line), file));
	EXPECT_EQ(0, pclose(file));
	EXPECT_STREQ("300003\n", line);

	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, NULL, &data, &bytes, &error));
	file = fopen(other, "w");
	ASSERT_EQ(bytes, fwrite(data, 1, bytes, file));
	fclose(file);
	free(data);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const words[] = {"log", "inspect", "run --image"};

		snprintf(command, sizeof(command), "%s %s %s %s 2>&1", THAW_BINARY, words[i], other,
			 i < 2 ? "" : "/dev/null");
		file = popen(command, "r");
		ASSERT_NE(NULL, fgets(line, sizeof(line), file));
		EXPECT_NE(NULL, strstr(line, "thaw_vm_snapshot_open")) TH_LOG("%s", line);
		EXPECT_NE(0, pclose(file));
	}
	EXPECT_EQ(THAW_EFOREIGN, thaw_vm_snapshot_write(self->one, other, &error));
	EXPECT_EQ(0, unlink(other));
	EXPECT_EQ(0, unlink(image));
	EXPECT_EQ(0, rmdir(directory));
}

/* By pages, and by name; of two that know nothing of each other, too. */
TEST_F(vm, what_differs_is_told)
{
	struct thaw_vm_snapshot *two, *opened;
	struct thaw_vm_difference none, some, again;
	struct thaw_error error = {0};
	char *json = NULL;
	size_t bytes;
	void *data;

	ASSERT_EQ(0, thaw_vm_snapshot_diff(self->one, self->one, &none, &json, &error));
	EXPECT_EQ(0, none.pages + none.bytes);
	EXPECT_NE(NULL, strstr(json, "\"differences\":[]")) TH_LOG("%s", json);
	free(json);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	ASSERT_EQ(0, run(self->vm, "var late = { name: 'x' }", &error));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &two, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_diff(self->one, two, &some, &json, &error));
	EXPECT_LT(0, some.pages);
	EXPECT_LT(0, some.bytes);
	EXPECT_GT(some.pages * thaw_frozen_page_bytes(), some.bytes);
	EXPECT_NE(NULL, strstr(json, "{\"change\":\"changed\",\"path\":\"globalThis.n\",\"old\":"
				     "{\"type\":\"number\",\"value\":\"1\","))
	TH_LOG("%s", json);
	EXPECT_NE(NULL, strstr(json, "\"path\":\"globalThis.late\"")) TH_LOG("%s", json);
	EXPECT_NE(NULL, strstr(json, "\"appeared\":1,\"vanished\":0,\"changed\":1"))
	TH_LOG("%s", json);
	free(json);
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(two, NULL, &data, &bytes, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_open(data, bytes, NULL, 0, &opened, &error));
	free(data);
	ASSERT_EQ(0, thaw_vm_snapshot_diff(self->one, opened, &again, NULL, &error));
	EXPECT_EQ(some.pages, again.pages);
	EXPECT_EQ(some.bytes, again.bytes);
	thaw_vm_snapshot_drop(opened);
	thaw_vm_snapshot_drop(two);
}

/* What the program has freed is in no bytes. */
TEST_F(vm, what_is_free_takes_nothing)
{
	const char *code = "{ let all = []; for (let i = 0; i < 30000; i++) all.push('free ' + "
			   "Math.random()); all = null }";
	struct thaw_vm *vm = vm_from(NULL);
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error = {0};
	size_t bytes, fresh;
	void *data;

	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, NULL, &data, &fresh, &error));
	free(data);
	ASSERT_EQ(0, run(vm, code, &error));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(snapshot, NULL, &data, &bytes, &error));
	printf("# %zu bytes, and of a VM that has freed nothing %zu\n", bytes, fresh);
	EXPECT_LT(bytes, fresh + 65536);
	free(data);
	thaw_vm_snapshot_drop(snapshot);
	/* Later, if the host wants it. */
	ASSERT_EQ(0, run(vm, code, &error));
	ASSERT_EQ(0, thaw_vm_collect(vm, &error));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(snapshot, NULL, &data, &bytes, &error));
	EXPECT_LT(bytes, fresh + 65536);
	free(data);
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_close(vm);
}

/* A turn of a small heap is wanted in 2 KB; and what applies to one base applies to no other. */
TEST_F(vm, what_a_turn_has_changed_is_small)
{
	struct thaw_vm_snapshot *two, *three, *opened, *chained;
	void *deltas[2];
	size_t bytes[2];
	struct thaw_error error = {0};
	struct thaw_vm *vm;

	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &two, &error));
	EXPECT_TRUE(gives(self->vm, "grow", NULL, "300000"));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &three, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(two, self->one, &deltas[0], &bytes[0], &error));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(three, two, &deltas[1], &bytes[1], &error));
	printf("# a turn: %zu bytes; 300,000 objects: %zu\n", bytes[0], bytes[1]);
	EXPECT_LT(bytes[0], 2048);

	EXPECT_EQ(THAW_ENOGEN,
		  thaw_vm_snapshot_open(deltas[0], bytes[0], NULL, 0, &opened, &error));
	EXPECT_EQ(THAW_ENOGEN,
		  thaw_vm_snapshot_open(deltas[1], bytes[1], self->one, 0, &opened, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_open(deltas[0], bytes[0], self->one, 0, &opened, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_open(deltas[1], bytes[1], opened, 0, &chained, &error));
	vm = vm_from(chained);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "up", NULL, "4"));
	EXPECT_TRUE(gives(vm, "grow", NULL, "600000"));
	thaw_vm_close(vm);
	free(deltas[0]);
	free(deltas[1]);

	/* Back to one that is smaller. */
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, three, &deltas[0], &bytes[0], &error));
	thaw_vm_snapshot_drop(opened);
	ASSERT_EQ(0, thaw_vm_snapshot_open(deltas[0], bytes[0], chained, 0, &opened, &error));
	vm = vm_from(opened);
	ASSERT_NE(NULL, vm);
	EXPECT_TRUE(gives(vm, "get", NULL, "1"));
	thaw_vm_close(vm);
	free(deltas[0]);
	thaw_vm_snapshot_drop(opened);
	thaw_vm_snapshot_drop(chained);
	thaw_vm_snapshot_drop(two);
	thaw_vm_snapshot_drop(three);
}

/* Two contexts with a run() each, a snapshot as bytes, a new VM: context 0 gives 1, and context 1 gives 2. */
TEST(contexts_come_back_by_index_and_name)
{
	struct thaw_vm_snapshot *snapshot, *opened;
	struct thaw_error error = {0};
	struct thaw_vm *vm = vm_from(NULL);
	size_t bytes;
	void *data;

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, run(vm, "function run() { return 1 }", NULL));
	EXPECT_EQ(-ENOENT, thaw_vm_context_use(vm, 1, &error));
	ASSERT_EQ(1, thaw_vm_context_new(vm, "second", &error));
	EXPECT_EQ(-EEXIST, thaw_vm_context_new(vm, "second", &error));
	ASSERT_EQ(0, thaw_vm_context_use(vm, 1, &error));
	ASSERT_EQ(
		0,
		run(vm,
		    "function run() { return 2 } let late; setTimeout(() => late = typeof run, 1);"
		    "const told = () => late, kinds = () => [typeof Map, typeof URL, typeof console]",
		    NULL));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	thaw_vm_close(vm);
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(snapshot, NULL, &data, &bytes, &error));
	ASSERT_EQ(0, thaw_vm_snapshot_open(data, bytes, NULL, 0, &opened, &error));
	vm = vm_from(opened);
	ASSERT_NE(NULL, vm);
	EXPECT_EQ(2, thaw_vm_context_count(vm));
	EXPECT_TRUE(gives(vm, "run", NULL, "1"));
	EXPECT_EQ(1, thaw_vm_context_find(vm, "second"));
	EXPECT_EQ(-ENOENT, thaw_vm_context_find(vm, "third"));
	ASSERT_EQ(0, thaw_vm_context_use(vm, 1, &error));
	EXPECT_TRUE(gives(vm, "run", NULL, "2"));
	EXPECT_TRUE(gives(vm, "kinds", NULL, "[\"function\",\"function\",\"object\"]"));
	EXPECT_EQ(0, thaw_vm_run(vm, UINT64_MAX, &error));
	EXPECT_TRUE(gives(vm, "told", NULL, "\"function\""));
	ASSERT_EQ(0, thaw_vm_rollback(vm, snapshot, &error));
	EXPECT_TRUE(gives(vm, "run", NULL, "1"));
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_snapshot_drop(opened);
	thaw_vm_close(vm);
	free(data);
}

TEST_F(vm, hundreds_of_forks_take_no_descriptors)
{
	const struct rlimit few = {64, 64};
	static struct thaw_vm *forks[300];
	char wanted[16];

	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &few));
	for (unsigned i = 0; i < 300; i++) {
		forks[i] = vm_from(self->one);
		ASSERT_NE(NULL, forks[i]);
	}
	for (unsigned round = 2; round < 4; round++)
		for (unsigned i = 0; i < 300; i++) {
			snprintf(wanted, sizeof(wanted), "%u", round);
			ASSERT_TRUE(gives(forks[i], "up", NULL, wanted));
		}
	for (unsigned i = 0; i < 300; i++)
		thaw_vm_close(forks[i]);
}

static void *work(void *arg)
{
	struct thaw_vm_snapshot *snapshot = arg, *own;
	struct thaw_error error;
	bool good = true;

	for (unsigned i = 0; good && i < 20; i++) {
		struct thaw_vm *vm = vm_from(snapshot);

		good = vm && gives(vm, "up", NULL, "2") && !thaw_vm_snapshot(vm, &own, &error) &&
		       gives(vm, "up", NULL, "3") && !thaw_vm_rollback(vm, own, &error) &&
		       gives(vm, "up", NULL, "3");
		if (good)
			thaw_vm_snapshot_drop(own);
		thaw_vm_close(vm);
	}
	thaw_vm_snapshot_drop(snapshot);
	return good ? arg : NULL;
}

TEST_F(vm, threads_share_one)
{
	pthread_t threads[4];
	void *result;

	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, work, thaw_vm_snapshot_hold(self->one));
	for (unsigned i = 0; i < 4; i++) {
		pthread_join(threads[i], &result);
		EXPECT_NE(NULL, result);
	}
}

struct nagging {
	struct thaw_vm *vm;
	_Atomic bool over;
};

static void *nag(void *arg)
{
	struct nagging *nagging = arg;

	while (!nagging->over)
		thaw_vm_interrupt(nagging->vm);
	return NULL;
}

/* As a watchdog does it that is a little late. */
TEST_F(vm, interrupts_do_not_spoil_a_rollback)
{
	struct nagging nagging = {.vm = self->vm};
	struct thaw_error error = {0};
	pthread_t thread;

	thaw_vm_interrupt(self->vm);
	EXPECT_EQ(0, thaw_vm_rollback(self->vm, self->one, &error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));

	ASSERT_EQ(0, pthread_create(&thread, NULL, nag, &nagging));
	for (unsigned i = 0; i < 50; i++)
		EXPECT_EQ(0, thaw_vm_rollback(self->vm, self->one, &error));
	nagging.over = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, thaw_vm_rollback(self->vm, self->one, &error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
}

TEST(a_program_that_lingers_over_a_rollback_is_cut_short)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){.turn_ns = 20000000});
	struct thaw_vm_snapshot *snapshot;
	struct thaw_error error = {0};

	ASSERT_NE(NULL, vm);
	ASSERT_EQ(0, thaw_vm_eval(vm,
				  "import { on } from 'thaw'; globalThis.n = 1;"
				  "globalThis.get = () => n;"
				  "on('restore', () => { n = 2; for (;;); })",
				  SIZE_MAX, "test.mjs", THAW_VM_MODULE, NULL, &error));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &error));
	EXPECT_EQ(0, thaw_vm_rollback(vm, snapshot, &error));
	EXPECT_TRUE(gives(vm, "get", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_rollback(vm, snapshot, &error));
	EXPECT_TRUE(gives(vm, "get", NULL, "2"));
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_close(vm);
}

TEST_HARNESS_MAIN
