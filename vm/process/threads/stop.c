// SPDX-License-Identifier: MIT
/*
 * stop.c - all threads of a guest park, and go on (stub/control.h).
 *
 * A round: list the threads (in the first, those of the last stop will do); who is not parked is asked by
 * CONTROL_SIGNAL, all of them before any is waited for. The end is when the kernel counts no more threads than are parked: a
 * parked one makes no others. Where it does not count so (the main thread has ended), two rounds in a row that find
 * everybody parked: a thread that runs could have made another one while the first of them listed. A thread may end
 * meanwhile; one whose signal was lost (pthread_cancel has its own handler for a moment) is asked again.
 *
 * Nobody waits for ever: not for a thread that waits for the kernel (vfork(2), a disk that does not answer), nor
 * for a guest that job control has stopped. Then everybody goes on.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "process/process.h"

#define PATIENCE_NS 2000000000ull
/* A program that has a thread which does not park stands still in vain: not for more than a tenth of its time. */
#define PAUSE_FACTOR 10u
/* One round waits so long for those that it has asked. */
#define ROUND_NS 2000000ull
/* ... of which it does not sleep in the first. */
#define YIELD_NS 100000ull
/* ... and so long for one that is about to leave. */
#define LEAVING_NS 50000ull
/* From then on it is looked at what a thread is in, and it is asked again if it has lost its signal. */
#define SUSPICION_NS 20000000ull

/* Executing a program takes no longer, until the stub has started in it. */
#define EXECUTION_NS 10000000000ull

/* So long a process may take to end after its main thread has. */
#define EXIT_MS 200

struct stop {
	struct process *process;
	int tasks; /* the directory of them */
	uint64_t began_ns;
	unsigned listed; /* in this round; of them: */
	unsigned parked, zombies, asked, missing;
	int32_t missing_tid; /* one of those who are not parked */
};

/* ---- What the kernel says of a thread */

static ssize_t read_task(const struct stop *stop, int32_t tid, const char *name, char *text,
			 size_t room)
{
	char path[64];
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "%d/%s", (int)tid, name);
	fd = openat(stop->tasks, path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -1;
	got = read(fd, text, room - 1);
	close(fd);
	text[got > 0 ? got : 0] = '\0';
	return got;
}

/* R, S, D, T, t, Z, X; 0: it is gone. */
static char task_state(const struct stop *stop, int32_t tid)
{
	char text[512], *end;

	if (read_task(stop, tid, "stat", text, sizeof(text)) <= 0)
		return 0;
	end = strrchr(text, ')');
	return end && end[1] ? end[2] : 0;
}

static bool has_signal(const char *status, const char *field)
{
	const char *at = strstr(status, field);

	return at && strtoull(at + strlen(field), NULL, 16) >> (CONTROL_SIGNAL - 1) & 1;
}

/* A mask of signals in /proc/PID/task/TID/status: is CONTROL_SIGNAL in it? */
static bool task_signal(const struct stop *stop, int32_t tid, const char *field)
{
	char text[4096];

	return read_task(stop, tid, "status", text, sizeof(text)) > 0 && has_signal(text, field);
}

/* What it is in, before the signal interrupts that. */
static void read_call(const struct stop *stop, struct thread *thread)
{
	uint64_t *to[] = {&thread->call_arguments[0], &thread->call_arguments[1],
			  &thread->call_arguments[2], &thread->call_arguments[3],
			  &thread->call_arguments[4], &thread->call_arguments[5],
			  &thread->call_stack,	      &thread->call_program};
	char text[256], *at = text;

	thread->call = -1;
	if (proc_files_syscall(&stop->process->files, thread->tid, text, sizeof(text)) <= 0 ||
	    !isdigit((unsigned char)*at))
		return; /* it runs; or is in the kernel, but in no call ("-1"); or this is not allowed */
	thread->call = strtoll(at, &at, 10);
	for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++)
		*to[i] = strtoull(at, &at, 16);
}

/* ---- One round */

static struct thread *find_thread(struct process *process, int32_t tid)
{
	for (unsigned i = 0; i < process->thread_count; i++)
		if (process->threads[i].tid == tid)
			return &process->threads[i];
	return NULL;
}

/* NULL: no memory. */
static struct thread *add_thread(struct process *process, int32_t tid)
{
	if (process->thread_count == process->thread_room) {
		unsigned room = process->thread_room ? 2 * process->thread_room : 16;
		struct thread *more = realloc(process->threads, room * sizeof(*more));

		if (!more)
			return NULL;
		process->threads = more;
		process->thread_room = room;
	}
	process->threads[process->thread_count] = (struct thread){.tid = tid};
	return &process->threads[process->thread_count++];
}

