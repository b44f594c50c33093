// SPDX-License-Identifier: GPL-2.0-only
/*
 * descriptor_kinds.c - every kind of descriptor that a guest may have is recorded, made again in a process that has none,
 * and is what it was; those that cannot be are refused with a line that names them. The guests are this same program,
 * with a role (descriptor_guest.h).
 */
#define _GNU_SOURCE

#include "process/descriptor_guest.h"
#include "kselftest_harness.h"
#include "process/descriptors/descriptors.h"
#include "process/stub/embedded.h"

/* ---- The supervisor */

FIXTURE(kinds)
{
	struct process guest, restored;
	struct descriptors *captured, *decoded;
	struct thaw_error error;
	char *directory;
	int tcp, unix_listener;
};

static int listen_tcp(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t bytes = sizeof(in);
	char port[16];

	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) || listen(fd, 8) ||
	    getsockname(fd, (struct sockaddr *)&in, &bytes))
		support_die("listen");
	snprintf(port, sizeof(port), "%u", ntohs(in.sin_port));
	setenv("DESCRIPTOR_KINDS_PORT", port, 1);
	return fd;
}

static int listen_unix(const char *directory)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s/theirs.sock", directory);
	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) || listen(fd, 8))
		support_die(address.sun_path);
	return fd;
}

FIXTURE_SETUP(kinds)
{
	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
#ifdef __SANITIZE_ADDRESS__
	/* Its heap lies where the control block and the restorer do. */
	SKIP(return, "a program with AddressSanitizer cannot be a guest");
#endif
	self->directory = support_directory();
	setenv(PLACE, self->directory, 1);
	self->tcp = listen_tcp();
	self->unix_listener = listen_unix(self->directory);
}

FIXTURE_TEARDOWN(kinds)
{
	if (!self->directory)
		return;
	process_close(&self->guest);
	process_close(&self->restored);
	descriptors_free(self->captured);
	descriptors_free(self->decoded);
	close(self->tcp);
	close(self->unix_listener);
	support_remove(self->directory);
}

static uint64_t peek(struct process *process, volatile uint64_t *variable)
{
	uint64_t value = 0;

	if (remote_read(&process->remote, (uintptr_t)variable, &value, sizeof(value)))
		return ~0ull;
	return value;
}

/* The guest of this role, stopped when it has all it wants. */
static int start(struct process *process, const char *role, struct thaw_error *error)
{
	char *const arguments[] = {"/proc/self/exe", NULL};
	double end = support_deadline(20);
	int code;

	setenv(ROLE, role, 1);
	code = process_spawn(process, arguments, environ, error);
	unsetenv(ROLE);
	if (code)
		return code;
	process_continue(process);
	while (peek(process, &guest_phase) != 1) {
		if (support_seconds() > end || !remote_alive(&process->remote)) {
			snprintf(error->text, sizeof(error->text), "the guest does not begin");
			return -ETIMEDOUT;
		}
		support_sleep(0.0005);
	}
	return process_stop(process, error);
}

static void end_guest(struct process *process)
{
	kill(process->remote.pid, SIGKILL);
	process_close(process);
	*process = (struct process){0};
}

/* A duplicate here of what the process has under this number. */
static int taken(struct process *process, int number)
{
	struct thaw_error error;
	int here = -1;

	if (descriptors_take(process, process->thread_count ? process->threads[0].mailbox : 0,
			     &number, 1, &here, &error))
		fprintf(stderr, "# %d: %s\n", number, error.text);
	return here;
}

struct rows {
	char *text[256];
};

static void row_add(void *arg, int number, const char *kind, const char *what)
{
	struct rows *rows = arg;

	if (number < 256)
		rows->text[number] = support_format("%s: %s", kind, what);
}

static void rows_free(struct rows *rows)
{
	for (int i = 0; i < 256; i++)
		free(rows->text[i]);
}

