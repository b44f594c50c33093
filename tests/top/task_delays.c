// SPDX-License-Identifier: GPL-2.0-only
/*
 * task_delays.c - the delays of a process as TASKSTATS tells them: of a real one where that is
 * allowed and measured; and of every form of the answer that kernels have, which come in place of
 * the real one below libmnl (vm/top/mnl.h).
 *
 * The sysctl that says whether delays are measured is a file of the test's own (ld's --wrap of
 * open).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/genetlink.h>
#include <linux/magic.h>
#include <linux/taskstats.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>

#include "support.h"
#include "top/netlink.h"
#include "top/task_delays.h"

#define SYSCTL "/proc/sys/kernel/task_delayacct"

static const char *instead; /* of the sysctl; NULL: itself */

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, unsigned mode);
int __wrap_open(const char *path, int flags, unsigned mode)
{
	return __real_open(instead && !strcmp(path, SYSCTL) ? instead : path, flags, mode);
}

/* ---- Answers of other kernels ---- */

static __typeof__(mnl.socket_recvfrom) real_receive;
static struct taskstats stats;
static size_t stats_bytes; /* as many as that kernel's structure has */
static int refused;	   /* or an errno in place of them */

/* Lets the real kernel answer, and puts this in place of it, unless it is about families. */
static ssize_t other_kernel(const struct mnl_socket *socket, void *buffer, size_t bytes)
{
	ssize_t got = real_receive(socket, buffer, bytes);
	struct nlmsghdr head = *(struct nlmsghdr *)buffer, *message, *end;
	uint32_t filler[1024] = {0}, room = (uint32_t)stats_bytes;
	static bool controller = true;
	struct nlattr *outer, *inner;

	if (got < (ssize_t)sizeof(head) || head.nlmsg_type == GENL_ID_CTRL)
		return controller = true, got;
	if (controller) { /* the acknowledgment behind it */
		controller = false;
		return got;
	}
	message = mnl.nlmsg_put_header(buffer);
	mnl.nlmsg_put_extra_header(message, GENL_HDRLEN);
	message->nlmsg_type = GENL_ID_CTRL + 1;
	message->nlmsg_seq = head.nlmsg_seq;
	message->nlmsg_pid = head.nlmsg_pid;
	outer = (void *)((char *)buffer + message->nlmsg_len);
	inner = outer + 1;
	memcpy(inner + 1, filler, room);
	memcpy(inner + 1, &stats, room < sizeof(stats) ? room : sizeof(stats));
	*inner = (struct nlattr){(uint16_t)(NLA_HDRLEN + room), TASKSTATS_TYPE_STATS};
	*outer = (struct nlattr){(uint16_t)(NLA_HDRLEN + NLA_ALIGN(inner->nla_len)),
				 TASKSTATS_TYPE_AGGR_TGID};
	message->nlmsg_len += NLMSG_ALIGN(outer->nla_len);
	end = (void *)((char *)buffer + message->nlmsg_len);
	if (refused)
		end = message;
	*end = (struct nlmsghdr){NLMSG_HDRLEN + sizeof(int), NLMSG_DONE, 0, head.nlmsg_seq,
				 head.nlmsg_pid};
	memcpy(end + 1, &(int){-refused}, sizeof(int));
	return (char *)end - (char *)buffer + end->nlmsg_len;
}

FIXTURE(delays)
{
	char *directory, *on, *off;
	struct delay_reader *reader;
	struct task_delays delays;
	struct thaw_error error;
};

FIXTURE_SETUP(delays)
{
	struct netlink *netlink;
	int code = netlink_open(TASKSTATS_GENL_NAME, 1, &netlink, &self->error);

	netlink_close(netlink);
	if (code)
		SKIP(return, "%s", self->error.text);
	self->directory = support_directory();
	self->on = support_format("%s/on", self->directory);
	self->off = support_format("%s/off", self->directory);
	support_write(self->on, "1\n");
	support_write(self->off, "0\n");
	real_receive = mnl.socket_recvfrom;
	stats = (struct taskstats){.version = 13};
	stats_bytes = sizeof(stats);
	refused = 0;
}

FIXTURE_TEARDOWN(delays)
{
	instead = NULL;
	if (real_receive)
		mnl.socket_recvfrom = real_receive;
	delay_reader_close(self->reader);
	if (self->directory)
		support_remove(self->directory);
	free(self->on);
	free(self->off);
}

TEST_F(delays, what_the_kernel_tells_is_told)
{
	mnl.socket_recvfrom = other_kernel;
	instead = self->on;
	ASSERT_EQ(0, delay_reader_open(&self->reader, &self->error));
	stats = (struct taskstats){
		.version = 13,
		.blkio_count = 1,
		.blkio_delay_total = 2,
		.swapin_count = 3,
		.swapin_delay_total = 4,
		.thrashing_count = 5,
		.thrashing_delay_total = 6,
		.freepages_count = 7,
		.freepages_delay_total = 8,
		.wpcopy_count = 9,
		.wpcopy_delay_total = 1ull << 40,
	};
	ASSERT_EQ(0, task_delays_read(self->reader, 1, &self->delays, &self->error));
	EXPECT_EQ(1, self->delays.block_io.count);
	EXPECT_EQ(2, self->delays.block_io.nanoseconds);
	EXPECT_EQ(3, self->delays.swap_in.count);
	EXPECT_EQ(4, self->delays.swap_in.nanoseconds);
	EXPECT_EQ(5, self->delays.thrashing.count);
	EXPECT_EQ(6, self->delays.thrashing.nanoseconds);
	EXPECT_EQ(7, self->delays.reclaim.count);
	EXPECT_EQ(8, self->delays.reclaim.nanoseconds);
	EXPECT_EQ(9, self->delays.write_protect_copy.count);
	EXPECT_EQ(1ull << 40, self->delays.write_protect_copy.nanoseconds);
	EXPECT_TRUE(self->delays.has_thrashing);
	EXPECT_TRUE(self->delays.has_write_protect_copy);
}

