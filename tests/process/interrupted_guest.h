/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * interrupted_guest.h - the guests of interrupted_calls.c, which run where ROLE names them: threads that wait in every call with a
 * timeout, in calls without one until they are given what they wait for, and in calls that signals of their own end.
 */
#ifndef TESTS_INTERRUPTED_GUEST_H
#define TESTS_INTERRUPTED_GUEST_H

#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "support.h"

#define ROLE "INTERRUPTED_CALLS_ROLE"
#define TIMEOUT_MS 150
#define TIMEOUT_NS (TIMEOUT_MS * 1000000l)

/* ---- The guest: calls with a timeout. Each returns 0 if it timed out, else an errno. */

static const struct timespec wait_time = {.tv_nsec = TIMEOUT_NS};

static int result_of(long result)
{
	return result < 0 ? errno : result ? -1 : 0;
}

static int in_poll(void)
{
	return result_of(poll(NULL, 0, TIMEOUT_MS));
}

static int in_poll_by_number(void)
{
	return result_of(syscall(SYS_poll, NULL, 0, TIMEOUT_MS));
}

static int in_ppoll(void)
{
	return result_of(ppoll(NULL, 0, &wait_time, NULL));
}

static int in_select(void)
{
	struct timeval time = {.tv_usec = TIMEOUT_MS * 1000};

	return result_of(select(0, NULL, NULL, NULL, &time));
}

static int in_pselect(void)
{
	return result_of(pselect(0, NULL, NULL, NULL, &wait_time, NULL));
}

static int epoll_fd(void)
{
	static __thread int fd = -1;

	if (fd < 0)
		fd = epoll_create1(EPOLL_CLOEXEC);
	return fd;
}

static int in_epoll_wait(void)
{
	struct epoll_event event;

	return result_of(epoll_wait(epoll_fd(), &event, 1, TIMEOUT_MS));
}

static int in_epoll_pwait(void)
{
	struct epoll_event event;
	sigset_t none;

	sigemptyset(&none);
	return result_of(epoll_pwait(epoll_fd(), &event, 1, TIMEOUT_MS, &none));
}

static int in_epoll_pwait2(void)
{
	struct epoll_event event;

	return result_of(
		syscall(441 /* epoll_pwait2 */, epoll_fd(), &event, 1, &wait_time, NULL, 8));
}

static int in_nanosleep(void)
{
	return result_of(nanosleep(&wait_time, NULL));
}

static int in_nanosleep_left(void)
{
	struct timespec left;

	return result_of(nanosleep(&wait_time, &left));
}

static int in_clock_nanosleep(void)
{
	return clock_nanosleep(CLOCK_BOOTTIME, 0, &wait_time, NULL);
}

static struct timespec end_of_wait(clockid_t clock)
{
	struct timespec end;

	clock_gettime(clock, &end);
	end.tv_nsec += TIMEOUT_NS;
	end.tv_sec += end.tv_nsec / 1000000000;
	end.tv_nsec %= 1000000000;
	return end;
}

static int in_clock_nanosleep_until(void)
{
	struct timespec end = end_of_wait(CLOCK_MONOTONIC);

	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL);
}

static int in_sigtimedwait(void)
{
	sigset_t set;
	int result;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	result = result_of(sigtimedwait(&set, NULL, &wait_time));
	return result == EAGAIN ? 0 : result;
}

static int in_futex(void)
{
	static uint32_t word;
	int result = result_of(syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, &wait_time));

	return result == ETIMEDOUT ? 0 : result;
}

static int in_sem_timedwait(void)
{
	struct timespec end = end_of_wait(CLOCK_REALTIME);
	sem_t semaphore;
	int result;

	sem_init(&semaphore, 0, 0);
	result = result_of(sem_timedwait(&semaphore, &end));
	return result == ETIMEDOUT ? 0 : result;
}

static int semaphores(void)
{
	static __thread int id = -1;

	if (id < 0) {
		id = semget(IPC_PRIVATE, 1, 0600);
		/* Nobody has it after that; a call that waits in it fails with EIDRM. */
	}
	return id;
}