/* They are told, in `tids`, which has room for as many as can park; how many. */
static unsigned forget_threads(struct process *process, int32_t *tids)
{
	unsigned count = 0;

	for (unsigned i = 0; i < process->thread_count; i++) {
		free(process->threads[i].pending);
		if (count < CONTROL_THREADS)
			tids[count++] = process->threads[i].tid;
	}
	process->thread_count = 0;
	return count;
}

/* 0, or why the thread cannot be asked. -ESRCH: it has ended. */
static int ask_thread(const struct stop *stop, const struct thread *thread)
{
	pid_t pid = stop->process->remote.pid;

	if (!syscall(SYS_tgkill, pid, thread->tid, CONTROL_SIGNAL) ||
	    errno == EAGAIN) /* too many signals are queued: the next round */
		return 0;
	return -errno;
}

/* One that was asked in a round before this one, and has not parked. */
static int look_at_thread(struct stop *stop, struct thread *thread)
{
	char state = task_state(stop, thread->tid);

	if (!state || state == 'Z' || state == 'X') {
		/* Of others nothing is left when they have ended. */
		stop->zombies += thread->tid == stop->process->remote.pid;
		return 0;
	}
	stop->missing++;
	stop->missing_tid = thread->tid;
	if (state == 'T')
		return -EAGAIN;
	if (clock_monotonic_ns() - stop->began_ns < SUSPICION_NS ||
	    task_signal(stop, thread->tid, "SigPnd:"))
		return 0;
	ask_thread(stop, thread); /* one that has ended meanwhile is not listed any more */
	return 0;
}

/* One that is new in this stop. */
static int ask_new(struct stop *stop, int32_t tid)
{
	struct thread *thread = add_thread(stop->process, tid);
	int result;

	if (!thread)
		return -ENOMEM;
	read_call(stop, thread);
	interrupted_sample(stop->process, thread);
	result = ask_thread(stop, thread);
	if (result == -ESRCH) {
		stop->process->thread_count--;
		return 0;
	}
	stop->asked++;
	return result;
}

/* A name in the directory. */
static int hear_of(struct stop *stop, const char *name)
{
	int32_t tid = (int32_t)strtol(name, NULL, 10);
	struct thread *thread;

	if (tid <= 0)
		return 0;
	stop->listed++;
	thread = find_thread(stop->process, tid);
	if (!thread)
		return ask_new(stop, tid);
	if (!thread->context)
		return look_at_thread(stop, thread);
	stop->parked++;
	return 0;
}

static void begin_round(struct stop *stop)
{
	stop->listed = stop->parked = stop->zombies = stop->asked = stop->missing = 0;
}

/* List the threads, and ask those who are new. */
static int ask_all(struct stop *stop)
{
	char names[32 << 10] __attribute__((aligned(8)));
	long bytes = 0;
	int result = 0;

	begin_round(stop);
	if (lseek(stop->tasks, 0, SEEK_SET))
		return -errno;
	while (!result && (bytes = syscall(SYS_getdents64, stop->tasks, names, sizeof(names))) > 0)
		for (long at = 0; at < bytes && !result;) {
			const struct dirent64 *entry = (const struct dirent64 *)(names + at);

			at += entry->d_reclen;
			result = hear_of(stop, entry->d_name);
		}
	return bytes < 0 ? -errno : result;
}

/*
 * Those who were there in the last stop are mostly all there are: they are asked without a look at the directory. The
 * main thread comes last: it is the one that has most to do.
 */
static int ask_known(struct stop *stop, const int32_t *tids, unsigned count)
{
	int result = 0;

	begin_round(stop);
	for (unsigned i = count; i-- && !result;)
		result = ask_new(stop, tids[i]);
	return result;
}

/* Is there no thread but those that are parked? Then nobody can make another one. */
static bool all_are_parked(struct stop *stop)
{
	struct process *process = stop->process;
	struct stat tasks;
	unsigned parked = 0;

	for (unsigned i = 0; i < process->thread_count; i++)
		parked += process->threads[i].context != 0;
	return parked && !fstat(stop->tasks, &tasks) && tasks.st_nlink == parked + 2u;
}

/* How many mailboxes are in use, in this stop or the last one. */
static unsigned places_taken(const struct control *control)
{
	uint64_t places = __atomic_load_n(&control->places, __ATOMIC_SEQ_CST);
	uint32_t taken = (uint32_t)(places & ~PLACES_CLOSED);

	return taken < CONTROL_THREADS ? taken : CONTROL_THREADS;
}