TEST_F(delays, an_older_kernel_tells_less_and_a_newer_one_more)
{
	mnl.socket_recvfrom = other_kernel;
	instead = self->on;
	ASSERT_EQ(0, delay_reader_open(&self->reader, &self->error));
	/* What is behind the end of the older structure is not read. */
	memset(&stats, 0xff, sizeof(stats));
	stats.version = 8;
	stats_bytes = offsetof(struct taskstats, thrashing_count);
	ASSERT_EQ(0, task_delays_read(self->reader, 1, &self->delays, &self->error));
	EXPECT_FALSE(self->delays.has_thrashing);
	EXPECT_FALSE(self->delays.has_write_protect_copy);
	EXPECT_EQ(0, self->delays.thrashing.count);
	EXPECT_EQ(0, self->delays.write_protect_copy.nanoseconds);
	EXPECT_EQ(UINT64_MAX, self->delays.block_io.count);

	stats.version = 16;
	stats_bytes = sizeof(stats) + 512;
	ASSERT_EQ(0, task_delays_read(self->reader, 1, &self->delays, &self->error));
	EXPECT_TRUE(self->delays.has_write_protect_copy);
	EXPECT_EQ(UINT64_MAX, self->delays.write_protect_copy.count);

	/* The fields are elsewhere: no figures rather than wrong ones. */
	stats.version = 15;
	EXPECT_EQ(-EPROTO, task_delays_read(self->reader, 1, &self->delays, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "6.14"));
	EXPECT_EQ(0, self->delays.block_io.count);
}

TEST_F(delays, nothing_is_told_where_nothing_is_measured)
{
	mnl.socket_recvfrom = other_kernel;
	instead = self->off;
	EXPECT_EQ(-ENODATA, delay_reader_open(&self->reader, &self->error));
	EXPECT_EQ(NULL, self->reader);
	EXPECT_NE(NULL, strstr(self->error.text, "kernel.task_delayacct=1"));
	/* A kernel that is older than the sysctl measures. */
	instead = "/nonexistent";
	EXPECT_EQ(0, delay_reader_open(&self->reader, &self->error));
}

TEST_F(delays, a_refusal_says_what_to_do)
{
	mnl.socket_recvfrom = other_kernel;
	instead = self->on;
	refused = EPERM;
	EXPECT_EQ(-EPERM, delay_reader_open(&self->reader, &self->error));
	EXPECT_EQ(NULL, self->reader);
	EXPECT_NE(NULL, strstr(self->error.text, "CAP_NET_ADMIN"));
}

TEST_F(delays, an_ordinary_user_is_told_that_he_may_not)
{
	pid_t child = fork();
	int status;

	if (!child) {
		int code;

		if (!geteuid() && (syscall(SYS_setresgid, 65534, 65534, 65534) ||
				   syscall(SYS_setresuid, 65534, 65534, 65534)))
			_exit(100);
		instead = self->on;
		code = delay_reader_open(&self->reader, &self->error);
		_exit(code == -EPERM && strstr(self->error.text, "CAP_NET_ADMIN") ? 0 : 1);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	if (WEXITSTATUS(status) == 100)
		SKIP(return, "this process cannot become an ordinary user");
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(delays, a_process_that_waited_for_the_disk_has_delays)
{
	char *path = support_format("%s/data", self->directory);
	int code = delay_reader_open(&self->reader, &self->error), child_says[2], go[2], fd;
	char block[65536] = {1}, byte = 0;
	struct task_delays before;
	struct statfs system;
	pid_t child;

	if (code)
		SKIP(free(path); return, "%s", self->error.text);
	ASSERT_EQ(0, pipe(child_says) | pipe(go));
	child = fork(); /* accounting may have begun after this process did */
	if (!child) {
		if (write(child_says[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
		for (unsigned i = 0; i < 64; i++)
			if (write(fd, block, sizeof(block)) != sizeof(block) || fsync(fd))
				_exit(2);
		if (write(child_says[1], &byte, 1) != 1 || read(go[0], &byte, 1) != 1)
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(1, read(child_says[0], &byte, 1));
	ASSERT_EQ(0, task_delays_read(self->reader, child, &before, &self->error));
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(1, read(child_says[0], &byte, 1));
	ASSERT_EQ(0, task_delays_read(self->reader, child, &self->delays, &self->error));
	TH_LOG("waited %llu times, %llu ns for the disk",
	       (unsigned long long)(self->delays.block_io.count - before.block_io.count),
	       (unsigned long long)(self->delays.block_io.nanoseconds -
				    before.block_io.nanoseconds));
	ASSERT_EQ(0, statfs(path, &system));
	if (system.f_type != TMPFS_MAGIC) {
		EXPECT_LT(before.block_io.count, self->delays.block_io.count);
		EXPECT_LT(before.block_io.nanoseconds, self->delays.block_io.nanoseconds);
	}
	ASSERT_EQ(1, write(go[1], &byte, 1));
	ASSERT_EQ(child, waitpid(child, &code, 0));
	EXPECT_EQ(0, code);
	EXPECT_EQ(-ESRCH, task_delays_read(self->reader, child, &before, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "no process"));
	free(path);
}

TEST_HARNESS_MAIN
