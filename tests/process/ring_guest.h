/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * ring_guest.h - the guest of output_ring.c: its threads write to OUTSIDE by every call of libc's, in the middle of signals,
 * forks, jumps and stops, lines that say who has written which.
 */
#ifndef TESTS_RING_GUEST_H
#define TESTS_RING_GUEST_H

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
#define WRITERS 6
#define WINDOW 250u /* so far a writer is ahead of the test's reading: no slot gets full */

/* Who has written which. */
struct line {
	uint32_t writer, bytes;
	uint64_t number;
};
#define LINE_MOST 700u

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

#endif
