// SPDX-License-Identifier: GPL-2.0-only
/*
 * output_ring.c - bytes that a guest's threads hand over without a system call: each arrives once, in order, whatever is in
 * the middle of what when the guest stops, is restored, forks or gets a signal. What is not for a ring is the kernel's.
 *
 * Nobody filters calls here: the plain ones reach the socket `guest_outside`, whose other end this test reads.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>

#include "kselftest_harness.h"
#include "process/output/ring.h"
#include "process/stub/raw.h"
#include "roles.h"

#define OUTSIDE 200 /* the guest's number of its end */
#define OUTLET 0x30007u
#define WRITERS 6
#define WINDOW 250u /* so far a writer is ahead of the test's reading: no slot gets full */

/* Who has written which. */
struct line {
	uint32_t writer, bytes;
	uint64_t number;
};
#define LINE_MOST 700u

/* ---- The guest */

static volatile uint64_t guest_phase, guest_stop;
static volatile uint64_t guest_done[WRITERS], guest_read[WRITERS];
static volatile int64_t guest_results[16];
static volatile uint64_t guest_turn;
static const char roles_text[4096];

static void line_make(uint8_t *to, uint32_t writer, uint64_t number, uint32_t bytes)
{
	struct line line = {writer, bytes, number};

	memcpy(to, &line, sizeof(line));
	for (uint32_t i = sizeof(line); i < bytes; i++)
		to[i] = (uint8_t)(number * 7 + i + writer);
}

static uint32_t line_bytes(uint64_t number)
{
	return (uint32_t)(sizeof(struct line) + number * 37 % (LINE_MOST - sizeof(struct line)));
}

/* By each call in turn. */
static ssize_t write_somehow(const uint8_t *data, size_t bytes, uint64_t number)
{
	struct iovec halves[2] = {{(void *)data, bytes / 2},
				  {(void *)(data + bytes / 2), bytes - bytes / 2}};
	struct msghdr message = {.msg_iov = halves, .msg_iovlen = 2};
	ssize_t done;

	switch (number % 6) {
	case 0:
		return write(OUTSIDE, data, bytes);
	case 1:
		return writev(OUTSIDE, halves, 2);
	case 2:
		return send(OUTSIDE, data, bytes, MSG_NOSIGNAL);
	case 3:
		do
			done = sendmsg(OUTSIDE, &message, MSG_DONTWAIT);
		while (done < 0 && errno == EAGAIN); /* the socket, in a plain call */
		return done;
	case 4:
		return syscall(SYS_sendto, OUTSIDE, data, bytes, 0, NULL, 0);
	default:
		return sendto(OUTSIDE, data, bytes, 0, NULL, 0);
	}
}

static void write_line(uint32_t writer, uint64_t number)
{
	uint8_t data[LINE_MOST];
	uint32_t bytes = line_bytes(number);

	line_make(data, writer, number, bytes);
	if (write_somehow(data, bytes, number) != (ssize_t)bytes)
		_exit(5);
}

static void *guest_writer(void *argument)
{
	uint32_t writer = (uint32_t)(uintptr_t)argument;

	for (uint64_t number = 0; !guest_stop; number++) {
		while (number > guest_read[writer] + WINDOW && !guest_stop)
			sched_yield();
		write_line(writer, number);
		guest_done[writer] = number + 1;
	}
	return NULL;
}

static void run_writers(pthread_t *threads)
{
	for (uintptr_t i = 0; i < WRITERS; i++)
		if (pthread_create(&threads[i], NULL, guest_writer, (void *)i))
			_exit(4);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
}

static void guest_role_writers(void)
{
	pthread_t threads[WRITERS];

	guest_phase = 1;
	run_writers(threads);
	guest_phase = 2;
	for (;;)
		pause();
}

