// SPDX-License-Identifier: GPL-2.0-only
/*
 * libthawvm_engines.c - a host program goes on with an image, or the bytes of a snapshot, of an engine from before: through the
 * library of that engine's time, which lies in its shared object. BEFORE is a program whose engine has another name.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>

#include "embed/embedded.h"
#include "shell_line.h"

#define BEFORE ENGINES_ROOM "/thaw"
#define OBJECTS ENGINES_ROOM "/engines"

static thaw_vm_value twice(struct thaw_vm *vm, void *arg, uint64_t ticket, unsigned count,
			   const thaw_vm_value *arguments)
{
	++*(unsigned *)arg;
	if (!count)
		return thaw_vm_throw(vm, "TypeError", "of what?");
	return thaw_vm_number(vm, 2 * thaw_vm_to_number(vm, arguments[0]));
}

static unsigned calls;
static const struct thaw_vm_function functions[] = {{"twice", twice, &calls, 0}};

FIXTURE(engines)
{
	char *directory;
	struct program program;
	struct thaw_vm *vm, *other;
	struct thaw_vm_snapshot *snapshot, *second;
	struct thaw_error error;
};
FIXTURE_SETUP(engines)
{
	self->directory = support_directory();
	ASSERT_EQ(0, chdir(self->directory));
	SHELL(0,
	      "umask 022; mkdir mine; cp '%s'/*.so mine/; '%s' -i a.thaw -e '"
	      "globalThis.n = 1; globalThis.up = () => ++n; globalThis.many = []'",
	      OBJECTS, BEFORE);
	setenv("THAW_ENGINES", OBJECTS, 1);
	calls = 0;
}
FIXTURE_TEARDOWN(engines)
{
	thaw_vm_snapshot_drop(self->snapshot);
	thaw_vm_snapshot_drop(self->second);
	EXPECT_EQ(0, thaw_vm_close(self->other));
	EXPECT_EQ(0, thaw_vm_close(self->vm));
	ASSERT_EQ(0, chdir("/"));
	program_free(&self->program);
	support_remove(self->directory);
}

static struct thaw_vm *open_image(const char *image)
{
	return vm_with((struct thaw_vm_options){
		.image = image, .functions = functions, .function_count = 1});
}

TEST_F(engines, an_image_goes_on_with_host_functions)
{
	struct thaw_vm_options options = {.size = sizeof(options), .image = "a.thaw"};
	uint64_t generation = 0;
	char **names = NULL;

	self->vm = open_image("a.thaw");
	ASSERT_NE(NULL, self->vm);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_TRUE(gives(self->vm, "twice", "[21]", "42"));
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(self->vm, "twice()", &self->error));
	EXPECT_STREQ("TypeError: of what?", self->error.text);
	EXPECT_EQ(2, calls);
	EXPECT_EQ(0, run(self->vm, "setTimeout(() => up(), 0)", &self->error));
	EXPECT_EQ(0, thaw_vm_run(self->vm, 10000000000, &self->error));
	EXPECT_EQ(0, thaw_vm_checkpoint(self->vm, "third", &generation, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, thaw_vm_close(self->vm));
	/* It has stayed one of that engine, and needs what it was given. */
	self->vm = vm_with((struct thaw_vm_options){.image = "a.thaw"});
	EXPECT_EQ(NULL, self->vm);
	options.flags = THAW_VM_FRESH;
	EXPECT_EQ(THAW_EENGINE, thaw_vm_open(&options, &self->vm, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_NE(NULL, strstr(self->error.text, "js-1 before"));
	options.flags = 0;
	options.functions = functions;
	options.function_count = 1;
	self->error.code = 1;
	ASSERT_EQ(0, thaw_vm_open(&options, &self->vm, &self->error));
	EXPECT_EQ(0, self->error.code); /* nothing is damaged */
	EXPECT_EQ(0, thaw_vm_close(self->vm));
	options.function_count = 0;
	EXPECT_EQ(1, thaw_vm_missing(&options, &names, &self->error));
	EXPECT_STREQ("twice", names ? names[0] : "");
	free(names);
	self->vm = open_image("a.thaw");
	ASSERT_NE(NULL, self->vm);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "4"));
	SHELL(0, "'%s' inspect a.thaw", BEFORE);
	EXPECT_NE(NULL, strstr(self->program.output, "js-1 before"));
}