static int decode_again(const struct descriptors *captured, struct descriptors **decoded)
{
	struct record_writer writer = {0};
	struct record_reader reader;
	bool well;

	descriptors_encode(captured, &writer);
	reader = (struct record_reader){writer.data, writer.data + writer.bytes, writer.failed};
	well = descriptors_decode(decoded, &reader) && reader.at == reader.end;
	free(writer.data);
	return well ? 0 : -EINVAL;
}

#define EXPECT_READS(text, fd)                                                    \
	do {                                                                      \
		char got_[256] = "";                                              \
		struct pollfd wait_ = {fd, POLLIN, 0};                            \
		ssize_t n_ = -1;                                                  \
		if (poll(&wait_, 1, 5000) == 1)                                   \
			n_ = read(fd, got_, sizeof(got_) - 1);                    \
		EXPECT_EQ((ssize_t)strlen(text), n_)                              \
		TH_LOG("line %d: %s", __LINE__, n_ < 0 ? strerror(errno) : got_); \
		EXPECT_STREQ(text, got_);                                         \
	} while (0)

/* Captured, encoded, decoded, and made again in another process; the first one is dead then. */
#define TRAVEL() TRAVEL_AS("all")
#define TRAVEL_AS(role)                                                                         \
	do {                                                                                    \
		ASSERT_EQ(0, start(&self->guest, role, &self->error))                           \
		TH_LOG("%s", self->error.text);                                                 \
		ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error))  \
		TH_LOG("%s", self->error.text);                                                 \
		ASSERT_EQ(0, decode_again(self->captured, &self->decoded));                     \
		end_guest(&self->guest);                                                        \
		ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error))          \
		TH_LOG("%s", self->error.text);                                                 \
		go_there(&self->restored, self->directory);                                     \
		ASSERT_EQ(0, descriptors_restore(&self->restored, self->decoded, &self->error)) \
		TH_LOG("%s", self->error.text);                                                 \
	} while (0)

/* What kernel_facts_restore() does for the directory. */
static void go_there(struct process *process, const char *directory)
{
	remote_call(&process->remote, 0, SYS_chdir, remote_string(&process->remote, directory), 0,
		    0, 0, 0, 0);
	remote_forget(&process->remote);
}

TEST_F(kinds, a_capture_of_all_changes_nothing)
{
	struct rows before = {0}, after = {0};
	struct descriptors *again = NULL;
	double seconds = 60;

	ASSERT_EQ(0, start(&self->guest, "all", &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error))
	TH_LOG("%s", self->error.text);
	for (int i = 0; i < 10; i++) {
		double begun = support_seconds();

		descriptors_free(again);
		again = NULL;
		ASSERT_EQ(0, descriptors_capture(&self->guest, &again, &self->error));
		begun = support_seconds() - begun;
		seconds = begun < seconds ? begun : seconds;
	}
	TH_LOG("%zu descriptors in %.0f us", again->count, seconds * 1e6);
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	descriptors_describe(self->decoded, row_add, &before);
	descriptors_describe(again, row_add, &after);
	for (int i = 0; i < 256; i++) {
		ASSERT_EQ(!before.text[i], !after.text[i]);
		if (!before.text[i])
			continue;
		TH_LOG("%d %s", i, before.text[i]);
		if (i < N_TIMER || i > N_TIMER_REAL)
			EXPECT_STREQ(before.text[i], after.text[i]);
	}
	/* All of the table; none of ours, or of its own making. */
	for (int i = 3; i < 256; i++) {
		bool expected = (i >= N_FILE && i < N_END) || i == N_REUSED ||
				fcntl(i, F_GETFD) == 0; /* inherited */

		EXPECT_EQ(expected, before.text[i] != NULL)
		TH_LOG("descriptor %d", i);
	}
	rows_free(&before);
	rows_free(&after);
	descriptors_free(again);
}

