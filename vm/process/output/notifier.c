// SPDX-License-Identifier: MIT
/*
 * notifier.c - the thread that answers the guest's calls, and what it lives in: a descriptor table of its own.
 *
 * A call whose notification has been received waits for its answer whatever signals come (WAIT_KILLABLE_RECV): it is kept
 * once, and answered once. One that has not been received yet is interrupted by the stop's signal, and made again. So an
 * answer must never wait for the guest's stop: a call that has no room is put off, and where its thread has a signal, be it
 * the stop's, it is let go: with what it has written, or to be made again behind CONTROL_SIGNAL's handler.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "base/thread.h"
#include "process/output/internal.h"

#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#define ERESTARTNOINTR \
	513	   /* the kernel's own: it makes the call again behind the handler of a signal */
#define LOOK_MS 20 /* is there a signal for a thread that waits for room? */
#define LEAST_MOST 131072
#define LONG_STOP_NS 100000000u
#define CHILD_PATIENCE_NS 2000000000ull

void output_wake(int fd)
{
	uint64_t one = 1;

	if (write(fd, &one, sizeof(one)) < 0)
		return; /* it is awake */
}

static _Thread_local int owner_here = -1;

void notifier_enter(const struct output *output)
{
	owner_here = output->wake_owner;
}

int output_wake_fd(int wake_fd)
{
	return owner_here < 0 ? wake_fd : owner_here;
}

/* ---- Answers */

static void respond(const struct output *output, const struct call_notice *call,
		    const struct ruling *ruling)
{
	struct seccomp_notif_resp response = {.id = call->id};

	if (ruling->verdict == VERDICT_GO_ON)
		response.flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
	else if (ruling->value < 0)
		response.error = (int32_t)ruling->value;
	else
		response.val = ruling->value;
	if (ruling->signal)
		syscall(SYS_tgkill, output->pid, call->tid, SIGPIPE);
	/* ENOENT: the thread was killed. */
	while (ioctl(output->listener, SECCOMP_IOCTL_NOTIF_SEND, &response) && errno == EINTR)
		;
}

/* Is that the same pipe, file or terminal? */
static bool is_stream(const struct output *output, const struct stat *stat)
{
	for (int i = 0; i < 3; i++) {
		struct stat stream;

		if (output->streams[i] >= 0 && !fstat(output->streams[i], &stream) &&
		    (!S_ISCHR(stream.st_mode) || isatty(output->streams[i])) &&
		    stream.st_ino == stat->st_ino && stream.st_dev == stat->st_dev &&
		    stream.st_rdev == stat->st_rdev)
			return true;
	}
	return false;
}

/* What the program itself has written there before. */
static bool has_before_it(const struct output *output, const struct stat *stat)
{
	uint64_t inode = outlet_inode(stat);

	for (const struct outlet *outlet = output->queued; outlet; outlet = outlet->queued)
		if (outlet->stream >= 0 && outlet->inode == inode && outlet->first)
			return true;
	return false;
}

/*
 * Children's own output is not held. But what they write to the streams that they have from the program comes behind
 * what that has written: they wait for it, for a while (a vfork(2) that did not end would keep the program from stopping).
 */
static struct ruling rule_child(struct output *output, const struct call_notice *call)
{
	struct ruling ruling = {.verdict = VERDICT_GO_ON};
	char path[64];
	struct stat stat;

	if (call->number != SYS_write && call->number != SYS_writev && call->number != SYS_sendto &&
	    call->number != SYS_sendmsg)
		return ruling;
	snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)call->tid, (int)call->arguments[0]);
	if (fstatat(AT_FDCWD, path, &stat, 0) || !is_stream(output, &stat))
		return ruling;
	output_tell(output, HOLE_CHILDREN);
	take_published(output);
	/* A thread that waits for its vfork(2)ed child cannot park: a stop that takes long waits for that, maybe. */
	if (has_before_it(output, &stat) &&
	    !(output->stopping && clock_monotonic_ns() - output->stopping_ns > LONG_STOP_NS) &&
	    clock_monotonic_ns() - call->since_ns < CHILD_PATIENCE_NS)
		ruling.verdict = VERDICT_WAIT;
	return ruling;
}

static struct ruling rule(struct output *output, struct call_notice *call)
{
	struct ruling ruling = call->is_child ? rule_child(output, call) : call_rule(output, call);

	/* A part was kept, and meanwhile it is another descriptor. */
	if (ruling.verdict == VERDICT_GO_ON && call->taken)
		ruling = answer((int64_t)call->taken);
	return ruling;
}

/* ---- Calls that wait for room */

static uint64_t signal_set(const char *status, const char *name)
{
	const char *at = strstr(status, name);

	return at ? strtoull(at + strlen(name), NULL, 16) : 0;
}