/* Each writes when it is its turn, so all that is written has an order. */
static void *guest_turns(void *argument)
{
	uint64_t me = (uintptr_t)argument, turn;

	while ((turn = __atomic_load_n(&guest_turn, __ATOMIC_SEQ_CST)) < 6000) {
		if (turn % WRITERS != me) {
			sched_yield();
			continue;
		}
		write_line(0, turn);
		__atomic_store_n(&guest_turn, turn + 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void guest_role_turns(void)
{
	pthread_t threads[WRITERS];

	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_create(&threads[i], NULL, guest_turns, (void *)i);
	for (uintptr_t i = 0; i < WRITERS; i++)
		pthread_join(threads[i], NULL);
	guest_phase = 1;
	for (;;)
		pause();
}

static int64_t outcome(int64_t result)
{
	return result < 0 ? -errno : result;
}

static void guest_role_odd(void)
{
	static uint8_t large[OUTPUT_RECORD_BYTES + 1];
	uint8_t *hole =
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct iovec bad = {hole + 4096, 5}, half[2] = {{hole, 3}, {hole + 4096, 5}};
	struct msghdr message = {.msg_iov = &bad, .msg_iovlen = 1};
	int file = open("/dev/null", O_WRONLY | O_CLOEXEC);
	void *volatile nowhere = NULL;

	munmap(hole + 4096, 4096);
	guest_results[0] = outcome(write(OUTSIDE, hole + 4096, 5));
	guest_results[1] = outcome(write(OUTSIDE, nowhere, 5));
	guest_results[2] = outcome(writev(OUTSIDE, half, 2));
	guest_results[3] = outcome(sendmsg(OUTSIDE, &message, 0));
	guest_results[4] = outcome(sendmsg(OUTSIDE, (void *)(hole + 4096), 0));
	guest_results[5] = outcome(writev(OUTSIDE, (void *)(hole + 4096), 1));
	guest_results[6] = outcome(write(OUTSIDE, large, 0));
	guest_results[7] = outcome(write(OUTSIDE, large, sizeof(large)));
	guest_results[8] = outcome(write(OUTSIDE, large, OUTPUT_RECORD_BYTES)); /* held */
	guest_results[9] = outcome(write(OUTSIDE, (char *)nowhere - 16, 64));
	guest_results[10] = outcome(send(OUTSIDE + 1, "x", 1, 0)); /* held, but no socket */
	guest_results[11] = outcome(write(OUTSIDE + 1, "pipe", 4));
	guest_results[12] = outcome(write(file, "x", 1));
	guest_results[13] = outcome(close(OUTSIDE + 1));
	guest_results[14] = outcome(close(OUTSIDE + 1));
	guest_phase = 1;
	for (;;)
		pause();
}

/* ---- Signals in the middle */

static sigjmp_buf guest_home;
static volatile sig_atomic_t guest_jumps, guest_forks, guest_handled;

static void guest_handler(int number)
{
	uint64_t mine = guest_done[1];

	(void)number;
	if (guest_handled++ % 64 == 0 && guest_forks && fork() == 0) {
		guest_forks = 0;
		/* Goes on with what was interrupted, and ends there. */
		alarm(20);
		guest_stop = 1;
		return;
	}
	if (mine < guest_read[1] + WINDOW) {
		write_line(1, mine);
		guest_done[1] = mine + 1;
	}
	if (guest_jumps && guest_handled % 3 == 0)
		siglongjmp(guest_home, 1);
}

static void *guest_shoots(void *target)
{
	while (!guest_stop) {
		pthread_kill(*(pthread_t *)target, SIGUSR1);
		sched_yield();
	}
	return NULL;
}

static void guest_is_shot_at(uint64_t lines)
{
	struct sigaction action = {.sa_handler = guest_handler, .sa_flags = SA_RESTART};
	pthread_t self = pthread_self(), shooter;
	volatile uint64_t number = 0;
	int parent = getpid();

	signal(SIGCHLD, SIG_IGN);
	sigaction(SIGUSR1, &action, NULL);
	pthread_create(&shooter, NULL, guest_shoots, &self);
	sigsetjmp(guest_home, 1);
	while (number < lines && !guest_stop) {
		while (number > guest_read[0] + WINDOW && !guest_stop)
			sched_yield();
		/* Where it was jumped out of, it is not known whether that was before or after: a number of its own. */
		number++;
		write_line(0, number - 1);
		guest_done[0] = number;
	}
	if (getpid() != parent)
		_exit(0);
	guest_stop = 1;
	pthread_join(shooter, NULL);
	guest_phase = 1;
	for (;;)
		pause();
}

static void guest_role_handlers(void)
{
	guest_is_shot_at(20000);
}

static void guest_role_jumps(void)
{
	guest_jumps = 1;
	guest_is_shot_at(20000);
}

static void guest_role_forks(void)
{
	guest_forks = 1;
	guest_is_shot_at(3000);
}

/* A child of vfork(2) has numbers of its own: OUTSIDE is a pipe there, which the table does not know. */
static void guest_role_vforks(void)
{
	int ends[2];
	char text[8] = "";
	pid_t pid;

	if (pipe2(ends, O_CLOEXEC))
		_exit(4);
	pid = vfork();
	if (!pid) {
		dup2(ends[1], OUTSIDE);
		write(OUTSIDE, "child", 5);
		close(OUTSIDE);
		_exit(0);
	}
	guest_results[0] = read(ends[0], text, sizeof(text));
	guest_results[1] = strcmp(text, "child");
	guest_results[2] = write(OUTSIDE, "parent", 6);
	guest_phase = 1;
	for (;;)
		pause();
}

static void guest_role_closes(void)
{
	int file = open("/dev/null", O_WRONLY | O_CLOEXEC);

	guest_phase = 1;
	while (guest_turn < 1)
		sched_yield();
	guest_results[0] = outcome(dup2(file, OUTSIDE));
	guest_phase = 2;
	while (guest_turn < 2)
		sched_yield();
	guest_results[1] = outcome(close_range(OUTSIDE - 5, OUTSIDE + 5, 0));
	guest_phase = 3;
	while (guest_turn < 3)
		sched_yield();
	guest_results[2] = outcome(syscall(SYS_dup3, file, OUTSIDE, O_CLOEXEC));
	guest_results[3] = outcome(syscall(SYS_close, OUTSIDE));
	guest_phase = 4;
	for (;;)
		pause();
}

/* ---- Cancellation */

static void guest_cleans_up(void *argument)
{
	(void)argument;
	guest_results[1]++;
}

/* As a destructor: run by the unwinder, which has to find its way from the call to here. */
static void guest_unwound(int *unused)
{
	(void)unused;
	guest_results[2]++;
}

static void *guest_waits(void *argument)
{
	int fd = *(int *)argument;
	int object __attribute__((cleanup(guest_unwound))) = 0;

	pthread_cleanup_push(guest_cleans_up, NULL);
	guest_phase = 1;
	for (;;)
		write(fd, roles_text, sizeof(roles_text));
	pthread_cleanup_pop(0);
	return (void *)(uintptr_t)object;
}

/* A thread waits in a call on a full pipe, of which it is known that it stays inside. */
static void guest_role_cancels(void)
{
	void *result = NULL;
	pthread_t thread;
	int ends[2];

	if (pipe2(ends, O_CLOEXEC) || dup2(ends[1], OUTSIDE + 1) < 0)
		_exit(4);
	guest_turn = 1;
	while (guest_turn != 2)
		sched_yield();
	ends[0] = OUTSIDE + 1;
	pthread_create(&thread, NULL, guest_waits, &ends[0]);
	while (guest_turn != 3)
		sched_yield();
	guest_results[0] = pthread_cancel(thread);
	guest_results[3] = pthread_join(thread, &result);
	guest_results[4] = result == PTHREAD_CANCELED;
	guest_phase = 2;
	for (;;)
		pause();
}

static const struct role roles[] = {
	{"writers", guest_role_writers}, {"turns", guest_role_turns},
	{"odd", guest_role_odd},	 {"handlers", guest_role_handlers},
	{"jumps", guest_role_jumps},	 {"forks", guest_role_forks},
	{"vforks", guest_role_vforks},	 {"cancels", guest_role_cancels},
	{"closes", guest_role_closes},
};

__attribute__((constructor)) static void guest_main(void)
{
	run_role(roles, sizeof(roles) / sizeof(*roles));
}

/* ---- The supervisor */

#define NUMBERS 400000u

struct reader {
	uint8_t *seen[WRITERS]; /* how often a number was */
	uint64_t next[WRITERS], lines, pieces, bytes;
	unsigned wrong, unordered;
	uint8_t rest[1 << 20]; /* of what the socket has brought */
	size_t rest_bytes;
};

FIXTURE(ring)
{
	struct process process;
	struct thaw_error error;
	struct ring ring;
	struct output_memory *memory;
	struct reader *reader;
	int outside;
};

FIXTURE_SETUP(ring)
{
	int pair[2];

	if (!process_stub_bytes)
		SKIP(return, "process guests are for x86-64");
	self->reader = calloc(1, sizeof(*self->reader));
	ASSERT_NE(NULL, self->reader);
	for (int i = 0; i < WRITERS; i++)
		ASSERT_NE(NULL, self->reader->seen[i] = calloc(1, NUMBERS));
	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair));
	ASSERT_EQ(OUTSIDE, dup2(pair[1], OUTSIDE));
	close(pair[1]);
	self->outside = pair[0];
}

FIXTURE_TEARDOWN(ring)
{
	if (!process_stub_bytes)
		return;
	process_close(&self->process);
	close(self->outside);
	for (int i = 0; i < WRITERS; i++)
		free(self->reader->seen[i]);
	free(self->reader);
}

static void note_held(FIXTURE_DATA(ring) * self)
{
	ring_held(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE), OUTLET, true);
	ring_fast(&self->ring, OUTLET, true);
}