TEST_F(kinds, numbers_duplicates_and_close_on_exec_are_the_same)
{
	struct descriptors *again = NULL;

	TRAVEL();
	ASSERT_EQ(0, descriptors_capture(&self->restored, &again, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(self->decoded->count, again->count);
	for (size_t i = 0; i < again->count; i++) {
		const struct descriptor *was = &self->decoded->list[i], *is = &again->list[i];

		EXPECT_EQ(was->number, is->number);
		EXPECT_EQ(was->close_on_exec, is->close_on_exec)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(was->object, is->object)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(self->decoded->objects[was->object].flags & ~(uint32_t)O_NOFOLLOW,
			  again->objects[is->object].flags & ~(uint32_t)O_NOFOLLOW)
		TH_LOG("descriptor %d", was->number);
		EXPECT_EQ(self->decoded->objects[was->object].kind, again->objects[is->object].kind)
		TH_LOG("descriptor %d", was->number);
	}
	descriptors_free(again);
}

TEST_F(kinds, a_sandbox_without_kcmp_and_getfd_tells_duplicates_apart)
{
	struct descriptors *again = NULL;

	setenv("DESCRIPTOR_KINDS_PLAIN", "1", 1);
	ASSERT_EQ(0, start(&self->guest, "all", &self->error))
	TH_LOG("%s", self->error.text);
	unsetenv("DESCRIPTOR_KINDS_PLAIN");
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	descriptors_forbidden = (struct descriptors_forbidden){true, true};
	ASSERT_EQ(0, descriptors_capture(&self->guest, &again, &self->error))
	TH_LOG("%s", self->error.text);
	descriptors_forbidden = (struct descriptors_forbidden){false, false};
	ASSERT_EQ(self->captured->count, again->count);
	for (size_t i = 0; i < again->count; i++)
		EXPECT_EQ(self->captured->list[i].object, again->list[i].object);
	descriptors_free(again);
}

TEST_F(kinds, an_interest_that_nobody_can_tell_is_refused)
{
	if (!kcmp_allowed())
		SKIP(return, "kcmp is not allowed: the guest has no such interest");
	ASSERT_EQ(0, start(&self->guest, "all", &self->error))
	TH_LOG("%s", self->error.text);
	descriptors_forbidden.kcmp = true;
	EXPECT_EQ(PROCESS_EREFUSED,
		  descriptors_capture(&self->guest, &self->captured, &self->error));
	descriptors_forbidden.kcmp = false;
	EXPECT_NE(NULL, strstr(self->error.text, "is an epoll that waits for what had the number"));
}

TEST_F(kinds, seven_hundred_descriptors_are_in_their_places)
{
	TRAVEL_AS("many");
	for (int i = 0; i < MANY; i += 7) {
		uint64_t value = 0;
		int fd = taken(&self->restored, MANY_FIRST + i);

		EXPECT_EQ(8, read(fd, &value, 8));
		EXPECT_EQ(1000 + i, value);
		close(fd);
	}
}

TEST_F(kinds, files_have_their_offsets_contents_and_locks)
{
	char text[64] = "", name[300];
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = 1};
	struct stat stat;
	int fd, other;

	TRAVEL();
	fd = taken(&self->restored, N_FILE);
	EXPECT_EQ(3, lseek(fd, 0, SEEK_CUR));
	EXPECT_READS("3456789", fd);
	EXPECT_EQ(1, write(fd, "!", 1));
	EXPECT_EQ(11, lseek(fd, 0, SEEK_CUR));
	close(fd);
	fd = taken(&self->restored, N_FILE_DUP);
	EXPECT_EQ(11, lseek(fd, 0, SEEK_CUR));
	close(fd);
	fd = taken(&self->restored, N_FILE_AGAIN);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	close(fd);
	snprintf(name, sizeof(name), "%s/file", self->directory);
	other = open(name, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(-1, flock(other, LOCK_SH | LOCK_NB));
	close(other);
	snprintf(name, sizeof(name), "%s/locked", self->directory);
	other = open(name, O_RDWR | O_CLOEXEC);
	EXPECT_EQ(0, fcntl(other, F_GETLK, &lock));
	EXPECT_EQ(F_WRLCK, lock.l_type);
	EXPECT_EQ(self->restored.remote.pid, lock.l_pid);
	lock = (struct flock){.l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 102, .l_len = 1};
	EXPECT_EQ(0, fcntl(other, F_GETLK, &lock));
	EXPECT_EQ(F_RDLCK, lock.l_type);
	EXPECT_EQ(-1, lock.l_pid);
	close(other);
	fd = taken(&self->restored, N_FILE_GONE);
	EXPECT_EQ(5, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(22, pread(fd, text, sizeof(text), 0));
	EXPECT_STREQ("gone but not forgotten", text);
	EXPECT_EQ(0, fstat(fd, &stat));
	EXPECT_EQ(0, stat.st_nlink);
	EXPECT_EQ(0640, stat.st_mode & 0777);
	close(fd);
	fd = taken(&self->restored, N_URANDOM);
	EXPECT_EQ(8, read(fd, text, 8));
	close(fd);
}

TEST_F(kinds, pipes_have_their_bytes_sizes_and_ends)
{
	char text[64];
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_PIPE_READ);
	EXPECT_READS("in the pipe", fd);
	EXPECT_EQ(-1, read(fd, text, 1));
	EXPECT_EQ(EAGAIN, errno);
	EXPECT_EQ(16384, fcntl(fd, F_GETPIPE_SZ));
	close(fd);
	fd = taken(&self->restored, N_PIPE_PACKETS_READ);
	EXPECT_READS("one", fd);
	EXPECT_READS("three", fd);
	close(fd);
	fd = taken(&self->restored, N_PIPE_ALONE_READ);
	EXPECT_READS("last", fd);
	EXPECT_READS("", fd);
	close(fd);
	fd = taken(&self->restored, N_PIPE_ALONE_WRITE);
	signal(SIGPIPE, SIG_IGN);
	EXPECT_EQ(-1, write(fd, "x", 1));
	EXPECT_EQ(EPIPE, errno);
	close(fd);
	fd = taken(&self->restored, N_FIFO_READ);
	EXPECT_READS("fifo", fd);
	close(fd);
}

TEST_F(kinds, unix_pairs_have_their_queues_and_connections_are_reset)
{
	struct sockaddr_un name = {0};
	socklen_t bytes = sizeof(name);
	char text[64], path[300];
	struct stat stat;
	int fd, other;

	TRAVEL();
	fd = taken(&self->restored, N_PAIR_A);
	other = taken(&self->restored, N_PAIR_B);
	EXPECT_READS("to a", fd);
	EXPECT_READS("to b", other);
	EXPECT_READS("", other);
	EXPECT_EQ(1, write(other, "z", 1));
	EXPECT_READS("z", fd);
	close(fd);
	close(other);
	fd = taken(&self->restored, N_DATAGRAM_B);
	EXPECT_READS("x", fd);
	EXPECT_READS("", fd);
	EXPECT_READS("yyy", fd);
	close(fd);
	fd = taken(&self->restored, N_PACKET_B);
	EXPECT_READS("first", fd);
	EXPECT_READS("second", fd);
	close(fd);
	fd = taken(&self->restored, N_PAIR_ALONE);
	EXPECT_READS("bye", fd);
	EXPECT_READS("", fd);
	close(fd);
	fd = taken(&self->restored, N_UNIX_CLIENT);
	EXPECT_EQ(-1, read(fd, text, sizeof(text)));
	EXPECT_EQ(ECONNRESET, errno);
	close(fd);
	fd = taken(&self->restored, N_UNIX_LISTENER);
	EXPECT_EQ(0, getsockname(fd, (struct sockaddr *)&name, &bytes));
	EXPECT_STREQ("listener.sock", name.sun_path);
	snprintf(path, sizeof(path), "%s/listener.sock", self->directory);
	EXPECT_EQ(0, lstat(path, &stat));
	close(fd);
	strcpy(name.sun_path, path);
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	EXPECT_EQ(0, connect(fd, (struct sockaddr *)&name, sizeof(name)));
	close(fd);
}

static int backlog_of(int fd)
{
	struct tcp_info info = {0};
	socklen_t bytes = sizeof(info);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &bytes) ? -1 : (int)info.tcpi_sacked;
}

static int option_of(int fd, int level, int name)
{
	int value = -1;
	socklen_t bytes = sizeof(value);

	getsockopt(fd, level, name, &value, &bytes);
	return value;
}

TEST_F(kinds, listeners_listen_and_connections_are_reset)
{
	struct pollfd wait = {.events = POLLIN};
	struct timeval timeout;
	socklen_t bytes = sizeof(timeout);
	char text[8];
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_TCP4_LISTENER);
	EXPECT_EQ(77, backlog_of(fd));
	EXPECT_EQ(1, option_of(fd, SOL_SOCKET, SO_REUSEADDR));
	close(fd);
	fd = taken(&self->restored, N_TCP6_LISTENER);
	EXPECT_EQ(5, backlog_of(fd));
	EXPECT_EQ(1, option_of(fd, IPPROTO_IPV6, IPV6_V6ONLY));
	close(fd);
	for (int number = N_TCP_CLIENT; number <= N_TCP6_CLIENT; number++) {
		fd = taken(&self->restored, number);
		wait.fd = fd;
		EXPECT_EQ(1, poll(&wait, 1, 0));
		EXPECT_EQ(POLLIN | POLLERR | POLLHUP, wait.revents);
		EXPECT_EQ(-1, read(fd, text, sizeof(text)));
		EXPECT_EQ(ECONNRESET, errno);
		close(fd);
	}
	fd = taken(&self->restored, N_TCP_NEW);
	EXPECT_EQ(1, option_of(fd, SOL_SOCKET, SO_KEEPALIVE));
	EXPECT_EQ(1, option_of(fd, IPPROTO_TCP, TCP_NODELAY));
	EXPECT_EQ(100000, option_of(fd, SOL_SOCKET, SO_SNDBUF));
	EXPECT_EQ(0, getsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout, &bytes));
	EXPECT_EQ(3, timeout.tv_sec);
	EXPECT_LE(500000, timeout.tv_usec);
	close(fd);
}