static int in_semtimedop(void)
{
	struct sembuf take = {.sem_op = -1};
	int result = result_of(semtimedop(semaphores(), &take, 1, &wait_time));

	semctl(semaphores(), 0, SETVAL, 0);
	return result == EAGAIN ? 0 : result;
}

static int in_io_getevents(void)
{
	static __thread aio_context_t context;
	struct timespec time = wait_time;
	struct io_event event;

	if (!context && syscall(SYS_io_setup, 1, &context))
		return errno;
	return result_of(syscall(SYS_io_getevents, context, 1, 1, &event, &time));
}

static int in_recv(void)
{
	static __thread int ends[2] = {-1, -1};
	struct timeval time = {.tv_usec = TIMEOUT_MS * 1000};
	char byte;
	int result;

	if (ends[0] < 0 && (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) ||
			    setsockopt(ends[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof(time))))
		return errno;
	result = result_of(recv(ends[0], &byte, 1, 0));
	return result == EAGAIN ? 0 : result;
}

static const struct timed {
	const char *name;
	int (*wait)(void);
} timed[] = {
	{"poll", in_poll},
	{"syscall(SYS_poll)", in_poll_by_number},
	{"ppoll", in_ppoll},
	{"select", in_select},
	{"pselect", in_pselect},
	{"epoll_wait", in_epoll_wait},
	{"epoll_pwait", in_epoll_pwait},
	{"epoll_pwait2", in_epoll_pwait2},
	{"nanosleep", in_nanosleep},
	{"nanosleep with what is left", in_nanosleep_left},
	{"clock_nanosleep", in_clock_nanosleep},
	{"clock_nanosleep until", in_clock_nanosleep_until},
	{"sigtimedwait", in_sigtimedwait},
	{"futex", in_futex},
	{"sem_timedwait", in_sem_timedwait},
	{"semtimedop", in_semtimedop},
	{"io_getevents", in_io_getevents},
	{"recv of a socket with SO_RCVTIMEO", in_recv},
};
#define TIMED (sizeof(timed) / sizeof(*timed))

static struct outcome {
	uint64_t ended;	 /* calls that have timed out */
	uint64_t early;	 /* of them, before their time */
	uint64_t failed; /* other results; the first one: */
	int64_t failure;
} outcomes[TIMED];