/* Who has parked, and where. */
static void find_parked(struct process *process)
{
	struct control *control = process->remote.control;
	unsigned taken = places_taken(control);

	for (unsigned i = 0; i < taken; i++) {
		const struct mailbox *mailbox = &control->mailboxes[i];
		struct thread *thread;

		if (__atomic_load_n(&mailbox->state, __ATOMIC_SEQ_CST) != MAILBOX_PARKED)
			continue;
		thread = find_thread(process, mailbox->tid);
		if (thread) {
			thread->mailbox = i;
			thread->context = mailbox->context;
		}
	}
}

/*
 * Until all that were asked have parked, for one round at most. To be woken takes longer than most threads need; whoever
 * runs on this processor comes first meanwhile.
 */
static void await_parked(struct stop *stop)
{
	struct control *control = stop->process->remote.control;
	uint32_t awaited = stop->parked + stop->asked + stop->missing, parked;
	uint64_t now = clock_monotonic_ns(), until = now + ROUND_NS, yielding = now + YIELD_NS;

	__atomic_store_n(&control->awaited, UINT32_MAX, __ATOMIC_SEQ_CST);
	while (__atomic_load_n(&control->parked, __ATOMIC_SEQ_CST) < awaited &&
	       clock_monotonic_ns() < yielding)
		sched_yield();
	__atomic_store_n(&control->awaited, awaited, __ATOMIC_SEQ_CST);
	while ((parked = __atomic_load_n(&control->parked, __ATOMIC_SEQ_CST)) < awaited &&
	       (now = clock_monotonic_ns()) < until)
		remote_futex_wait(&control->parked, parked, until - now);
}

/* ---- The stop */

/*
 * Is it still the program that is known? While it is replaced (stub/execute.c) there is no handler for a moment; a program
 * that the stub does not start in never has one (`lacks_stub`).
 */
static int check_program(const struct stop *stop, bool lacks_stub, struct thaw_error *error)
{
	struct process *process = stop->process;
	struct control *control = process->remote.control;
	char path[32], name[256] = "another program";
	ssize_t got;

	if (!__atomic_load_n(&control->executing, __ATOMIC_SEQ_CST))
		process->executing_ns = 0;
	else if (!process->executing_ns)
		process->executing_ns = stop->began_ns;
	if (!lacks_stub && !process->executing_ns &&
	    __atomic_load_n(&control->executions, __ATOMIC_SEQ_CST) == process->executions)
		return 0;
	if (process->executing_ns && stop->began_ns - process->executing_ns < EXECUTION_NS)
		return failure(error, -EAGAIN,
			       "the program (process %d) is becoming another one just now",
			       (int)process->remote.pid);
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)process->remote.pid);
	got = readlink(path, name, sizeof(name) - 1);
	if (got > 0)
		name[got] = '\0';
	return failure(error, PROCESS_EREFUSED,
		       "the program (process %d) has become %s by execve(2), which Thaw is not in: "
		       "start that one with thaw exec",
		       (int)process->remote.pid, name);
}

/* Before anything is sent: would the signal find the stub, and would it be taken? */
static int check_process(const struct stop *stop, struct thaw_error *error)
{
	struct pollfd gone = {.fd = stop->process->remote.pidfd, .events = POLLIN};
	pid_t pid = stop->process->remote.pid;
	struct stat tasks;
	int code;
	const char *status = proc_files_known(&stop->process->files, PROC_STATUS, NULL, &code);
	const char *line = status ? strstr(status, "\nState:\t") : NULL;
	char state = line ? line[8] : 0;

	if (state == 'T')
		return failure(
			error, -EAGAIN,
			"the program (process %d) is stopped by a signal (SIGSTOP, or Ctrl-Z): "
			"the next generation is taken when it goes on",
			(int)pid);
	/* The kernel shows no memory under the number of a process whose main thread is gone. */
	if (state == 'Z' && poll(&gone, 1, EXIT_MS))
		return failure(error, -ESRCH, "the program has ended");
	if (state == 'Z')
		return failure(
			error, PROCESS_EREFUSED,
			"the main thread of the program (process %d) has ended (pthread_exit), "
			"and others go on: no generation can be taken of that",
			(int)pid);
	/* One directory for each thread. */
	if (!fstat(stop->tasks, &tasks) && tasks.st_nlink > CONTROL_THREADS + 2)
		return failure(
			error, PROCESS_EREFUSED,
			"the program (process %d) has %u threads, and can be in an image with %u "
			"at most",
			(int)pid, (unsigned)tasks.st_nlink - 2, CONTROL_THREADS);
	return check_program(stop, state && !has_signal(status, "SigCgt:"), error);
}