TEST_F(kinds, events_have_their_counts_times_and_masks)
{
	uint64_t value = 0;
	struct itimerspec time;
	struct pollfd wait = {.events = POLLIN};
	struct signalfd_siginfo signal_info;
	char events[4096], path[300];
	const struct inotify_event *event = (const struct inotify_event *)events;
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_EVENT);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(5, value);
	close(fd);
	fd = taken(&self->restored, N_SEMAPHORE);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(1, value);
	close(fd);
	fd = taken(&self->restored, N_TIMER);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_EQ(7, time.it_interval.tv_sec);
	EXPECT_LE(3500, time.it_value.tv_sec);
	EXPECT_GT(3600, time.it_value.tv_sec);
	close(fd);
	fd = taken(&self->restored, N_TIMER_FIRED);
	EXPECT_EQ(8, read(fd, &value, 8));
	EXPECT_EQ(1, value);
	close(fd);
	fd = taken(&self->restored, N_TIMER_REAL);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_LE(86300, time.it_value.tv_sec);
	EXPECT_GE(86400, time.it_value.tv_sec);
	close(fd);
	fd = taken(&self->restored, N_TIMER_OFF);
	EXPECT_EQ(0, timerfd_gettime(fd, &time));
	EXPECT_EQ(0, time.it_value.tv_sec + time.it_value.tv_nsec);
	close(fd);
	fd = taken(&self->restored, N_SIGNALS);
	EXPECT_EQ(-1, read(fd, &signal_info, sizeof(signal_info)));
	EXPECT_EQ(EAGAIN, errno);
	close(fd);
	fd = taken(&self->restored, N_PIDFD_GONE);
	wait.fd = fd;
	EXPECT_EQ(1, poll(&wait, 1, 0));
	close(fd);
	fd = taken(&self->restored, N_PIDFD_SELF);
	wait.fd = fd;
	EXPECT_EQ(0, poll(&wait, 1, 0));
	EXPECT_EQ(0, syscall(SYS_pidfd_send_signal, fd, 0, NULL, 0));
	close(fd);
	fd = taken(&self->restored, N_WATCHES);
	EXPECT_EQ(-1, read(fd, events, sizeof(events)));
	snprintf(path, sizeof(path), "%s/file", self->directory);
	EXPECT_EQ(0, truncate(path, 1));
	EXPECT_LT(0, read(fd, events, sizeof(events)));
	EXPECT_EQ(3, event->wd);
	snprintf(path, sizeof(path), "%s/created", self->directory);
	close(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
	EXPECT_LT(0, read(fd, events, sizeof(events)));
	EXPECT_EQ(1, event->wd);
	EXPECT_STREQ("created", event->name);
	close(fd);
}

