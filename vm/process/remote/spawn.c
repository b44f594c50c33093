// SPDX-License-Identifier: MIT
/*
 * spawn.c - making a guest: a program with the stub in it, or the restorer that becomes one; and its end.
 *
 * The child is this process's, and killed when the thread that made it ends (PR_SET_PDEATHSIG). It starts with the
 * signal mask and the ignored signals that this process was started with. Both programs come out of this binary and
 * are handed over as descriptors: no file has to be installed.
 */
#define _GNU_SOURCE /* execvpe(), memfd_create() */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "process/process.h"
#include "process/stub/embedded.h"

/* A program that has not come to its stub after so long has none. */
#define START_SECONDS 60
#define NUMBER_ROOM "0000"
/* How long a process id that is wanted may still be another's. */
#define TAKEN_MS 50
/* ... and that of one that has ended: some have a parent (process 1 of a container) that does not ask for seconds. */
#define ZOMBIE_MS 10

static sigset_t mask_at_start;
static bool ignored_at_start[65];
static struct rlimit limit_at_start; /* of descriptors, which this process raises for itself */

/* What a program that is started in place of this one would have. */
__attribute__((constructor)) static void remember_signals(void)
{
	struct sigaction action;

	sigprocmask(SIG_BLOCK, NULL, &mask_at_start);
	getrlimit(RLIMIT_NOFILE, &limit_at_start);
	for (int i = 1; i <= 64; i++)
		ignored_at_start[i] = !sigaction(i, NULL, &action) && action.sa_handler == SIG_IGN;
}

/* ---- In the child: nothing that takes a lock, because other threads of this process may have had it */

static void child_signals(void)
{
	struct sigaction action = {0};

	for (int i = 1; i <= 64; i++) {
		action.sa_handler = ignored_at_start[i] ? SIG_IGN : SIG_DFL;
		sigaction(i, &action, NULL);
	}
	sigprocmask(SIG_SETMASK, &mask_at_start, NULL);
}

/* The highest number below CONTROL_FD_END, and the limit, that is not in use. It stays open across execve(2). */
static int child_move(int fd)
{
	int number = CONTROL_FD_END;

	if (limit_at_start.rlim_cur < CONTROL_FD_END)
		number = (int)limit_at_start.rlim_cur;
	while (--number > 2)
		if (fcntl(number, F_GETFD) < 0 && errno == EBADF)
			return dup3(fd, number, 0);
	errno = EMFILE;
	return -1;
}

/* In place of the zeros at the text's beginning. */
static void child_write_number(char *text, int number)
{
	for (int i = (int)strlen(NUMBER_ROOM) - 1; i >= 0; i--) {
		text[i] = (char)('0' + number % 10);
		number /= 10;
	}
}

/* Of all that this process has, the restorer inherits the standard streams. */
static void child_close_all(void)
{
	struct rlimit limit = {.rlim_cur = CONTROL_FD_END};

	if (!syscall(SYS_close_range, 3u, ~0u, CLOSE_RANGE_CLOEXEC))
		return;
	getrlimit(RLIMIT_NOFILE, &limit); /* before Linux 5.11 */
	for (int fd = 3; fd < (int)limit.rlim_cur && fd < 1 << 20; fd++)
		fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static void child_dies_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(70);
}

__attribute__((noreturn)) static void child_failed(int status)
{
	int code = errno;

	while (write(status, &code, sizeof(code)) < 0 && errno == EINTR)
		;
	_exit(127);
}

/* ---- In the supervisor */

struct launch {
	struct process *process;
	const char *what; /* the program's name, for people */
	int program;	  /* memfd of the stub or the restorer */
	int socket;	  /* the guest's end */
	int status[2];	  /* the child says why it cannot start */
	pid_t parent;
};

static void launch_close(struct launch *launch)
{
	int *fds[] = {&launch->program, &launch->socket, &launch->status[0], &launch->status[1]};

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) {
		if (*fds[i] >= 0)
			close(*fds[i]);
		*fds[i] = -1;
	}
}

