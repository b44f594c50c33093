// SPDX-License-Identifier: GPL-2.0-only
/*
 * running_programs.c - which processes are programs, and by which names their images are found: a
 * pid that is used again, other mounts, odd names, locks that others take. What others run on the
 * machine is left out by the inode of the image.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <linux/sched.h>
#include <math.h>
#include <sched.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "support.h"
#include "thaw.h"
#include "top/sample.h"

FIXTURE(running)
{
	char *directory, *path;
	struct sample sample;
	struct thaw_error error;
	pid_t child;
	int output; /* of thaw run, which ends when nobody can read it */
};
FIXTURE_SETUP(running)
{
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	self->output = -1;
}
FIXTURE_TEARDOWN(running)
{
	close(self->output);
	if (self->child > 0) {
		kill(self->child, SIGKILL);
		waitpid(self->child, NULL, 0);
	}
	sample_free(&self->sample);
	free(self->path);
	support_remove(self->directory);
}

/* ---- Processes ---- */

/* A heap is open, and has one generation more. */
static int be_program(const char *path)
{
	struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 1u << 20, .engine = "test"};
	struct thaw_result result;
	struct thaw *heap;
	int code = thaw_open(&options, &heap, NULL);

	if (!code)
		code = thaw_resize(heap, 64u << 10);
	if (!code)
		memset(thaw_base(heap), getpid() & 0x7f, 64u << 10);
	return code ? code : thaw_checkpoint(heap, THAW_REASON_REQUEST, NULL, 0, &result);
}

/*
 * A child that does this and then stays. `self->child` is 0: it could not: the
 * test is skipped. Returns once it has done it.
 */
static void start(FIXTURE_DATA(running) * self, int (*begin)(const char *path))
{
	int line[2], code = 1;

	if (pipe2(line, O_CLOEXEC))
		support_die("pipe");
	self->child = support_fork();
	if (!self->child) {
		code = begin(self->path);
		if (write(line[1], &code, sizeof(code)) < 0 || code)
			_exit(1);
		for (;;)
			pause();
	}
	close(line[1]);
	if (self->child > 0 && (read(line[0], &code, sizeof(code)) != sizeof(code) || code))
		waitpid(self->child, NULL, 0);
	if (code)
		self->child = 0;
	close(line[0]);
}

static void stop(FIXTURE_DATA(running) * self)
{
	kill(self->child, SIGKILL);
	waitpid(self->child, NULL, 0);
	self->child = 0;
}

#define START(begin)                                                                         \
	do {                                                                                 \
		start(self, begin);                                                          \
		if (!self->child)                                                            \
			SKIP(return, "such a process cannot be made with these privileges"); \
	} while (0)

/* The row of the process; NULL: there is none. More than one is an error. */
static const struct sample_row *row_of(FIXTURE_DATA(running) * self)
{
	const struct sample_row *found = NULL;

	if (sample_take(&self->sample, &self->error))
		support_die(self->error.text);
	for (size_t i = 0; i < self->sample.count; i++)
		if (self->sample.rows[i].program->process.pid == self->child) {
			if (found)
				support_die("two rows");
			found = &self->sample.rows[i];
		}
	return found;
}

/* ---- A pid that is used again ---- */

static const char script_text[] = "import { checkpoint, on } from 'thaw'\n"
				  "let n = 0\n"
				  "async function begin() {\n"
				  "	n++\n"
				  "	await checkpoint()\n"
				  "	console.log('begun')\n"
				  "}\n"
				  "on('restore', begin)\n"
				  "await begin()\n"
				  "await new Promise(resolve => setTimeout(resolve, 3600e3))\n";

/* As fork(), with that pid. */
static pid_t fork_as(pid_t pid)
{
	struct clone_args arguments = {
		.exit_signal = SIGCHLD,
		.set_tid = (uintptr_t)&pid,
		.set_tid_size = 1,
	};

	return (pid_t)syscall(SYS_clone3, &arguments, sizeof(arguments));
}

/*
 * thaw run, which has made a generation when this returns. False: no process can have that pid (0:
 * any).
 */
static bool run(FIXTURE_DATA(running) * self, const char *script, pid_t pid)
{
	char said[6] = "";
	int line[2];

	if (pipe2(line, O_CLOEXEC))
		support_die("pipe");
	self->child = pid ? fork_as(pid) : fork();
	if (!self->child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(line[1], STDOUT_FILENO);
		execv(THAW_BINARY, (char *const *)THAW("run", "-q", "--every", "0", "--image",
						       self->path, script));
		_exit(127);
	}
	close(line[1]);
	for (size_t got = 0; self->child > 0 && got < 5; got++)
		if (read(line[0], said + got, 1) != 1)
			support_die("thaw run says nothing");
	close(self->output);
	self->output = line[0];
	return self->child > 0;
}