TEST_F(kinds, a_memfd_has_its_contents_and_seals)
{
	struct stat stat;
	int fd;

	TRAVEL();
	fd = taken(&self->restored, N_MEMFD);
	EXPECT_EQ(0, fstat(fd, &stat));
	EXPECT_EQ(1 << 20, stat.st_size);
	EXPECT_EQ(499996, lseek(fd, 0, SEEK_CUR));
	EXPECT_EQ(F_SEAL_SHRINK | F_SEAL_GROW, fcntl(fd, F_GET_SEALS));
	EXPECT_EQ(-1, ftruncate(fd, 0));
	close(fd);
	fd = taken(&self->restored, N_MEMFD_AGAIN);
	EXPECT_EQ(0, lseek(fd, 0, SEEK_CUR));
	lseek(fd, 500000, SEEK_SET);
	{
		char text[9] = "";

		EXPECT_EQ(8, read(fd, text, 8));
		EXPECT_STREQ("far away", text);
	}
	EXPECT_EQ(-1, write(fd, "x", 1));
	close(fd);
}

TEST_F(kinds, epoll_has_every_interest)
{
	struct epoll_event events[16], event = {.events = EPOLLIN};
	bool seen[10] = {false}, first = false;
	int fd, outer, got;

	TRAVEL();
	fd = taken(&self->restored, N_EPOLL);
	outer = taken(&self->restored, N_EPOLL_OUTER);
	got = epoll_wait(outer, events, 16, 0);
	EXPECT_EQ(1, got);
	EXPECT_EQ(6, events[0].data.u64);
	got = epoll_wait(fd, events, 16, 0);
	for (int i = 0; i < got; i++) {
		first |= events[i].data.u64 == 0x1122334455667788;
		if (events[i].data.u64 < 10)
			seen[events[i].data.u64] = true;
		if (events[i].data.u64 == 5)
			EXPECT_NE(0, events[i].events & EPOLLERR);
	}
	EXPECT_TRUE(first);
	for (int i = 2; i < 10; i++) {
		EXPECT_EQ(i < 6 || ((i == 7 || i == 8) && kcmp_allowed()), seen[i])
		TH_LOG("interest %d", i);
	}
	/* By its number, the program finds it. */
	EXPECT_EQ(-EEXIST,
		  (int)remote_call(&self->restored.remote, 0, SYS_epoll_ctl, N_EPOLL, EPOLL_CTL_ADD,
				   N_REUSED,
				   remote_copy(&self->restored.remote, &event, sizeof(event)), 0,
				   0));
	close(fd);
	close(outer);
}