static int launch_prepare(struct launch *launch, struct process *process, const char *what,
			  bool restorer, struct thaw_error *error)
{
	int result;

	*launch = (struct launch){.process = process,
				  .what = what,
				  .program = -1,
				  .socket = -1,
				  .status = {-1, -1},
				  .parent = getpid()};
	if (!process_stub_bytes)
		return failure(error, THAW_EKERNEL,
			       "%s: programs can be continued on x86-64 only, not on this machine",
			       what);
	result = remote_create(&process->remote, &launch->socket, error);
	if (result)
		return result;
	launch->program =
		restorer ? remote_memfd("thaw-restorer", process_restorer, process_restorer_bytes)
			 : remote_memfd("thaw-stub", process_stub, process_stub_bytes);
	if (launch->program < 0 || pipe2(launch->status, O_CLOEXEC)) {
		result = failure(error, -errno, "%s: cannot be started: %s", what, strerror(errno));
		launch_close(launch);
		remote_close(&process->remote);
	}
	return result;
}

/* What its end was, in words. */
static void describe_end(pid_t pid, char *text, size_t room)
{
	int status = 0;

	if (waitpid(pid, &status, 0) != pid)
		snprintf(text, room, "it is gone");
	else if (WIFEXITED(status))
		snprintf(text, room, "it ended with exit code %d", WEXITSTATUS(status));
	else
		snprintf(text, room, "signal %d (%s) ended it", WTERMSIG(status),
			 strsignal(WTERMSIG(status)));
}

/* The child that could not start, or must not go on. Returns `code`. */
static int launch_give_up(struct launch *launch, int code)
{
	launch_close(launch);
	process_close(launch->process);
	return code;
}

/* Has it been executed, and has the stub (or restorer) begun, with its thread parked? */
static int launch_wait(struct launch *launch, struct thaw_error *error)
{
	struct remote *remote = &launch->process->remote;
	struct control *control = remote->control;
	uint64_t until = clock_monotonic_ns() + START_SECONDS * 1000000000ull;
	const uint32_t *parked = &control->mailboxes[0].state;
	uint32_t started, state;
	char end[128];
	ssize_t got;
	int code;

	close(launch->status[1]);
	launch->status[1] = -1;
	do
		got = read(launch->status[0], &code, sizeof(code));
	while (got < 0 && errno == EINTR);
	if (got == sizeof(code))
		return failure(error, -code, "%s: cannot be started: %s", launch->what,
			       strerror(code));
	while (!(started = __atomic_load_n(&control->started, __ATOMIC_SEQ_CST)) ||
	       (state = __atomic_load_n(parked, __ATOMIC_SEQ_CST)) != MAILBOX_PARKED) {
		if (started == 2)
			return failure(error, control->start_error,
				       "%s: the stub cannot start in it: %s: %s", launch->what,
				       control->start_text, strerror(-control->start_error));
		if (!remote_alive(remote)) {
			describe_end(remote->pid, end, sizeof(end));
			remote->pid = 0;
			return failure(error, -ESRCH, "%s: %s before the stub had started in it",
				       launch->what, end);
		}
		if (clock_monotonic_ns() > until)
			return failure(error, -ETIMEDOUT,
				       "%s: the stub has not started in it after %d seconds: is it "
				       "a program that loads no preloaded library?",
				       launch->what, START_SECONDS);
		if (started)
			remote_futex_wait(parked, state, 10000000);
		else
			remote_futex_wait(&control->started, 0, 10000000);
	}
	return 0;
}