#define BEGIN(role)                                           \
	START(role);                                          \
	close(OUTSIDE);                                       \
	self->memory = &self->process.remote.control->output; \
	ring_begin(&self->ring, self->memory);                \
	note_held(self)

static size_t take_line(struct reader *reader, const uint8_t *data, size_t bytes)
{
	struct line line;

	if (bytes < sizeof(line))
		return 0;
	memcpy(&line, data, sizeof(line));
	if (line.writer >= WRITERS || line.number >= NUMBERS || line.bytes > LINE_MOST ||
	    line.bytes < sizeof(line)) {
		reader->wrong++;
		return bytes;
	}
	if (line.bytes > bytes)
		return 0;
	for (uint32_t i = sizeof(line); i < line.bytes; i++)
		reader->wrong += data[i] != (uint8_t)(line.number * 7 + i + line.writer);
	if (reader->seen[line.writer][line.number]++)
		reader->wrong++;
	if (line.number < reader->next[line.writer])
		reader->unordered++;
	else
		reader->next[line.writer] = line.number + 1;
	reader->lines++;
	return line.bytes;
}

static int append(void *context, const struct ring_piece *piece)
{
	struct reader *reader = context;

	reader->pieces++;
	reader->bytes += piece->bytes;
	if (piece->outlet != OUTLET || take_line(reader, piece->data, piece->bytes) != piece->bytes)
		reader->wrong++;
	return 0;
}

