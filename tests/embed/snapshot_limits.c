// SPDX-License-Identifier: GPL-2.0-only
/*
 * snapshot_limits.c - snapshots and forks where the process is at a limit, or is forked itself: what cannot be is an error that
 * says what to raise, and whatever was there goes on.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "embedded.h"

#define MAPPINGS_MOST 300000ul /* that are made in reasonable time */

/* A VM that counts, and its snapshot with n = 1. */
FIXTURE(limits)
{
	struct thaw_vm *vm;
	struct thaw_vm_snapshot *one;
	struct thaw_error error;
};

FIXTURE_SETUP(limits)
{
	self->vm = vm_with((struct thaw_vm_options){0});
	ASSERT_NE(NULL, self->vm);
	ASSERT_EQ(0,
		  run(self->vm,
		      "let n = 1; const up = () => ++n, many = [];"
		      "const grow = () => { for (let i = 0; i < 1e5; i++) many.push({ i, t: [i] });"
		      " return many.length }",
		      NULL));
	ASSERT_EQ(0, thaw_vm_snapshot(self->vm, &self->one, &self->error));
}

FIXTURE_TEARDOWN(limits)
{
	thaw_vm_snapshot_drop(self->one);
	EXPECT_EQ(0, thaw_vm_close(self->vm));
}

static struct thaw_vm *fork_of(struct thaw_vm_snapshot *snapshot, struct thaw_error *error)
{
	struct thaw_vm_options options = {.size = sizeof(options), .snapshot = snapshot};
	struct thaw_vm *vm;

	thaw_vm_open(&options, &vm, error);
	return vm;
}

static bool forks_again(struct thaw_vm_snapshot *snapshot)
{
	struct thaw_error error = {0};
	struct thaw_vm *vm = fork_of(snapshot, &error);
	bool good = vm && gives(vm, "up", NULL, "2");

	if (!vm)
		printf("# %s\n", error.text);
	thaw_vm_close(vm);
	return good;
}

/* Pages that are alternately accessible are a mapping each. */
static char *all_mappings(unsigned long most, size_t *bytes)
{
	char *room;

	*bytes = 4096 * (most + 2);
	room = mmap(NULL, *bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	for (unsigned long i = 0; room != MAP_FAILED && i < most; i += 2)
		if (mprotect(room + 4096 * i, 4096, PROT_READ))
			break;
	return room;
}

TEST_F(limits, no_mappings_are_left)
{
	FILE *file = fopen("/proc/sys/vm/max_map_count", "r");
	struct thaw_vm_snapshot *two = NULL;
	unsigned long most = 0;
	size_t bytes;
	char *room;
	int code;

	if (!file || fscanf(file, "%lu", &most) != 1 || most > MAPPINGS_MOST)
		SKIP(return, "a process may have %lu mappings", most);
	fclose(file);
	room = all_mappings(most, &bytes);
	ASSERT_NE(MAP_FAILED, room);
	EXPECT_EQ(NULL, fork_of(self->one, &self->error));
	EXPECT_EQ(-ENOMEM, self->error.code);
	EXPECT_NE(NULL, strstr(self->error.text, "max_map_count")) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_snapshot(self->vm, &two, &self->error)) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
	code = thaw_vm_rollback(self->vm, self->one, &self->error);
	ASSERT_EQ(0, munmap(room, bytes));
	if (code) {
		EXPECT_EQ(-ENOMEM, code);
		ASSERT_EQ(0, thaw_vm_rollback(self->vm, self->one, &self->error));
	}
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_TRUE(forks_again(self->one));
	thaw_vm_snapshot_drop(two);
}

static unsigned long address_space(void)
{
	FILE *file = fopen("/proc/self/statm", "r");
	unsigned long pages = 0;

	if (file && fscanf(file, "%lu", &pages) != 1)
		pages = 0;
	if (file)
		fclose(file);
	return pages * (unsigned long)sysconf(_SC_PAGESIZE);
}