/*
 * The threads of the stop before have all left their mailboxes, and will not write there again: also one that had taken
 * its own and had not parked yet when everybody was told to go on.
 */
static bool all_left(struct control *control)
{
	for (unsigned i = 0, taken = places_taken(control); i < taken; i++)
		if (__atomic_load_n(&control->mailboxes[i].state, __ATOMIC_SEQ_CST) != MAILBOX_LEFT)
			return false;
	return true;
}

static int await_left(const struct stop *stop)
{
	struct control *control = stop->process->remote.control;

	__atomic_store_n(&control->awaited, UINT32_MAX, __ATOMIC_SEQ_CST);
	while (!all_left(control)) {
		uint32_t parked = __atomic_load_n(&control->parked, __ATOMIC_SEQ_CST);

		/* The last one wakes us; without any, somebody is between two instructions. */
		remote_futex_wait(&control->parked, parked, parked ? ROUND_NS : LEAVING_NS);
		if (!remote_alive(&stop->process->remote))
			return -ESRCH;
		if (clock_monotonic_ns() - stop->began_ns > PATIENCE_NS)
			return -ETIMEDOUT;
	}
	return 0;
}

/* Nobody has a mailbox. */
static void open_places(struct control *control)
{
	uint64_t number = (__atomic_load_n(&control->places, __ATOMIC_SEQ_CST) >> 32) + 1;

	for (unsigned i = 0, taken = places_taken(control); i < taken; i++)
		__atomic_store_n(&control->mailboxes[i].state, MAILBOX_FREE, __ATOMIC_SEQ_CST);
	__atomic_store_n(&control->places, number << 32, __ATOMIC_SEQ_CST);
}

/* System calls that threads wait in for long, and that no signal ends. */
static const char *call_name(long long number)
{
	static const struct {
		long number;
		const char *name;
	} names[] = {
#ifdef SYS_vfork
		{SYS_vfork, "vfork"},
#endif
#ifdef SYS_open
		{SYS_open, "open"},
#endif
		{SYS_clone, "clone"},	     {SYS_clone3, "clone3"},
		{SYS_read, "read"},	     {SYS_write, "write"},
		{SYS_openat, "openat"},	     {SYS_close, "close"},
		{SYS_fsync, "fsync"},	     {SYS_fdatasync, "fdatasync"},
		{SYS_sync, "sync"},	     {SYS_msync, "msync"},
		{SYS_pread64, "pread64"},    {SYS_pwrite64, "pwrite64"},
		{SYS_unlinkat, "unlinkat"},  {SYS_renameat2, "renameat2"},
		{SYS_ioctl, "ioctl"},	     {SYS_mmap, "mmap"},
		{SYS_fallocate, "fallocate"}};

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
		if (names[i].number == number)
			return names[i].name;
	return NULL;
}

/* Why nobody waits for that thread any longer. */
static int describe_missing(const struct stop *stop, struct thaw_error *error)
{
	int32_t tid = stop->missing_tid;
	char name[32] = "", text[256] = "", what[64] = "", *end = NULL;
	char state = task_state(stop, tid);
	long long call;

	if (read_task(stop, tid, "comm", name, sizeof(name)) > 0)
		name[strcspn(name, "\n")] = '\0';
	read_task(stop, tid, "syscall", text, sizeof(text));
	call = strtoll(text, &end, 10);
	if (end == text || call < 0)
		snprintf(what, sizeof(what), "is in no system call that is known");
	else if (call_name(call))
		snprintf(what, sizeof(what), "is in %s(2)", call_name(call));
	else
		snprintf(what, sizeof(what), "is in system call %lld", call);
	return failure(error, -ETIMEDOUT,
		       "thread %d (%s) of the program does not stop within %d seconds: it %s%s",
		       (int)tid, name, (int)(PATIENCE_NS / 1000000000), what,
		       state == 'D' ? ", which no signal interrupts" : "");
}

static void note_missing(const struct stop *stop, const struct thaw_error *error)
{
	struct process *process = stop->process;
	uint64_t now = clock_monotonic_ns();

	process->stop_again_ns = now + PAUSE_FACTOR * (now - stop->began_ns);
	snprintf(process->stop_text, sizeof(process->stop_text), "%s", error ? error->text : "");
}