/* What came by plain calls. */
static void read_socket(FIXTURE_DATA(ring) * self)
{
	struct reader *reader = self->reader;
	size_t at = 0, taken;
	ssize_t got;

	while ((got = recv(self->outside, reader->rest + reader->rest_bytes,
			   sizeof(reader->rest) - reader->rest_bytes, MSG_DONTWAIT)) > 0) {
		reader->rest_bytes += (size_t)got;
		for (at = 0;
		     (taken = take_line(reader, reader->rest + at, reader->rest_bytes - at));)
			at += taken;
		memmove(reader->rest, reader->rest + at, reader->rest_bytes - at);
		reader->rest_bytes -= at;
	}
}

static void let_go_on(FIXTURE_DATA(ring) * self)
{
	for (int i = 0; i < WRITERS; i++)
		remote_write(&self->process.remote, (uintptr_t)&guest_read[i],
			     &self->reader->next[i], sizeof(uint64_t));
}

static void poke(FIXTURE_DATA(ring) * self, volatile uint64_t *variable, uint64_t value)
{
	remote_write(&self->process.remote, (uintptr_t)variable, &value, sizeof(value));
}

/* Until it has come so far: reads what comes, in rings and by plain calls. */
static bool read_until(FIXTURE_DATA(ring) * self, volatile uint64_t *variable, uint64_t least)
{
	double end = support_deadline(60);
	bool there = false;

	while (!there && support_seconds() < end && remote_alive(&self->process.remote)) {
		there = peek(&self->process, variable) >= least;
		if (ring_drain(&self->ring, append, self->reader) < 0)
			return false;
		read_socket(self);
		let_go_on(self);
	}
	if (!there && !remote_alive(&self->process.remote))
		fprintf(stderr, "# the guest has ended: %x\n", (unsigned)end_of(&self->process));
	return there;
}