TEST_F(running, a_pid_is_used_again)
{
	char *script = support_format("%s/app.js", self->directory);
	const struct sample_row *row;
	uint64_t serial, start_ticks;
	pid_t pid;

	support_write(script, script_text);
	ASSERT_TRUE(run(self, script, 0));
	pid = self->child;
	ASSERT_NE(NULL, row_of(self));
	row = row_of(self);
	ASSERT_NE(NULL, row);
	EXPECT_NE(UNKNOWN, row->figures.faults);
	EXPECT_EQ(0, row->figures.generations);
	EXPECT_EQ(1, row->figures.generation);
	serial = row->serial;
	start_ticks = row->program->process.start_ticks;
	stop(self);
	/* Its start is told in hundredths of a second. */
	support_sleep(0.05);
	if (!run(self, script, pid)) {
		free(script);
		SKIP(return, "no pid can be chosen here");
	}
	ASSERT_EQ(pid, self->child);
	row = row_of(self);
	ASSERT_NE(NULL, row);
	EXPECT_NE(serial, row->serial);
	EXPECT_LT(start_ticks, row->program->process.start_ticks);
	/* The same image, but nothing of this process is known of the time before. */
	EXPECT_NE(UNKNOWN, row->figures.generation);
	EXPECT_EQ(UNKNOWN, row->figures.faults);
	EXPECT_EQ(UNKNOWN, row->figures.generations);
	EXPECT_TRUE(isnan(row->figures.checkpoint_bytes));
	row = row_of(self);
	EXPECT_NE(UNKNOWN, row->figures.faults);
	stop(self);
	EXPECT_EQ(NULL, row_of(self));
	free(script);
}

TEST_F(running, images_have_odd_names)
{
	static const char *const names[] = {"a (deleted)", "#1", " ", "line\nline", "\xff\xfe"};
	char *moved = support_format("%s/moved (deleted)", self->directory);
	const struct sample_row *row;

	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		free(self->path);
		self->path = support_format("%s/%s", self->directory, names[i]);
		/* Made by this process, then found: the kernel tells their names in two ways. */
		for (unsigned times = 0; times < 2; times++) {
			START(be_program);
			row = row_of(self);
			ASSERT_NE(NULL, row);
			EXPECT_EQ(IMAGE_NAMED, row->program->place);
			EXPECT_STREQ(self->path, row->program->path);
			if (times) { /* to another folder's name, then away */
				ASSERT_EQ(0, rename(self->path, moved));
				EXPECT_STREQ(moved, row_of(self)->program->path);
				ASSERT_EQ(0, unlink(moved));
				EXPECT_EQ(IMAGE_REMOVED, row_of(self)->program->place);
				EXPECT_STREQ(moved, row_of(self)->program->path);
				EXPECT_NE(UNKNOWN, row_of(self)->figures.generation);
			}
			stop(self);
		}
	}
	free(moved);
}

/* Its name is not among ours. */
static int be_elsewhere(const char *path)
{
	char *folder = strdup(path);

	*strrchr(folder, '/') = '\0';
	if (unshare(CLONE_NEWNS) || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", folder, "tmpfs", 0, NULL))
		return -errno;
	free(folder);
	return be_program(path);
}

TEST_F(running, a_program_has_mounts_of_its_own)
{
	const struct sample_row *row;

	START(be_elsewhere);
	row = row_of(self);
	ASSERT_NE(NULL, row);
	EXPECT_EQ(-1, access(self->path, F_OK));
	EXPECT_EQ(IMAGE_NAMED, row->program->place);
	EXPECT_STREQ(self->path, row->program->path);
	EXPECT_EQ(1, row->figures.generation);
}

/* ---- What is none ---- */

static int lock_all(const char *path)
{
	struct flock all = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	return fd < 0 || flock(fd, LOCK_EX) || fcntl(fd, F_OFD_SETLK, &all) ? -errno : 0;
}

static int lock_by_flock(const char *path)
{
	int fd = open(path, O_RDWR | O_CREAT, 0600);

	return fd < 0 || flock(fd, LOCK_EX) ? -errno : 0;
}

/* Other programs lock files, too; also an image, but only to read it. */
TEST_F(running, other_locks_make_no_program)
{
	START(lock_all);
	EXPECT_EQ(NULL, row_of(self));
	stop(self);
	START(lock_by_flock);
	EXPECT_EQ(NULL, row_of(self));
	stop(self);
}

TEST_HARNESS_MAIN