TEST_F(kinds, what_travelled_once_travels_again)
{
	struct rows before = {0}, after = {0};
	struct descriptors *again = NULL;

	TRAVEL();
	ASSERT_EQ(0, descriptors_capture(&self->restored, &again, &self->error))
	TH_LOG("%s", self->error.text);
	descriptors_describe(self->decoded, row_add, &before);
	descriptors_describe(again, row_add, &after);
	for (int i = 0; i < 256; i++)
		if (before.text[i] && after.text[i] && i != N_TCP_CLIENT && i != N_TCP6_CLIENT &&
		    i != N_FILE_GONE && (i < N_TIMER || i > N_TIMER_REAL))
			EXPECT_STREQ(before.text[i], after.text[i]);
	EXPECT_NE(NULL, strstr(after.text[N_TCP_CLIENT], "ECONNRESET"));
	rows_free(&before);
	rows_free(&after);
	descriptors_free(again);
}

/* ---- Refused */

static const struct refusal {
	const char *role, *line;
} refusals[] = {
	{"pty", "descriptor 60 is a terminal other than the one it was started at (/dev/"},
	{"rights", "descriptor 61 is a Unix socket with descriptors on their way"},
	{"large", "descriptor 60 is /memfd:large, and files in memory are kept up to 64 MiB"},
	{"raw", "descriptor 60 is socket:["},
	{"removed", "descriptor 60 is a directory that was removed"},
};