TEST_F(limits, no_address_space_is_left)
{
	struct rlimit before, tight;

	ASSERT_EQ(0, getrlimit(RLIMIT_AS, &before));
	tight = before;
	tight.rlim_cur = address_space() + (1ul << 30);
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &tight));
	EXPECT_EQ(NULL, fork_of(self->one, &self->error));
	EXPECT_EQ(-ENOMEM, self->error.code);
	EXPECT_NE(NULL, strstr(self->error.text, "ulimit -v")) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_rollback(self->vm, self->one, &self->error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	ASSERT_EQ(0, setrlimit(RLIMIT_AS, &before));
	EXPECT_TRUE(forks_again(self->one));
}

/* Of what is frozen first all is written. */
TEST_F(limits, no_file_may_be_as_large)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_vm_snapshot *snapshot, *opened;
	struct rlimit before, tight;
	size_t bytes;
	void *data;

	ASSERT_EQ(0, run(vm, "let n = 1; const up = () => ++n", NULL));
	ASSERT_EQ(0, thaw_vm_snapshot_bytes(self->one, NULL, &data, &bytes, &self->error));
	ASSERT_EQ(0, getrlimit(RLIMIT_FSIZE, &before));
	tight = before;
	tight.rlim_cur = 1 << 20;
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &tight));
	EXPECT_EQ(-EFBIG, thaw_vm_snapshot(vm, &snapshot, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "ulimit -f")) TH_LOG("%s", self->error.text);
	EXPECT_EQ(-EFBIG, thaw_vm_snapshot_open(data, bytes, NULL, 0, &opened, &self->error));
	EXPECT_TRUE(gives(vm, "up", NULL, "2"));
	EXPECT_TRUE(forks_again(self->one)); /* has its base */
	ASSERT_EQ(0, setrlimit(RLIMIT_FSIZE, &before));
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &self->error)) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(gives(vm, "up", NULL, "3"));
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_close(vm);
	free(data);
}

TEST_F(limits, no_descriptors_are_left)
{
	struct thaw_vm *vm = vm_with((struct thaw_vm_options){0});
	struct thaw_vm_snapshot *snapshot;
	struct rlimit before, tight;

	ASSERT_EQ(0, run(vm, "let n = 1; const up = () => ++n", NULL));
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &before));
	tight = before;
	tight.rlim_cur = 3;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &tight));
	EXPECT_EQ(-EMFILE, thaw_vm_snapshot(vm, &snapshot, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "ulimit -n")) TH_LOG("%s", self->error.text);
	EXPECT_TRUE(gives(vm, "up", NULL, "2"));
	/* Without /proc all is compared; nothing else needs one. */
	EXPECT_TRUE(forks_again(self->one));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_snapshot(self->vm, &snapshot, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, thaw_vm_rollback(self->vm, self->one, &self->error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	EXPECT_EQ(0, thaw_vm_rollback(self->vm, snapshot, &self->error));
	EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &before));
	thaw_vm_snapshot_drop(snapshot);
	ASSERT_EQ(0, thaw_vm_snapshot(vm, &snapshot, &self->error));
	thaw_vm_snapshot_drop(snapshot);
	thaw_vm_close(vm);
}

/* ---- The host forks: the child has its own VMs, which go their own ways ---- */

static int child_goes_on(struct thaw_vm *vm, struct thaw_vm_snapshot *one)
{
	struct thaw_vm_snapshot *own;
	struct thaw_error error;

	if (!gives(vm, "up", NULL, "3") || !gives(vm, "grow", NULL, "100000"))
		return 1;
	if (thaw_vm_snapshot(vm, &own, &error) || !forks_again(one))
		return 2;
	if (thaw_vm_rollback(vm, one, &error) || !gives(vm, "up", NULL, "2"))
		return 3;
	if (thaw_vm_rollback(vm, own, &error) || !gives(vm, "up", NULL, "4"))
		return 4;
	thaw_vm_snapshot_drop(own);
	thaw_vm_snapshot_drop(one);
	return thaw_vm_close(vm) ? 5 : 0;
}