TEST_F(ring, what_was_written_before_a_stop_is_there_in_it_and_nothing_else)
{
	uint64_t before = 0;

	BEGIN("writers");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 150; i++) {
		ASSERT_TRUE(read_until(self, &guest_done[i % WRITERS],
				       peek(&self->process, &guest_done[i % WRITERS]) + 1));
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s", i, self->error.text);
		ASSERT_LE(0, ring_drain(&self->ring, append, self->reader));
		for (int writer = 0; writer < WRITERS; writer++) {
			uint64_t done = peek(&self->process, &guest_done[writer]);

			/* The call has returned, or is about to. */
			ASSERT_LE(done, self->reader->next[writer]);
			ASSERT_GE(done + 1, self->reader->next[writer]);
		}
		ASSERT_FALSE(ring_pending(&self->ring));
		process_continue(&self->process);
	}
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (int writer = 0; writer < WRITERS; writer++) {
		EXPECT_EQ(peek(&self->process, &guest_done[writer]), self->reader->next[writer]);
		before += self->reader->next[writer];
	}
	EXPECT_EQ(before, self->reader->lines);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_EQ(0, self->reader->unordered);
	/* All of it came by the ring. */
	EXPECT_EQ(self->reader->lines, self->reader->pieces);
	EXPECT_LT(6 * OUTPUT_SLOT_BYTES, self->reader->bytes);
}

/* Nothing is left of the ring in a restored process, as here: a new token, no entries, whoever was in the middle. */
TEST_F(ring, a_restored_thread_has_no_reservation_and_loses_nothing)
{
	uint64_t lines = 0;

	BEGIN("writers");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (int i = 0; i < 150; i++) {
		ASSERT_TRUE(read_until(self, &guest_done[i % WRITERS],
				       peek(&self->process, &guest_done[i % WRITERS]) + 3));
		ASSERT_EQ(0, process_stop(&self->process, &self->error))
		TH_LOG("%d: %s", i, self->error.text);
		ASSERT_LE(0, ring_drain(&self->ring, append, self->reader));
		memset(self->memory, 0, sizeof(*self->memory));
		ring_begin(&self->ring, self->memory);
		if (i % 3)
			note_held(self);
		process_continue(&self->process);
		if (i % 3 == 0)
			note_held(self);
	}
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (int writer = 0; writer < WRITERS; writer++) {
		uint64_t done = peek(&self->process, &guest_done[writer]);

		lines += done;
		for (uint64_t number = 0; number < done; number++) {
			ASSERT_EQ(1, self->reader->seen[writer][number])
			TH_LOG("line %d of writer %d", (int)number, writer);
		}
	}
	EXPECT_EQ(lines, self->reader->lines);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(0, self->reader->pieces);
}

