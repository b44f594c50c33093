// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_lock.c - one process writes to an image, and nobody keeps it from that who may only read: whatever
 * locks a reader has, before, between, or afterwards, the program starts, and a second one does not.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <grp.h>
#include <sys/file.h>

#include "by_path.h"
#include "support.h"
#include "thaw.h"

/* What a reader can do to a file that it has open for reading. */
enum reading {
	NOTHING,
	FLOCK_SHARED,
	FLOCK_EXCLUSIVE,
	RECORD_ALL,
	OPEN_FILE_ALL,
	FLOCK_AND_RECORD,
	READINGS
};

FIXTURE(lock)
{
	char *directory, *path;
	struct thaw *heap;
	struct thaw_error error;
	int reader;
};
FIXTURE_SETUP(lock)
{
	self->reader = -1;
	self->directory = support_directory();
	self->path = support_format("%s/heap.thaw", self->directory);
	ASSERT_EQ(0, chmod(self->directory, 0755));
}
FIXTURE_TEARDOWN(lock)
{
	thaw_close(self->heap);
	if (self->reader >= 0)
		close(self->reader);
	free(self->path);
	support_remove(self->directory);
}

static int open_heap(const char *path, struct thaw **heap, struct thaw_error *error)
{
	const struct thaw_options options = {
		.image = path, .flags = THAW_CREATE, .max_bytes = 1 << 20, .engine = "lock"};

	*heap = NULL;
	return thaw_open(&options, heap, error);
}

/* In a process of its own, as it would be: what thaw_open() said. */
static int open_elsewhere(const char *path, pid_t *holder, char *text)
{
	int told[2], code = 1;
	struct thaw_error error;
	struct thaw *heap;
	pid_t child;

	if (pipe2(told, O_CLOEXEC))
		support_die("pipe");
	child = fork();
	if (!child) {
		error.code = open_heap(path, &heap, &error);
		if (write(told[1], &error, sizeof(error)) != sizeof(error))
			_exit(1);
		while (!error.code && holder)
			pause();
		_exit(0);
	}
	close(told[1]);
	if (read(told[0], &error, sizeof(error)) == sizeof(error))
		code = error.code;
	close(told[0]);
	if (text)
		snprintf(text, sizeof(error.text), "%s", code ? error.text : "");
	if (!code && holder)
		*holder = child;
	else
		waitpid(child, NULL, 0);
	return code;
}

static int reader_lock(const char *path, enum reading reading)
{
	struct flock all = {.l_type = F_RDLCK, .l_whence = SEEK_SET};
	int fd = open(path, O_RDONLY | O_CLOEXEC), code = 0;

	if (fd < 0)
		return -1;
	if (reading == FLOCK_SHARED)
		code = flock(fd, LOCK_SH | LOCK_NB);
	else if (reading == FLOCK_EXCLUSIVE || reading == FLOCK_AND_RECORD)
		code = flock(fd, LOCK_EX | LOCK_NB);
	if (reading == RECORD_ALL)
		code |= fcntl(fd, F_SETLK, &all);
	else if (reading == OPEN_FILE_ALL || reading == FLOCK_AND_RECORD)
		code |= fcntl(fd, F_OFD_SETLK, &all);
	if (!code)
		return fd;
	close(fd);
	return -2;
}