static int stop_rounds(struct stop *stop, const int32_t *known, unsigned count,
		       struct thaw_error *error)
{
	unsigned clean = 0;
	int result = count ? ask_known(stop, known, count) : ask_all(stop);

	for (;;) {
		if (result == -EAGAIN)
			return failure(
				error, result,
				"the program (process %d) is stopped by a signal (SIGSTOP, or "
				"Ctrl-Z): the next generation is taken when it goes on",
				(int)stop->process->remote.pid);
		if (result)
			return failure(error, result,
				       "threads of the program cannot be stopped: %s",
				       strerror(-result));
		if (stop->zombies) {
			proc_files_stale(
				&stop->process->files); /* it ended since it was looked at */
			return check_process(stop, error);
		}
		clean = stop->asked || stop->missing ? 0 : clean + 1;
		if (!clean) {
			await_parked(stop);
			find_parked(stop->process);
		}
		if (clean == 2 || all_are_parked(stop))
			return 0;
		if (!remote_alive(&stop->process->remote))
			return failure(error, -ESRCH, "the program has ended");
		if (stop->missing && clock_monotonic_ns() - stop->began_ns > PATIENCE_NS)
			return describe_missing(stop, error);
		result = ask_all(stop);
	}
}

/* The main thread first; those that have ended, or never park, are none. */
static void sort_threads(struct process *process)
{
	unsigned kept = 0;

	for (unsigned i = 0; i < process->thread_count; i++)
		if (process->threads[i].context)
			process->threads[kept++] = process->threads[i];
	process->thread_count = kept;
	for (unsigned i = 1; i < kept; i++)
		if (process->threads[i].tid == process->remote.pid) {
			struct thread main = process->threads[i];

			process->threads[i] = process->threads[0];
			process->threads[0] = main;
		}
}

int process_stop(struct process *process, struct thaw_error *error)
{
	struct control *control = process->remote.control;
	struct stop stop = {.process = process, .began_ns = clock_monotonic_ns()};
	int32_t known[CONTROL_THREADS];
	unsigned count;
	int result;

	if (process->stopped)
		return 0;
	if (stop.began_ns < process->stop_again_ns)
		return failure(error, -ETIMEDOUT, "%s", process->stop_text);
	process->stop_again_ns = 0;
	proc_files_of(&process->files, process->remote.pid);
	stop.tasks = proc_files_tasks(&process->files);
	if (stop.tasks < 0)
		return failure(error, stop.tasks == -ENOENT ? -ESRCH : stop.tasks,
			       "/proc/%d/task: %s", (int)process->remote.pid,
			       strerror(-stop.tasks));
	result = check_process(&stop, error);
	if (!result && (result = await_left(&stop)))
		failure(error, result,
			"threads of the program have not gone on since the last stop: %s",
			strerror(-result));
	if (result) {
		proc_files_stale(&process->files);
		return result;
	}
	count = forget_threads(process, known);
	open_places(control);
	process->stopped = true;
	result = stop_rounds(&stop, known, count, error);
	proc_files_stale(&process->files);
	if (result == -ETIMEDOUT)
		note_missing(&stop, error);
	if (!result) /* has it become another one just before it parked? */
		result = check_program(&stop, false, error);
	sort_threads(process);
	if (result) {
		/* What they were in goes on, too. */
		if (result != -ESRCH && process->thread_count)
			interrupted_restart(process, NULL);
		process_continue(process);
	}
	return result;
}

void process_continue(struct process *process)
{
	struct control *control = process->remote.control;
	uint64_t places;

	if (!process->stopped)
		return;
	mappings_hide(process);
	threads_forget_asked(process);
	proc_files_stale(&process->files);
	process->continued_ns = clock_monotonic_ns();
	process->stopped = false;
	/* Nobody comes in from here on. Who has a place, and has not parked yet, sees that it is over before it waits. */
	places = __atomic_fetch_or(&control->places, PLACES_CLOSED, __ATOMIC_SEQ_CST);
	__atomic_store_n(&control->released, (uint32_t)(places >> 32), __ATOMIC_SEQ_CST);
	/* The main thread, which came last, first: it has most to do. */
	for (unsigned i = places_taken(control); i--;) {
		struct mailbox *mailbox = &control->mailboxes[i];
		uint32_t state = MAILBOX_PARKED;

		__atomic_compare_exchange_n(&mailbox->state, &state, MAILBOX_LEAVING, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		remote_futex_wake(&mailbox->state);
	}
}