TEST_F(ring, what_happens_before_comes_before)
{
	BEGIN("turns");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	EXPECT_EQ(6000, self->reader->pieces);
	EXPECT_EQ(6000, self->reader->next[0]);
	EXPECT_EQ(0, self->reader->unordered);
	EXPECT_EQ(0, self->reader->wrong);
}

struct collected {
	unsigned count;
	uint32_t bytes[8], outlet[8];
};

static int collect(void *context, const struct ring_piece *piece)
{
	struct collected *collected = context;

	if (collected->count < 8) {
		collected->bytes[collected->count] = piece->bytes;
		collected->outlet[collected->count] = piece->outlet;
	}
	collected->count++;
	return 0;
}

TEST_F(ring, what_is_not_plain_success_is_the_kernels)
{
	static const int64_t wanted[] = {-EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 -EFAULT,
					 0,
					 OUTPUT_RECORD_BYTES + 1,
					 OUTPUT_RECORD_BYTES,
					 -EFAULT,
					 -ENOTSOCK,
					 4,
					 1,
					 0,
					 -EBADF};
	struct collected collected = {0};
	int ends[2], got = 0, part;

	ASSERT_EQ(0, pipe2(ends, O_CLOEXEC));
	ASSERT_EQ(OUTSIDE + 1, dup2(ends[1], OUTSIDE + 1));
	BEGIN("odd");
	close(OUTSIDE + 1);
	ring_held(&self->ring, OUTSIDE + 1, ring_seen(&self->ring, OUTSIDE + 1), OUTLET + 1, false);
	ring_fast(&self->ring, OUTLET + 1, true);
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++) {
		EXPECT_EQ(wanted[i],
			  (int64_t)peek(&self->process, (volatile uint64_t *)&guest_results[i]))
		TH_LOG("of call %d", (int)i);
	}
	EXPECT_EQ(2, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(OUTPUT_RECORD_BYTES, collected.bytes[0]);
	EXPECT_EQ(4, collected.bytes[1]);
	EXPECT_EQ(OUTLET + 1, collected.outlet[1]);
	while ((part = (int)recv(self->outside, self->reader->rest, sizeof(self->reader->rest),
				 MSG_DONTWAIT)) > 0)
		got += part;
	EXPECT_EQ((int)OUTPUT_RECORD_BYTES + 1, got);
	close(ends[0]);
	close(ends[1]);
}

TEST_F(ring, a_full_slot_and_an_outlet_without_room_leave_it_to_the_plain_call)
{
	BEGIN("writers");
	poke(self, &guest_read[0], NUMBERS / 2); /* the first of them is let run ahead */
	process_continue(&self->process);
	/* Nothing is drained: its slot fills, and then the kernel gets the rest. */
	ASSERT_TRUE(wait_for(&self->process, &guest_done[0], 2 * OUTPUT_SLOT_BYTES / LINE_MOST));
	while (recv(self->outside, self->reader->rest, 1, MSG_PEEK) != 1)
		;
	ring_fast(&self->ring, OUTLET, false);
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	for (uint64_t number = 0; number < peek(&self->process, &guest_done[0]); number++)
		ASSERT_EQ(1, self->reader->seen[0][number]);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(self->reader->pieces, self->reader->lines);
}

TEST_F(ring, handlers_of_signals_write_in_the_middle_of_a_record)
{
	BEGIN("handlers");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	for (int writer = 0; writer < 2; writer++)
		for (uint64_t number = 0; number < peek(&self->process, &guest_done[writer]);
		     number++)
			ASSERT_EQ(1, self->reader->seen[writer][number]);
	EXPECT_EQ(20000, peek(&self->process, &guest_done[0]));
	EXPECT_LT(0, peek(&self->process, &guest_done[1]));
	EXPECT_EQ(0, self->reader->wrong);
}