/* The signals that it would take. `*takes_ours`: it would take CONTROL_SIGNAL. */
static uint64_t signals_waiting(const struct output *output, pid_t tid, bool *takes_ours)
{
	char path[64], status[4096];
	uint64_t pending, blocked;
	ssize_t bytes;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/status", (int)output->pid, (int)tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	bytes = fd < 0 ? -1 : read(fd, status, sizeof(status) - 1);
	if (fd >= 0)
		close(fd);
	*takes_ours = false;
	if (bytes <= 0)
		return 0;
	status[bytes] = '\0';
	blocked = signal_set(status, "SigBlk:");
	pending = signal_set(status, "SigPnd:") | signal_set(status, "ShdPnd:");
	*takes_ours = !(blocked >> (CONTROL_SIGNAL - 1) & 1);
	return pending & ~blocked & ~signal_set(status, "SigIgn:");
}

/* Its thread is to do something else. False: it cannot. */
static bool let_go(const struct output *output, const struct call_notice *call)
{
	struct ruling ruling = answer((int64_t)call->taken);
	uint64_t signals;
	bool takes_ours;

	if (call->is_child)
		return false;
	signals = signals_waiting(output, call->tid, &takes_ours);
	if (!signals && !output->stopping)
		return false;
	if (!call->taken && signals & output->interrupts) {
		ruling = answer(-EINTR);
	} else if (!call->taken) {
		/* The signal is the thread's own, and pending: the kernel's code never reaches the program. */
		if (!takes_ours || syscall(SYS_tgkill, output->pid, call->tid, CONTROL_SIGNAL))
			return false;
		ruling = answer(-ERESTARTNOINTR);
	}
	respond(output, call, &ruling);
	return true;
}

/* Until when it waits: for ever, but where the socket says otherwise. */
static uint64_t patience_of(struct output *output, const struct call_notice *call)
{
	struct ruling ruling;
	struct outlet *outlet =
		call->is_child ? NULL : outlet_of(output, (int)call->arguments[0], &ruling);
	struct timeval time = {0};
	socklen_t bytes = sizeof(time);

	if (!outlet || (outlet->kind != OUTLET_STREAM && outlet->kind != OUTLET_MESSAGES) ||
	    getsockopt(outlet->fd, SOL_SOCKET, SO_SNDTIMEO, &time, &bytes) ||
	    (!time.tv_sec && !time.tv_usec))
		return 0;
	return clock_monotonic_ns() + (uint64_t)time.tv_sec * 1000000000u +
	       (uint64_t)time.tv_usec * 1000u;
}

static void put_off(struct output *output, const struct call_notice *call)
{
	struct ruling failed = answer(-ENOBUFS);
	struct call_notice *more;

	if (output->stopping && let_go(output, call))
		return;
	more = realloc(output->waiting, (output->waiting_count + 1) * sizeof(*more));
	if (!more) {
		respond(output, call, &failed);
		return;
	}
	output->waiting = more;
	more[output->waiting_count] = *call;
	more[output->waiting_count++].until_ns = patience_of(output, call);
}

/* In order: who came first has room first. */
static void look_at_waiting(struct output *output)
{
	unsigned kept = 0;

	output->room = false;
	for (unsigned i = 0; i < output->waiting_count; i++) {
		struct call_notice *call = &output->waiting[i];
		struct ruling ruling = rule(output, call);

		if (ruling.verdict == VERDICT_WAIT && call->until_ns &&
		    clock_monotonic_ns() >= call->until_ns)
			ruling = answer(call->taken ? (int64_t)call->taken : -EAGAIN);
		if (ruling.verdict != VERDICT_WAIT)
			respond(output, call, &ruling);
		else if (!let_go(output, call))
			output->waiting[kept++] = *call;
	}
	output->waiting_count = kept;
}

/* ---- Calls */

static void handle(struct output *output, const struct seccomp_notif *notice)
{
	struct call_notice call = {
		.id = notice->id, .tid = (pid_t)notice->pid, .number = notice->data.nr};
	struct ruling ruling = {.verdict = VERDICT_GO_ON};

	memcpy(call.arguments, notice->data.args, sizeof(call.arguments));
	pthread_mutex_lock(&output->lock);
	call.is_child = syscall(SYS_tgkill, output->pid, call.tid, 0);
	if (call.is_child) {
		call.since_ns = clock_monotonic_ns();
		if (notice->data.arch == AUDIT_ARCH_X86_64)
			ruling = rule(output, &call);
	} else if (notice->data.arch != AUDIT_ARCH_X86_64) {
		ruling = answer(-ENOSYS);
	} else {
		changes_settle(output, call.tid);
		take_published(output);
		ruling = rule(output, &call);
	}
	if (ruling.verdict == VERDICT_WAIT)
		put_off(output, &call);
	else
		respond(output, &call, &ruling);
	pthread_mutex_unlock(&output->lock);
}

static void receive(struct output *output)
{
	struct seccomp_notif notice = {0};

	/* ENOENT: it was interrupted before it was received, and is made again. */
	if (!ioctl(output->listener, SECCOMP_IOCTL_NOTIF_RECV, &notice))
		handle(output, &notice);
}