/* The child runs: until it is parked, when it is the process's one thread. */
static int launch_finish(struct launch *launch, pid_t pid, struct thaw_error *error)
{
	struct process *process = launch->process;
	int pidfd, result;

	if (pid < 0) {
		result = failure(error, -errno, "%s: no process can be made: %s", launch->what,
				 strerror(errno));
		launch_close(launch);
		remote_close(&process->remote);
		return result;
	}
	process->remote.pid = pid;
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	process->remote.pidfd = pidfd;
	if (pidfd < 0) {
		result = failure(error, THAW_EKERNEL,
				 "%s: pidfd_open(2) of its process: %s (Linux 5.3 has it)",
				 launch->what, strerror(errno));
		return launch_give_up(launch, result);
	}
	fcntl(pidfd, F_SETFD, FD_CLOEXEC);
	result = launch_wait(launch, error);
	if (!result)
		result = remote_attach(&process->remote, pid, pidfd, error);
	if (!result && !process->thread_room) {
		process->threads = calloc(1, sizeof(*process->threads));
		process->thread_room = process->threads ? 1 : 0;
		result = process->threads ? 0 : failure(error, -ENOMEM, "no memory");
	}
	if (result)
		return launch_give_up(launch, result);
	launch_close(launch);
	process->stub = process->remote.control->stub;
	process->threads[0] = (struct thread){
		.tid = pid, .context = process->remote.control->mailboxes[0].context, .call = -1};
	process->thread_count = 1;
	process->stopped = true;
	return 0;
}

/* ---- The program, with the stub */

/* The texts that tell the stub what it is, with room for the numbers, which are known in the child only. */
struct launch_environment {
	char **list;
	char *preload, *variable; /* malloc'ed */
};

#define PRELOAD_START "LD_PRELOAD=/proc/self/fd/"
#define VARIABLE_START "THAW_STUB="

static int launch_environment_make(struct launch_environment *made, char *const *environment)
{
	const char *users = NULL;
	size_t count = 0, at = 0;
	bool placed = false;

	*made = (struct launch_environment){0};
	for (; environment[count]; count++)
		if (!strncmp(environment[count], "LD_PRELOAD=", 11) && !users)
			users = environment[count] + 11;
	made->list = calloc(count + 3, sizeof(*made->list));
	if (!made->list ||
	    asprintf(&made->preload, PRELOAD_START NUMBER_ROOM "%s%s", users ? ":" : "",
		     users ? users : "") < 0 ||
	    asprintf(&made->variable, VARIABLE_START NUMBER_ROOM ":" NUMBER_ROOM ":" NUMBER_ROOM) <
		    0)
		return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (!strncmp(environment[i], "LD_PRELOAD=", 11)) {
			made->list[at++] = placed ? environment[i] : made->preload;
			placed = true;
		} else if (strncmp(environment[i], VARIABLE_START, strlen(VARIABLE_START))) {
			made->list[at++] = environment[i];
		}
	if (!placed)
		made->list[at++] = made->preload;
	made->list[at] = made->variable;
	return 0;
}

static void launch_environment_free(struct launch_environment *made)
{
	free(made->list);
	free(made->preload);
	free(made->variable);
}

__attribute__((noreturn)) static void launch_program(const struct launch *launch,
						     const struct launch_environment *made,
						     char *const *arguments)
{
	int control = child_move(launch->process->remote.control_fd);
	int socket = child_move(launch->socket), stub = child_move(launch->program);
	size_t step = strlen(NUMBER_ROOM) + 1;

	if (control < 0 || socket < 0 || stub < 0)
		child_failed(launch->status[1]);
	child_write_number(made->preload + strlen(PRELOAD_START), stub);
	child_write_number(made->variable + strlen(VARIABLE_START), control);
	child_write_number(made->variable + strlen(VARIABLE_START) + step, socket);
	child_write_number(made->variable + strlen(VARIABLE_START) + 2 * step, stub);
	child_signals();
	setrlimit(RLIMIT_NOFILE, &limit_at_start);
	child_dies_with(launch->parent);
	execvpe(arguments[0], arguments, made->list);
	child_failed(launch->status[1]);
}

int process_spawn(struct process *process, char *const *arguments, char *const *environment,
		  struct thaw_error *error)
{
	struct launch_environment made;
	struct launch launch;
	pid_t pid;
	int result = launch_prepare(&launch, process, arguments[0], false, error);

	if (result)
		return result;
	if (launch_environment_make(&made, environment)) {
		result = failure(error, -ENOMEM, "%s: no memory", arguments[0]);
		launch_environment_free(&made);
		launch_close(&launch);
		remote_close(&process->remote);
		return result;
	}
	/* It begins in a stop. */
	process->remote.control->places = 1ull << 32;
	pid = fork();
	if (!pid)
		launch_program(&launch, &made, arguments);
	launch_environment_free(&made);
	return launch_finish(&launch, pid, error);
}