/* A reader is a process, too. */
static pid_t reader_start(const char *path, enum reading reading, uid_t uid)
{
	int ready[2];
	char byte = 0;
	pid_t child;

	if (pipe2(ready, O_CLOEXEC))
		support_die("pipe");
	child = fork();
	if (!child) {
		if (uid &&
		    (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(2);
		/* Where a program has it already, it can have less. */
		if (reading != NOTHING)
			(void)reader_lock(path, reading);
		if (write(ready[1], "y", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	close(ready[1]);
	if (read(ready[0], &byte, 1) != 1)
		support_die("a reader");
	close(ready[0]);
	return child;
}

static void process_end(pid_t child)
{
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

static int make(const char *path)
{
	return open_elsewhere(path, NULL, NULL);
}

TEST_F(lock, a_reader_keeps_no_program_from_starting)
{
	ASSERT_EQ(0, make(self->path));
	for (enum reading reading = NOTHING; reading < FLOCK_AND_RECORD; reading++) {
		pid_t reader = reader_start(self->path, reading, 0);
		char text[504];

		EXPECT_EQ(0, open_elsewhere(self->path, NULL, text))
		TH_LOG("%d: %s", reading, text);
		process_end(reader);
	}
}

/* What a reader can do about it is to hold all there is. Then it is named. */
TEST_F(lock, a_reader_that_holds_everything_is_named)
{
	pid_t reader;
	char text[504], *named;

	ASSERT_EQ(0, make(self->path));
	reader = reader_start(self->path, FLOCK_AND_RECORD, 0);
	named = support_format("locked by process %d, which only reads it", reader);
	EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
	EXPECT_NE(NULL, strstr(text, named)) TH_LOG("%s", text);
	process_end(reader);
	EXPECT_EQ(0, open_elsewhere(self->path, NULL, text)) TH_LOG("%s", text);
	free(named);
}

/* Whatever readers had when the first came, and whatever others have when the second does. */
TEST_F(lock, a_second_program_does_not_start)
{
	ASSERT_EQ(0, make(self->path));
	for (enum reading before = NOTHING; before < FLOCK_AND_RECORD; before++) {
		for (enum reading after = NOTHING; after < READINGS; after++) {
			pid_t reader = reader_start(self->path, before, 0), other;
			struct thaw_image_info info;
			char text[504], *named;
			pid_t holder;

			ASSERT_EQ(0, open_elsewhere(self->path, &holder, text));
			EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
			process_end(reader);
			EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
			other = reader_start(self->path, after, 0);
			EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text))
			TH_LOG("%d, then %d", before, after);
			/* It is named, if it came to have the lock that tells. */
			named = support_format("in use by process %d:", holder);
			if (before != FLOCK_SHARED && before != FLOCK_EXCLUSIVE) {
				EXPECT_NE(NULL, strstr(text, named)) TH_LOG("%s", text);
				ASSERT_EQ(0, path_info(self->path, false, &info, &self->error));
				EXPECT_EQ(holder, info.holder);
			}
			process_end(holder);
			process_end(other);
			free(named);
			ASSERT_EQ(0, open_elsewhere(self->path, NULL, text)) TH_LOG("%s", text);
		}
	}
}

/* That knows of flock() alone: it is respected, and respects. */
TEST_F(lock, an_older_release_is_a_program_too)
{
	char text[504], *named = support_format("in use by process %d:", getpid());
	pid_t holder;
	int fd;

	ASSERT_EQ(0, make(self->path));
	fd = open(self->path, O_RDWR | O_CLOEXEC);
	ASSERT_EQ(0, flock(fd, LOCK_EX));
	EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
	EXPECT_NE(NULL, strstr(text, named)) TH_LOG("%s", text);
	ASSERT_EQ(0, flock(fd, LOCK_UN));
	ASSERT_EQ(0, open_elsewhere(self->path, &holder, text)) TH_LOG("%s", text);
	EXPECT_EQ(-1, flock(fd, LOCK_EX | LOCK_NB));
	process_end(holder);
	close(fd);
	free(named);
}

/* A new image is held from its first byte on, too, and one that compact has put in its place. */
TEST_F(lock, a_new_image_is_held)
{
	char text[504];

	for (enum reading reading = NOTHING; reading < READINGS; reading++) {
		pid_t reader;

		unlink(self->path);
		ASSERT_EQ(0, open_heap(self->path, &self->heap, &self->error));
		reader = reader_start(self->path, reading, 0);
		EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
		process_end(reader);
		EXPECT_EQ(THAW_EINUSE, open_elsewhere(self->path, NULL, text));
		thaw_close(self->heap);
		self->heap = NULL;
	}
}

/* Others than its owner, of whom nothing can be seen but who they are. */
TEST_F(lock, other_users_read)
{
	if (geteuid())
		SKIP(return, "only root can be several users");
	ASSERT_EQ(0, chmod(self->directory, 0777));
	for (enum reading reading = NOTHING; reading < FLOCK_AND_RECORD; reading++) {
		pid_t reader;
		int status;
		pid_t owner;

		unlink(self->path);
		owner = fork();
		if (!owner) {
			char text[504];

			if (setgroups(0, NULL) || setresgid(1234, 1234, 1234) ||
			    setresuid(1234, 1234, 1234) || make(self->path) ||
			    chmod(self->path, 0644))
				_exit(2);
			_exit(open_elsewhere(self->path, NULL, text) ? 3 : 0);
		}
		ASSERT_EQ(owner, waitpid(owner, &status, 0));
		ASSERT_EQ(0, status);
		reader = reader_start(self->path, reading, 65534);
		owner = fork();
		if (!owner) {
			pid_t holder;

			if (setgroups(0, NULL) || setresgid(1234, 1234, 1234) ||
			    setresuid(1234, 1234, 1234))
				_exit(2);
			if (open_elsewhere(self->path, &holder, self->error.text))
				_exit(3);
			if (open_elsewhere(self->path, NULL, self->error.text) != THAW_EINUSE)
				_exit(4);
			kill(holder, SIGKILL);
			_exit(0);
		}
		ASSERT_EQ(owner, waitpid(owner, &status, 0));
		EXPECT_EQ(0, status) TH_LOG("reading %d: exit %d", reading, WEXITSTATUS(status));
		process_end(reader);
	}
}

#define RACERS 8

/* Of many that come at once, one at a time gets it: none, if they are in each other's way, but never two. */
TEST_F(lock, of_many_at_once_one_starts)
{
	unsigned won = 0;

	ASSERT_EQ(0, make(self->path));
	for (int round = 0; round < 40; round++) {
		pid_t reader = reader_start(self->path, (enum reading)(round % READINGS), 0);
		int go[2], told[2], ended[2];
		unsigned here = 0;
		char byte;

		ASSERT_EQ(0, pipe(go) | pipe(told) | pipe(ended));
		for (int i = 0; i < RACERS; i++) {
			if (fork())
				continue;
			close(go[1]);
			close(ended[1]);
			if (read(go[0], &byte, 1)) /* until it is closed */
				_exit(1);
			byte = open_heap(self->path, &self->heap, &self->error) ? 'n' : 'y';
			if (write(told[1], &byte, 1) != 1 || read(ended[0], &byte, 1))
				_exit(1);
			_exit(0);
		}
		close(go[0]);
		close(go[1]);
		for (int i = 0; i < RACERS; i++) {
			ASSERT_EQ(1, read(told[0], &byte, 1));
			here += byte == 'y';
		}
		EXPECT_LE(here, 1);
		won += here;
		close(ended[1]);
		process_end(reader);
		while (wait(NULL) > 0)
			;
		close(ended[0]);
		close(told[0]);
		close(told[1]);
	}
	EXPECT_LT(20, won);
}

TEST_HARNESS_MAIN