TEST_F(ring, a_handler_that_never_returns_leaves_nothing_behind)
{
	BEGIN("jumps");
	process_continue(&self->process);
	ASSERT_TRUE(read_until(self, &guest_phase, 1));
	/* Of those that were jumped out of, each is there, or is not. */
	for (uint64_t number = 0; number < 20000; number++)
		ASSERT_GE(1, self->reader->seen[0][number]);
	for (uint64_t number = 0; number < peek(&self->process, &guest_done[1]); number++)
		ASSERT_EQ(1, self->reader->seen[1][number]);
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_FALSE(ring_pending(&self->ring));
}

/* The child goes on in the middle of a record of its parent's, and its own lines are none of the ring's. */
TEST_F(ring, a_handler_may_fork_in_the_middle_of_a_record)
{
	BEGIN("forks");
	process_continue(&self->process);
	while (peek(&self->process, &guest_phase) != 1 && remote_alive(&self->process.remote)) {
		ring_drain(&self->ring, append, self->reader);
		while (recv(self->outside, self->reader->rest, sizeof(self->reader->rest),
			    MSG_DONTWAIT) > 0)
			; /* children's */
		let_go_on(self);
	}
	ASSERT_TRUE(remote_alive(&self->process.remote));
	EXPECT_LE(0, ring_drain(&self->ring, append, self->reader));
	EXPECT_EQ(0, self->reader->wrong);
	EXPECT_LT(0, self->reader->pieces);
}

TEST_F(ring, a_child_of_vfork_writes_to_its_own_descriptors)
{
	struct collected collected = {0};

	BEGIN("vforks");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	EXPECT_EQ(5, peek(&self->process, (volatile uint64_t *)&guest_results[0]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[1]));
	EXPECT_EQ(6, peek(&self->process, (volatile uint64_t *)&guest_results[2]));
	EXPECT_EQ(1, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(6, collected.bytes[0]);
	EXPECT_EQ(ENTRY_HELD, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
}

/* Is the thread with this number, which is not the main one, in write(2)? */
static bool waits_in_write(FIXTURE_DATA(ring) * self)
{
	char path[64], text[64] = "";
	const struct dirent *entry;
	bool found = false;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", self->process.remote.pid);
	tasks = opendir(path);
	while (tasks && !found && (entry = readdir(tasks))) {
		FILE *file;

		snprintf(path, sizeof(path), "/proc/%d/task/%.20s/syscall",
			 self->process.remote.pid, entry->d_name);
		file = fopen(path, "re");
		found = file && fgets(text, sizeof(text), file) && !strncmp(text, "1 0xc9", 6);
		if (file)
			fclose(file);
	}
	if (tasks)
		closedir(tasks);
	return found;
}

TEST_F(ring, a_thread_that_waits_in_the_gate_is_cancelled_and_unwound)
{
	static const int64_t wanted[] = {0, 1, 1, 0, 1};

	BEGIN("cancels");
	process_continue(&self->process);
	ASSERT_TRUE(wait_for(&self->process, &guest_turn, 1));
	ring_direct(&self->ring, OUTSIDE + 1, ring_seen(&self->ring, OUTSIDE + 1));
	poke(self, &guest_turn, 2);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 1));
	while (!waits_in_write(self) && remote_alive(&self->process.remote))
		;
	poke(self, &guest_turn, 3);
	ASSERT_TRUE(wait_for(&self->process, &guest_phase, 2));
	for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
		EXPECT_EQ(wanted[i],
			  (int64_t)peek(&self->process, (volatile uint64_t *)&guest_results[i]));
}