/* ---- The restorer */

__attribute__((noreturn)) static void launch_restorer(const struct launch *launch)
{
	char control_text[] = NUMBER_ROOM, socket_text[] = NUMBER_ROOM, name[] = "thaw";
	char *const arguments[] = {name, control_text, socket_text, NULL};
	char *const environment[] = {NULL};
	int control, socket;

	child_close_all();
	control = child_move(launch->process->remote.control_fd);
	socket = child_move(launch->socket);
	if (control < 0 || socket < 0)
		child_failed(launch->status[1]);
	child_write_number(control_text, control);
	child_write_number(socket_text, socket);
	child_signals();
	child_dies_with(launch->parent);
	errno = *launch->process->clock_offsets ? -clocks_enter(launch->process->clock_offsets) : 0;
	if (errno)
		child_failed(launch->status[1]);
	syscall(SYS_execveat, launch->program, "", arguments, environment, AT_EMPTY_PATH);
	child_failed(launch->status[1]);
}

static bool is_zombie(pid_t pid)
{
	char path[32], text[512], *end;
	ssize_t got;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	got = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[got > 0 ? got : 0] = '\0';
	end = strrchr(text, ')');
	return end && end[1] == ' ' && end[2] == 'Z';
}

/*
 * A child with this pid; where that cannot be, with any. Who had it before may be a process that was killed just now, and
 * whose parent has not waited for it yet.
 */
static pid_t fork_as(pid_t wanted)
{
	struct clone_args arguments = {
		.exit_signal = SIGCHLD, .set_tid = (uintptr_t)&wanted, .set_tid_size = 1};
	struct timespec moment = {.tv_nsec = 1000000};
	long pid = -1;

	for (int i = 0, ended = 0; wanted > 0 && i < TAKEN_MS && ended < ZOMBIE_MS; i++) {
		pid = syscall(SYS_clone3, &arguments, sizeof(arguments));
		if (pid >= 0 || errno != EEXIST)
			break;
		ended += is_zombie(wanted);
		nanosleep(&moment, NULL);
	}
	return pid < 0 ? fork() : (pid_t)pid;
}

int process_spawn_restorer(struct process *process, pid_t wanted, struct thaw_error *error)
{
	struct launch launch;
	pid_t pid;
	int result = launch_prepare(&launch, process, "the restorer", true, error);

	if (result)
		return result;
	pid = fork_as(wanted);
	if (!pid)
		launch_restorer(&launch);
	return launch_finish(&launch, pid, error);
}

/* ---- It has become another program (stub/execute.c) */

int process_executed(struct process *process, struct thaw_error *error)
{
	struct remote *remote = &process->remote;

	process->stub = remote->control->stub;
	process->stop_again_ns = 0;
	process->executions = __atomic_load_n(&remote->control->executions, __ATOMIC_SEQ_CST);
	if (remote->memory >= 0)
		close(remote->memory); /* of the program before */
	return remote_attach(remote, remote->pid, remote->pidfd, error);
}

/* ---- The end */

void process_close(struct process *process)
{
	struct remote *remote = &process->remote;

	keeper_end(&process->keeper);
	if (remote->pid > 0) {
		if (remote->pidfd < 0 || remote_alive(remote))
			kill(remote->pid, SIGKILL);
		while (waitpid(remote->pid, NULL, 0) < 0 && errno == EINTR)
			;
	}
	remote_close(remote);
	proc_files_close(&process->files);
	for (unsigned i = 0; i < process->thread_count; i++)
		free(process->threads[i].pending);
	free(process->threads);
	interrupted_forget(process);
	connections_forget(process);
	free(process->thread_asked);
	free(process->kernel_asked);
	process->thread_asked = NULL;
	process->kernel_asked = NULL;
	process->threads = NULL;
	process->thread_count = process->thread_room = 0;
	process->stopped = false;
}