TEST_F(engines, snapshots_forks_and_bytes)
{
	void *bytes = NULL, *delta = NULL;
	size_t size, delta_size;
	FILE *file;

	self->vm = open_image("a.thaw");
	ASSERT_NE(NULL, self->vm);
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &self->snapshot, &self->error));
	self->other = vm_with((struct thaw_vm_options){
		.snapshot = self->snapshot, .functions = functions, .function_count = 1});
	ASSERT_NE(NULL, self->other);
	EXPECT_TRUE(gives(self->other, "up", NULL, "2"));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_TRUE(gives(self->other, "up", NULL, "3"));
	ASSERT_EQ(0, thaw_vm_snapshot(self->other, &self->second, &self->error));
	EXPECT_EQ(0, thaw_vm_rollback(self->other, self->snapshot, &self->error));
	EXPECT_TRUE(gives(self->other, "up", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_close(self->other));
	/* As bytes, which name the engine; and a delta. */
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->snapshot, NULL, &bytes, &size, &self->error));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->second, self->snapshot, &delta, &delta_size,
					    &self->error));
	thaw_vm_snapshot_drop(self->snapshot);
	thaw_vm_snapshot_drop(self->second);
	self->second = NULL;
	ASSERT_EQ(0, thaw_vm_snapshot_open(bytes, size, NULL, 0, &self->snapshot, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_vm_snapshot_open(delta, delta_size, self->snapshot, 0, &self->second,
					   &self->error))
	TH_LOG("%s", self->error.text);
	self->other = vm_with((struct thaw_vm_options){
		.snapshot = self->second, .functions = functions, .function_count = 1});
	ASSERT_NE(NULL, self->other);
	EXPECT_TRUE(gives(self->other, "up", NULL, "4"));
	/* Of a file, and of a pipe. */
	file = fopen("bytes", "w+");
	ASSERT_TRUE(file && fwrite(bytes, 1, size, file) == size && !fflush(file));
	rewind(file);
	thaw_vm_snapshot_drop(self->snapshot);
	ASSERT_EQ(0, thaw_vm_snapshot_open_fd(fileno(file), NULL, 0, &self->snapshot, &self->error))
	TH_LOG("%s", self->error.text);
	fclose(file);
	file = popen("cat bytes", "r");
	ASSERT_NE(NULL, file);
	thaw_vm_snapshot_drop(self->snapshot);
	ASSERT_EQ(0, thaw_vm_snapshot_open_fd(fileno(file), NULL, 0, &self->snapshot, &self->error))
	TH_LOG("%s", self->error.text);
	pclose(file);
	EXPECT_EQ(0, thaw_vm_close(self->other));
	self->other = vm_with((struct thaw_vm_options){
		.snapshot = self->snapshot, .functions = functions, .function_count = 1});
	EXPECT_TRUE(self->other && gives(self->other, "up", NULL, "2"));
	free(bytes);
	free(delta);
}

TEST_F(engines, two_engines_beside_each_other_are_not_mixed)
{
	void *bytes = NULL;
	size_t size;

	self->vm = open_image("a.thaw");
	self->other = vm_with((struct thaw_vm_options){0});
	ASSERT_TRUE(self->vm && self->other);
	ASSERT_EQ(0, run(self->other, "let n = 10; const up = () => ++n", &self->error));
	EXPECT_TRUE(gives(self->other, "up", NULL, "11"));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(self->vm, "(function f() { f() })()", &self->error));
	EXPECT_EQ(THAW_VM_EEXCEPTION, run(self->other, "(function f() { f() })()", &self->error));
	EXPECT_TRUE(gives(self->other, "up", NULL, "12"));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &self->snapshot, &self->error));
	ASSERT_EQ(0, thaw_vm_snapshot(self->other, &self->second, &self->error));
	EXPECT_EQ(THAW_EENGINE, thaw_vm_rollback(self->other, self->snapshot, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "'js-1 before'")) TH_LOG("%s", self->error.text);
	EXPECT_EQ(THAW_EENGINE, thaw_vm_snapshot_bytes(self->second, self->snapshot, &bytes, &size,
						       &self->error));
	EXPECT_TRUE(gives(self->other, "up", NULL, "13"));
}