TEST_F(kinds, what_cannot_be_made_again_is_refused_by_name)
{
	for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
		ASSERT_EQ(0, start(&self->guest, refusals[i].role, &self->error))
		TH_LOG("%s: %s", refusals[i].role, self->error.text);
		EXPECT_EQ(PROCESS_EREFUSED,
			  descriptors_capture(&self->guest, &self->captured, &self->error));
		EXPECT_NE(NULL, strstr(self->error.text, refusals[i].line))
		TH_LOG("%s: %s", refusals[i].role, self->error.text);
		end_guest(&self->guest);
	}
}

TEST_F(kinds, an_address_that_is_taken_fails_the_restore_by_name)
{
	struct sockaddr_storage address;
	socklen_t bytes = sizeof(address);
	int fd, listener;

	ASSERT_EQ(0, start(&self->guest, "all", &self->error));
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	fd = taken(&self->guest, N_TCP4_LISTENER);
	ASSERT_EQ(0, getsockname(fd, (struct sockaddr *)&address, &bytes));
	end_guest(&self->guest);
	close(fd);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ASSERT_EQ(0, bind(listener, (struct sockaddr *)&address, bytes));
	ASSERT_EQ(0, listen(listener, 1));
	ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error));
	go_there(&self->restored, self->directory);
	EXPECT_EQ(-EADDRINUSE, descriptors_restore(&self->restored, self->decoded, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "is in use by another process"))
	TH_LOG("%s", self->error.text);
	close(listener);
}

TEST_F(kinds, a_file_that_is_missing_fails_the_restore_by_name)
{
	char path[300];

	ASSERT_EQ(0, start(&self->guest, "all", &self->error));
	ASSERT_EQ(0, descriptors_capture(&self->guest, &self->captured, &self->error));
	ASSERT_EQ(0, decode_again(self->captured, &self->decoded));
	end_guest(&self->guest);
	snprintf(path, sizeof(path), "%s/file", self->directory);
	ASSERT_EQ(0, unlink(path));
	ASSERT_EQ(0, process_spawn_restorer(&self->restored, 0, &self->error));
	EXPECT_EQ(-ENOENT, descriptors_restore(&self->restored, self->decoded, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "/file cannot be opened again"))
	TH_LOG("%s", self->error.text);
}

TEST_HARNESS_MAIN