static void serve(struct output *output)
{
	struct pollfd list[2] = {{.fd = output->wake_notifier, .events = POLLIN},
				 {.fd = output->listener, .events = POLLIN}};
	bool ended = false;
	uint64_t value;

	while (!ended) {
		poll(list, 2, output->waiting_count ? LOOK_MS : -1);
		if (list[0].revents && read(output->wake_notifier, &value, sizeof(value)) < 0)
			value = 0;
		if (list[1].revents & POLLIN)
			receive(output);
		else if (list[1].revents) /* nobody has the filter any more */
			list[1].fd = -1;
		pthread_mutex_lock(&output->lock);
		if (output->waiting_count)
			look_at_waiting(output);
		ended = output->ended;
		pthread_mutex_unlock(&output->lock);
	}
}

/* ---- The threads' own table */

/* Up, out of the way of the guest's numbers; all that is below is closed then. */
static bool move_up(const struct output *output, int *fd)
{
	*fd = fcntl(*fd, F_DUPFD_CLOEXEC, output->least); /* EBADF of one that is not there */
	return *fd >= 0;
}

static int make_table(struct output *output)
{
	uint64_t flags = SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP;
	struct stat socket;
	int fd;

	if (unshare(CLONE_FILES))
		return -errno;
	for (int i = 0; i < 3; i++) {
		output->streams[i] = i;
		if (fcntl(i, F_GETFD) < 0 || !move_up(output, &output->streams[i]))
			output->streams[i] = -1;
	}
	output->wake_owner = output->owner.wake_fd;
	if (output->wake_owner >= 0 && !move_up(output, &output->wake_owner))
		return -errno;
	if (!move_up(output, &output->listener) || !move_up(output, &output->pidfd) ||
	    !move_up(output, &output->wake_notifier) || !move_up(output, &output->wake_release))
		return -errno;
	if (syscall(SYS_close_range, 0u, (unsigned)output->least - 1, 0u))
		return -errno;
	output->poll = epoll_create1(EPOLL_CLOEXEC);
	if (!move_up(output, &output->poll))
		return -errno;
	close(0);
	if (epoll_ctl(output->poll, EPOLL_CTL_ADD, output->wake_release,
		      &(struct epoll_event){.events = EPOLLIN}))
		return -errno;
	fd = (int)syscall(SYS_pidfd_getfd, output->pidfd, output->process->remote.control->socket,
			  0);
	if (fd >= 0 && !fstat(fd, &socket))
		output->stub_socket = socket.st_ino;
	if (fd >= 0)
		close(fd);
	/* Since Linux 6.6: the guest goes on where this thread was. */
	ioctl(output->listener, SECCOMP_IOCTL_NOTIF_SET_FLAGS, &flags);
	return fd < 0 ? -EBADF : 0;
}

static void *notifier_run(void *arg)
{
	struct output *output = arg;
	bool releases = false;
	int code;

	pthread_mutex_lock(&output->lock);
	code = make_table(output);
	notifier_enter(output);
	if (!code) {
		code = -pthread_create(&output->release, NULL, release_run, output);
		releases = !code;
	}
	if (!code)
		restore_streams(output);
	output->start_error = code;
	output->started = true;
	pthread_cond_broadcast(&output->idle);
	pthread_mutex_unlock(&output->lock);
	if (!code)
		serve(output);
	if (releases) {
		output_wake(output->wake_release);
		pthread_join(output->release, NULL);
	}
	outlets_free(output); /* here: what it closes is in this table */
	return NULL;
}

/* More connections than the limit of an ordinary program allows, and the guest's numbers below ours. */
static void make_room(struct output *output)
{
	struct rlimit limit = {.rlim_cur = 1024};

	if (!getrlimit(RLIMIT_NOFILE, &limit) && limit.rlim_cur < limit.rlim_max) {
		limit.rlim_cur = limit.rlim_max;
		if (setrlimit(RLIMIT_NOFILE, &limit))
			getrlimit(RLIMIT_NOFILE, &limit);
	}
	output->least = limit.rlim_cur / 2 < LEAST_MOST ? (int)(limit.rlim_cur / 2) : LEAST_MOST;
}

int notifier_start(struct output *output, struct thaw_error *error)
{
	int code;

	make_room(output);
	code = thread_begin(&output->notifier, notifier_run, output);
	output->begun = !code;
	pthread_mutex_lock(&output->lock);
	while (output->begun && !output->started)
		pthread_cond_wait(&output->idle, &output->lock);
	if (!code)
		code = output->start_error;
	pthread_mutex_unlock(&output->lock);
	return code ? failure(error, THAW_EKERNEL,
			      "output cannot be held (--commit output): its threads: %s",
			      strerror(-code))
		    : 0;
}

void notifier_stop(struct output *output)
{
	if (!output->begun)
		return;
	pthread_mutex_lock(&output->lock);
	output->ended = true;
	pthread_mutex_unlock(&output->lock);
	output_wake(output->owner_wakes[0]);
	pthread_join(output->notifier, NULL);
}