/* A function, or an option, that came later: the rest works. */
TEST_F(engines, an_older_table_has_what_it_had)
{
	struct thaw_vm_options options = {.size = sizeof(options), .image = "a.thaw"};

	SHELL(0, "cp '" ENGINES_ROOM "/older.so' mine/*.so");
	setenv("THAW_ENGINES", "mine", 1);
	self->vm = open_image("a.thaw");
	EXPECT_EQ(NULL, self->vm); /* a relative path */
	program_free(&self->program);
	self->program.output = realpath("mine", NULL);
	setenv("THAW_ENGINES", self->program.output, 1);
	self->vm = open_image("a.thaw");
	ASSERT_NE(NULL, self->vm);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(-ENOSYS, thaw_vm_context_new(self->vm, "b", &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "engine 'js-1 before' is from before"))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, thaw_vm_context_count(self->vm));
	EXPECT_EQ(0, thaw_vm_close(self->vm));
	options.max_log_bytes = 1000;
	EXPECT_EQ(-ENOSYS, thaw_vm_open(&options, &self->vm, &self->error));
	EXPECT_EQ(NULL, self->vm);
	EXPECT_NE(NULL, strstr(self->error.text, "from before an option that was given"))
	TH_LOG("%s", self->error.text);
}

/* In a process of its own: what is loaded stays. */
static bool write_bytes(const char *path)
{
	pid_t child = support_fork();
	int status = 1;

	if (!child) {
		struct thaw_vm *vm = open_image("a.thaw");
		struct thaw_vm_snapshot *snapshot;
		FILE *file = fopen(path, "w");
		void *bytes;
		size_t size;

		_exit(!vm || !file || thaw_vm_snapshot(vm, &snapshot, NULL) ||
		      thaw_vm_snapshot_bytes(snapshot, NULL, &bytes, &size, NULL) ||
		      fwrite(bytes, 1, size, file) != size || fclose(file));
	}
	return waitpid(child, &status, 0) == child && !status;
}

static void expect_told(struct __test_metadata *_metadata, const char *text, const char *what)
{
	EXPECT_NE(NULL, strstr(text, what)) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "'js-1 before'")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, BEFORE_HASH ".so")) TH_LOG("%s", text);
	EXPECT_NE(NULL, strstr(text, "THAW_ENGINES"));
	EXPECT_EQ(NULL, strchr(text, '\n'));
}

TEST_F(engines, without_the_object_it_says_what_to_install)
{
	struct thaw_vm_options options = {.size = sizeof(options), .image = "a.thaw"};
	char bytes[1 << 20], *empty;
	size_t size;
	FILE *file;

	ASSERT_TRUE(write_bytes("bytes"));
	ASSERT_EQ(0, mkdir("empty", 0755));
	empty = realpath("empty", NULL);
	setenv("THAW_ENGINES", empty, 1);
	free(empty);
	EXPECT_EQ(THAW_EENGINE, thaw_vm_open(&options, &self->vm, &self->error));
	EXPECT_EQ(NULL, self->vm);
	expect_told(_metadata, self->error.text, "a.thaw of engine");
	file = fopen("bytes", "r");
	ASSERT_NE(NULL, file);
	size = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	EXPECT_EQ(THAW_EENGINE,
		  thaw_vm_snapshot_open(bytes, size, NULL, 0, &self->snapshot, &self->error));
	EXPECT_EQ(NULL, self->snapshot);
	expect_told(_metadata, self->error.text, "a snapshot of engine");
	/* Where the library lies, there is none of it either. */
	unsetenv("THAW_ENGINES");
	EXPECT_EQ(THAW_EENGINE, thaw_vm_open(&options, &self->vm, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "/thaw/engines"))
	TH_LOG("%s", self->error.text);
	/* Once it is there, it goes on. */
	setenv("THAW_ENGINES", OBJECTS, 1);
	EXPECT_EQ(0, thaw_vm_snapshot_open(bytes, size, NULL, 0, &self->snapshot, &self->error));
	self->vm = open_image("a.thaw");
	EXPECT_TRUE(self->vm && gives(self->vm, "up", NULL, "2"));
}

TEST_HARNESS_MAIN