static void *guest_timed(void *argument)
{
	size_t index = (size_t)(uintptr_t)argument;
	struct outcome *outcome = &outcomes[index];

	for (;;) {
		double began = support_seconds();
		int result = timed[index].wait();

		if (result == ENOSYS) {
			outcome->failure = ENOSYS;
			return NULL;
		}
		if (result && !outcome->failed++)
			outcome->failure = result;
		if (!result && support_seconds() - began < TIMEOUT_MS * 1e-3 - 0.002)
			outcome->early++;
		if (!result)
			__atomic_add_fetch(&outcome->ended, 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

/* ---- The guest: calls without a timeout, which return once, when they are given what they wait for */

static int given[2];	   /* a pipe */
static int msg_id, sem_id; /* of System V */

static int64_t until_poll(void)
{
	struct pollfd fd = {.fd = given[0], .events = POLLIN};

	return poll(&fd, 1, -1) < 0 ? errno : 0;
}

static int64_t until_epoll(void)
{
	struct epoll_event event = {.events = EPOLLIN};

	epoll_ctl(epoll_fd(), EPOLL_CTL_ADD, given[0], &event);
	return epoll_wait(epoll_fd(), &event, 1, -1) < 0 ? errno : 0;
}

static int64_t until_select(void)
{
	fd_set set;

	FD_ZERO(&set);
	FD_SET(given[0], &set);
	return select(given[0] + 1, &set, NULL, NULL, NULL) < 0 ? errno : 0;
}

static int64_t until_message(void)
{
	struct {
		long type;
		char text[8];
	} message;

	return msgrcv(msg_id, &message, sizeof(message.text), 0, 0) < 0 ? errno : 0;
}

static int64_t until_semaphore(void)
{
	struct sembuf take = {.sem_op = -1};

	return semop(sem_id, &take, 1) ? errno : 0;
}

static int64_t until_signal(void)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	return sigwaitinfo(&set, NULL) < 0 ? errno : 0;
}

static const struct untimed {
	const char *name;
	int64_t (*wait)(void);
} untimed[] = {{"poll", until_poll},	   {"epoll_wait", until_epoll},
	       {"select", until_select},   {"msgrcv", until_message},
	       {"semop", until_semaphore}, {"sigwaitinfo", until_signal}};
#define UNTIMED (sizeof(untimed) / sizeof(*untimed))

static uint64_t waiting_since[UNTIMED];
static int64_t waited[UNTIMED]; /* 1 + result */
static uint64_t give;		/* the supervisor wants them to end */
static pthread_t untimed_threads[UNTIMED];

static void *guest_untimed(void *argument)
{
	size_t index = (size_t)(uintptr_t)argument;

	waiting_since[index] = 1;
	waited[index] = 1 + untimed[index].wait();
	return NULL;
}

static void guest_role_untimed(void)
{
	struct {
		long type;
		char text[8];
	} message = {.type = 1};
	struct sembuf put = {.sem_op = 1};
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	msg_id = msgget(IPC_PRIVATE, 0600);
	sem_id = semget(IPC_PRIVATE, 1, 0600);
	if (pipe(given) || msg_id < 0 || sem_id < 0)
		_exit(2);
	for (size_t i = 0; i < UNTIMED; i++)
		pthread_create(&untimed_threads[i], NULL, guest_untimed, (void *)i);
	while (!__atomic_load_n(&give, __ATOMIC_SEQ_CST))
		sched_yield();
	if (write(given[1], "", 1) != 1 || msgsnd(msg_id, &message, 1, 0) ||
	    semop(sem_id, &put, 1) || pthread_kill(untimed_threads[5], SIGRTMIN))
		_exit(3);
	for (size_t i = 0; i < UNTIMED; i++)
		pthread_join(untimed_threads[i], NULL);
	msgctl(msg_id, IPC_RMID, NULL);
	semctl(sem_id, 0, IPC_RMID);
	_exit(0);
}

static void guest_role_timed(void)
{
	pthread_t threads[TIMED];

	for (size_t i = 0; i < TIMED; i++)
		pthread_create(&threads[i], NULL, guest_timed, (void *)i);
	for (;;)
		pause();
}

/* ---- The guest: its own signals */

static uint64_t handled;	/* signals */
static uint64_t interrupted[4]; /* calls that have ended with EINTR, by what the thread waits in */
static int32_t interrupted_tids[4]; /* 0: not there yet */

static void handler(int number)
{
	(void)number;
	__atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

static void *guest_signalled(void *argument)
{
	size_t index = (size_t)(uintptr_t)argument;
	struct timespec long_time = {.tv_sec = 3600};
	int ends[2];
	char byte;

	if (pipe(ends))
		_exit(2);
	__atomic_store_n(&interrupted_tids[index], gettid(), __ATOMIC_SEQ_CST);
	for (;;) {
		long result = -1;

		switch (index) {
		case 0:
			result = pause();
			break;
		case 1:
			result = poll(NULL, 0, 3600000);
			break;
		case 2:
			result = nanosleep(&long_time, NULL);
			break;
		case 3: /* its handler does not restart it */
			result = read(ends[0], &byte, 1);
			break;
		}
		if (result >= 0 || errno != EINTR)
			_exit(4);
		__atomic_add_fetch(&interrupted[index], 1, __ATOMIC_SEQ_CST);
	}
	return NULL;
}

static void guest_role_signalled(void)
{
	struct sigaction action = {.sa_handler = handler};
	pthread_t threads[4];

	sigaction(SIGUSR1, &action, NULL);
	for (size_t i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, guest_signalled, (void *)i);
	for (;;)
		pthread_join(threads[0], NULL);
}

static const struct {
	const char *name;
	void (*run)(void);
} guest_roles[] = {{"timed", guest_role_timed},
		   {"untimed", guest_role_untimed},
		   {"signalled", guest_role_signalled}};

__attribute__((constructor)) static void guest_main(void)
{
	const char *role = getenv(ROLE);

	for (size_t i = 0; role && i < sizeof(guest_roles) / sizeof(*guest_roles); i++)
		if (!strcmp(role, guest_roles[i].name)) {
			guest_roles[i].run();
			_exit(0);
		}
}

#endif