TEST_F(ring, what_was_known_of_a_number_ends_with_it)
{
	uint64_t seen;

	BEGIN("closes");
	process_continue(&self->process);
	for (uint64_t step = 1; step <= 3; step++) {
		ASSERT_TRUE(wait_for(&self->process, &guest_phase, step));
		seen = ring_seen(&self->ring, OUTSIDE);
		if (step > 1)
			ring_direct(&self->ring, OUTSIDE, seen);
		EXPECT_NE(ENTRY_UNKNOWN, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
		poke(self, &guest_turn, step);
		ASSERT_TRUE(wait_for(&self->process, &guest_phase, step + 1));
		EXPECT_EQ(ENTRY_UNKNOWN,
			  ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_CLOSERS));
		/* What was looked up before that is not noted. */
		ring_held(&self->ring, OUTSIDE, seen, OUTLET, true);
		EXPECT_EQ(ENTRY_UNKNOWN, ring_seen(&self->ring, OUTSIDE) & ENTRY_KIND);
	}
	EXPECT_EQ(OUTSIDE, peek(&self->process, (volatile uint64_t *)&guest_results[0]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[1]));
	EXPECT_EQ(OUTSIDE, peek(&self->process, (volatile uint64_t *)&guest_results[2]));
	EXPECT_EQ(0, peek(&self->process, (volatile uint64_t *)&guest_results[3]));
	/* One that the supervisor was asked about is asked about until a stop: nobody knows when it has happened. */
	seen = ring_seen(&self->ring, OUTSIDE);
	ring_forget(&self->ring, OUTSIDE, OUTSIDE);
	ring_direct(&self->ring, OUTSIDE, seen);
	ring_direct(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE));
	EXPECT_EQ(ENTRY_ASK, ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_ASK));
	ring_parked(&self->ring);
	ring_direct(&self->ring, OUTSIDE, ring_seen(&self->ring, OUTSIDE));
	EXPECT_EQ(ENTRY_DIRECT, ring_seen(&self->ring, OUTSIDE) & (ENTRY_KIND | ENTRY_ASK));
}

TEST_F(ring, the_first_who_publishes_wakes_a_supervisor_that_sleeps)
{
	uint32_t wakes = 0;

	BEGIN("writers");
	ASSERT_TRUE(ring_sleep(&self->ring));
	EXPECT_FALSE(ring_wait(&self->ring, &wakes, 1000000));
	process_continue(&self->process);
	ASSERT_TRUE(ring_wait(&self->ring, &wakes, 20000000000ull));
	/* That one has woken it; the others write on, and make no call for it. */
	ASSERT_TRUE(read_until(self, &guest_done[0], 1000));
	EXPECT_EQ(1, self->memory->wakes);
	/* There is something: no reason to sleep. */
	while (!ring_pending(&self->ring) && remote_alive(&self->process.remote))
		;
	EXPECT_FALSE(ring_sleep(&self->ring));
	poke(self, &guest_stop, 1);
	ASSERT_TRUE(read_until(self, &guest_phase, 2));
	EXPECT_EQ(0, self->reader->wrong);
}

/* The guest can write there, too: whatever it says, the supervisor reads nothing but the slot. */
TEST_F(ring, what_the_guest_has_destroyed_is_an_error_and_no_crash)
{
	struct collected collected = {0};
	struct output_record *record;

	BEGIN("vforks");
	self->memory->slots = UINT32_MAX;
	self->memory->stamp = 10;
	record = (void *)self->memory->data[3];
	record->bytes = UINT32_MAX - 16;
	self->memory->slot[3].published += 64;
	EXPECT_EQ(-EIO, ring_drain(&self->ring, collect, &collected));
	self->memory->slot[4].published += OUTPUT_SLOT_BYTES + 32;
	self->memory->slot[5].published += 7;
	EXPECT_EQ(-EIO, ring_drain(&self->ring, collect, &collected));
	EXPECT_EQ(0, collected.count);
	EXPECT_FALSE(ring_pending(&self->ring));
}

TEST_HARNESS_MAIN