TEST_F(limits, the_host_is_forked)
{
	pid_t child;
	int status;

	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	fflush(stdout);
	child = fork();
	if (!child) {
		status = child_goes_on(self->vm, self->one);
		fflush(stdout);
		_exit(status);
	}
	EXPECT_TRUE(gives(self->vm, "up", NULL, "3"));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_TRUE(gives(self->vm, "up", NULL, "4"));
	EXPECT_TRUE(forks_again(self->one));
}

/* ---- A memory cgroup ---- */

static bool put(const char *directory, const char *name, const char *text)
{
	char path[500];
	FILE *file;
	bool good;

	snprintf(path, sizeof(path), "%s/%s", directory, name);
	file = fopen(path, "w");
	good = file && fputs(text, file) >= 0;
	return file && !fclose(file) && good;
}

/* One of its own, inside of this process's: of version 1 or 2. */
static bool make_cgroup(char *directory, size_t room, const char *limit)
{
	FILE *file = fopen("/proc/self/cgroup", "r");
	char line[300];
	bool made = false;

	while (file && !made && fgets(line, sizeof(line), file)) {
		char *one = strstr(line, ":memory:"), *two = strncmp(line, "0::", 3) ? NULL : line;
		const char *path = one ? one + 8 : two ? two + 3 : NULL;

		line[strcspn(line, "\n")] = '\0';
		if (!path)
			continue;
		snprintf(directory, room, "/sys/fs/cgroup%s%s/thaw-test-%d", one ? "/memory" : "",
			 path, (int)getpid());
		if (mkdir(directory, 0700))
			continue;
		made = put(directory, one ? "memory.limit_in_bytes" : "memory.max", limit);
		if (!made)
			rmdir(directory);
	}
	if (file)
		fclose(file);
	return made;
}

/* A limit of the VM's own is an error that the program can catch; the kernel's is the end of the process. */
static int outgrow(struct thaw_vm_snapshot *one, size_t max_bytes)
{
	struct thaw_vm_options options = {
		.size = sizeof(options), .snapshot = one, .max_bytes = max_bytes};
	struct thaw_error error = {0};
	struct thaw_vm *vm;
	char *json;
	int code = thaw_vm_open(&options, &vm, &error);

	while (!code) {
		code = thaw_vm_call(vm, "grow", NULL, &json, &error);
		if (!code)
			free(json);
	}
	return code == THAW_VM_EEXCEPTION && strstr(error.text, "out of memory") &&
			       gives(vm, "up", NULL, "2")
		       ? 0
		       : 1;
}

TEST_F(limits, the_memory_of_a_cgroup_ends)
{
	static const size_t sizes[] = {64u << 20, 0};
	char cgroup[400], number[20];

	if (!make_cgroup(cgroup, sizeof(cgroup), "134217728"))
		SKIP(return, "no memory cgroup can be made");
	for (unsigned i = 0; i < 2; i++) {
		int status;
		pid_t child;

		fflush(stdout);
		child = fork();
		if (!child) {
			snprintf(number, sizeof(number), "%d", (int)getpid());
			if (!put(cgroup, "cgroup.procs", number))
				_exit(9);
			_exit(outgrow(self->one, sizes[i]));
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_EQ(i ? SIGKILL : 0, WIFSIGNALED(status) ? WTERMSIG(status) : status);
		EXPECT_TRUE(forks_again(self->one));
	}
	EXPECT_TRUE(gives(self->vm, "up", NULL, "2"));
	/* What has ended leaves it a moment later. */
	while (rmdir(cgroup) && errno == EBUSY)
		usleep(1000);
}

TEST_HARNESS_MAIN
