/* SPDX-License-Identifier: MIT */
/*
 * guest.c - struct guest_type of a guest that is a whole process: its life, from the start or the restore to its end.
 *
 *	prepare()  fresh: started, parked in the stub	restored: made by continue.c, parked where it was captured
 *	start(), resume()  it runs
 *	run()      it is watched: its end, signals, requests; between them generations are captured (capture.c)
 *
 * The owner's thread, but for guest_signalled() and guest_wake(). The guest prints, reads and waits by itself: nothing
 * of that passes through here. Must never outlive the process that serves its memory, which the kernel sees to
 * (PR_SET_PDEATHSIG), nor be left behind by it (settle()).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "process/guest_state.h"

extern char **environ;

/* ---- Opening and closing */

static struct guest *guest_open(struct runtime *owner, const struct guest_options *options,
				struct thaw *heap)
{
	struct process_guest *own = calloc(1, sizeof(*own));

	if (!own)
		return NULL;
	own->guest.type = &process_guest;
	own->guest.owner = owner;
	own->options = options;
	own->heap = heap;
	own->process.heap = heap;
	own->process.quiet = options->quiet;
	own->process.verbose = options->verbose;
	own->process.self_contained = options->self_contained;
	own->process.roll_back = options->roll_back;
	own->process.remote = (struct remote){
		.control_fd = -1, .pid = -1, .pidfd = -1, .socket = -1, .memory = -1};
	own->kept_userfaultfd = -1;
	own->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (own->wake_fd >= 0)
		return &own->guest;
	free(own);
	return NULL;
}

static void end_process(struct process_guest *own)
{
	if (!own->alive)
		return;
	own->alive = false;
	requests_close(&own->requests);
	syscall(__NR_pidfd_send_signal, own->process.remote.pidfd, SIGKILL, NULL, 0);
	thaw_process_detach(own->heap);
}

/* Nothing is told any more: what still runs ends before the service of its memory does. */
static void guest_settle(struct guest *guest)
{
	end_process(process_of(guest));
}

static void guest_close(struct guest *guest)
{
	struct process_guest *own = process_of(guest);

	own->alive = false; /* the heap may be gone */
	requests_close(&own->requests);
	process_close(&own->process);
	output_close(own->output);
	mappings_forget(&own->process);
	interrupted_forget(&own->process);
	process_state_free(&own->state);
	free(own->captured);
	close(own->wake_fd);
	free(own);
}

/* ---- The command */

/* As it would be typed, more or less: for people. malloc'ed; NULL: no memory. */
static char *command_text(char *const *arguments, int count)
{
	size_t bytes = 1;
	char *text;

	for (int i = 0; i < count; i++)
		bytes += strlen(arguments[i]) + 1;
	text = calloc(1, bytes);
	for (int i = 0; text && i < count; i++) {
		strcat(text, arguments[i]);
		if (i + 1 < count)
			strcat(text, " ");
	}
	return text;
}

static bool same_command(const struct process_guest *own)
{
	const struct guest_options *options = own->options;

	if (!options->argument_count) /* whatever the image holds */
		return true;
	if (options->argument_count != own->state.argument_count)
		return false;
	for (int i = 0; i < options->argument_count; i++)
		if (strcmp(options->arguments[i], own->state.arguments[i]))
			return false;
	return true;
}

static int refuse_command(const struct process_guest *own, struct thaw_error *error)
{
	const struct guest_options *options = own->options;
	char *theirs = command_text(own->state.arguments, own->state.argument_count);
	char *ours = command_text(options->arguments, options->argument_count);

	failure(error, THAW_EENGINE,
		"%s holds another command: '%.120s', not '%.120s': --fresh starts this one in its place, --image names another",
		options->image, theirs ? theirs : "?", ours ? ours : "?");
	free(theirs);
	free(ours);
	return THAW_EENGINE;
}

static int take_command(struct process_guest *own)
{
	const struct guest_options *options = own->options;
	char **copy = calloc((size_t)options->argument_count + 1, sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	own->state.arguments = copy;
	for (int i = 0; i < options->argument_count; i++) {
		copy[i] = strdup(options->arguments[i]);
		if (!copy[i])
			return -ENOMEM;
		own->state.argument_count++;
	}
	return 0;
}

/* ---- Restoring and starting */

static int guest_restore(struct guest *guest, const void *state, size_t bytes,
			 struct thaw_error *error)
{
	struct process_guest *own = process_of(guest);
	int code;

	code = process_state_decode(&own->state, state, bytes, error);
	if (code)
		return code;
	if (!same_command(own))
		return refuse_command(own, error);
	guest->common.finished = own->state.finished;
	guest->common.exit_code = own->state.exit_code;
	guest->common.restores = own->state.restores;
	memcpy(guest->common.branch, own->state.branch, GUEST_BRANCH_BYTES);
	memcpy(guest->common.home, own->state.branch + 2, GUEST_BRANCH_BYTES);
	return 0;
}

/* Started, and parked before anything of it has run. */
static int spawn(struct process_guest *own, struct thaw_error *error)
{
	char **resolved = NULL, *path = NULL;
	int code;

	if (!own->options->argument_count)
		return failure(error, -EINVAL,
			       "%s holds no program: name the command that it shall hold",
			       own->options->image);
	if (take_command(own))
		return failure(error, -ENOMEM, "out of memory");
	code = program_command(own->state.arguments, &path, &resolved, error);
	if (!code)
		code = process_spawn(&own->process, resolved, environ, error);
	program_arguments_free(resolved);
	free(path);
	if (code) /* a program that cannot be run so is beyond what there is, as what a kernel lacks */
		return code == PROCESS_EREFUSED ? THAW_EKERNEL : code;
	own->alive = true;
	code = guest_attach(own, NULL, 0, error);
	return code ? code : guest_output_begin(own, error);
}

static int guest_prepare(struct guest *guest, struct thaw_error *error)
{
	struct process_guest *own = process_of(guest);

	if (guest->common.finished) /* killed before its readers had it all, perhaps */
		return own->state.output ? output_saved_write(own->state.output) : 0;
	return own->state.argument_count ? guest_continue(own, error) : spawn(own, error);
}

static int guest_load(struct guest *guest, struct thaw_error *error)
{
	(void)guest, (void)error;
	return 0;
}

/*
 * It has become another program (execve), whose stub waits for us: all memory is new, as that of a fresh one. If that
 * fails the program goes on, and each checkpoint says why it cannot be captured.
 */
static int executed(void *arg)
{
	struct process_guest *own = arg;
	struct thaw_error error = {0};
	int code;

	if (thaw_checkpoint_wait(own->heap) == THAW_READY)
		thaw_checkpoint_abandon(own->heap, -EAGAIN, "the program became another one");
	thaw_process_detach(own->heap);
	mappings_forget(&own->process);
	identity_free(own->state.identity);
	own->state.identity = NULL;
	free(own->captured);
	own->captured = NULL;
	holds_forget(own);
	owner_branches(own->guest.owner);
	if (own->output)
		output_executed(own->output);
	code = process_executed(&own->process, &error);
	if (!code)
		code = process_stop(&own->process, &error);
	if (!code)
		code = guest_attach(own, NULL, 0, &error);
	if (own->process.stopped)
		process_continue(&own->process);
	if (code)
		owner_tell(own->guest.owner, "thaw: it became another program: %s\n", error.text);
	return code;
}

/* It runs from here on. */
static void begin(struct process_guest *own)
{
	own->guest.turns++;
	own->guest.first_turn_ns = clock_monotonic_ns();
	own->guest.pid = own->process.remote.pid;
	own->requests.executed = executed;
	own->requests.executed_arg = own;
	requests_open(&own->requests, own->guest.owner, &own->process.remote);
	own->asked = true; /* perhaps */
}

static void guest_start(struct guest *guest)
{
	struct process_guest *own = process_of(guest);

	begin(own);
	process_continue(&own->process);
}

static void guest_go_on(struct guest *guest, uint64_t first_waiter)
{
	struct process_guest *own = process_of(guest);
	struct thaw_error error = {0};
	int code;

	(void)first_waiter;
	if (!own->alive)
		return;
	begin(own);
	code = guest_resume(own, &error);
	if (code && code != -ESRCH)				    /* it may have ended already */
		owner_tell(guest->owner, "thaw: %s\n", error.text); /* and it ends: see run() */
}

/* ---- Signals */

static void send_signal(const struct process_guest *own, int signo)
{
	if (own->process.remote.pidfd >= 0)
		syscall(__NR_pidfd_send_signal, own->process.remote.pidfd, signo, NULL, 0);
}

static void guest_wake(struct guest *guest)
{
	uint64_t one = 1;

	if (write(output_wake_fd(process_of(guest)->wake_fd), &one, sizeof(one)) < 0)
		return; /* it is awake */
}

/*
 * A key at the terminal sends its signal to the whole foreground group, of which the guest is a part: it has got it,
 * from the kernel, as we have. What a process sends is meant for the program that people see, and is passed on, but
 * for what the guest itself sends to its group. As sudo(8) and timeout(1) do.
 */
static void guest_signalled(struct guest *guest, int signo, const siginfo_t *info)
{
	struct process_guest *own = process_of(guest);
	bool passed = signo != SIGCHLD && signo != SIGCONT && info->si_code <= 0 &&
		      info->si_pid != own->process.remote.pid && own->alive;

	if (signo == SIGTERM || signo == SIGINT || signo == SIGHUP || signo == SIGQUIT)
		own->end_asked_ns = clock_monotonic_ns();
	if (passed && signo == SIGTERM && own->options->image && !own->asked_to_end &&
	    !own->job_stopped)
		own->asked_to_end = 1; /* answer_end() */
	else if (passed)
		send_signal(own, signo);
	guest_wake(guest);
}

/*
 * SIGTERM: whatever the program does then, the next start goes on as it was before. So one more generation is taken
 * first (a second SIGTERM does not wait for it), and for a while none of a program that may be closing down.
 */
#define CLOSING_NS 10000000000u

static bool is_closing(const struct process_guest *own)
{
	return own->asked_ns && clock_monotonic_ns() - own->asked_ns < CLOSING_NS;
}

void guest_pass_on_end(struct process_guest *own)
{
	if (!own->asked_to_end)
		return;
	send_signal(own, SIGTERM);
	own->asked_ns = clock_monotonic_ns();
	own->asked_to_end = 0;
}

static void answer_end(struct process_guest *own)
{
	if (!own->asked_to_end)
		return;
	if (!own->job_stopped && !is_closing(own)) {
		own->guest.turns++;
		owner_before_end(own->guest.owner);
	}
	if (own->alive)
		guest_pass_on_end(own); /* there was no generation */
	own->asked_to_end = 0;
}

/* The shell waits for us: when the guest has stopped by job control, so do we, and it goes on when we do. */
static void stop_with_guest(struct process_guest *own, int signo)
{
	int terminal = open("/dev/tty", O_RDONLY | O_NOCTTY | O_CLOEXEC);

	own->job_stopped = own->guest.stopped = true;
	if (terminal < 0)
		return; /* nobody's job */
	close(terminal);
	if (signo == SIGSTOP && getpgrp() != tcgetpgrp(STDIN_FILENO))
		return; /* somebody else's doing */
	raise(SIGSTOP);
	send_signal(own, SIGCONT);
}

/* ---- The end */

/* Its last words are wanted: it has not finished, nor was it killed, after which it goes on as if nothing had been. */
static bool has_last_words(const struct process_guest *own, const siginfo_t *how)
{
	if (how->si_code == CLD_EXITED)
		return how->si_status || own->end_asked_ns;
	return how->si_status != SIGKILL;
}

static void ended(struct process_guest *own, const siginfo_t *how)
{
	struct runtime *owner = own->guest.owner;

	own->alive = false;
	own->requests.remote = NULL;
	own->process.remote.pid = 0; /* it was waited for */
	thaw_process_detach(own->heap);
	own->guest.turns++;
	if (has_last_words(own, how))
		guest_output_failed(own);
	if (how->si_code == CLD_EXITED)
		owner_left(owner, how->si_status);
	else
		owner_killed(owner, how->si_status);
}

/* Has something happened to it? */
static void look(struct process_guest *own)
{
	siginfo_t how = {0};

	while (own->alive &&
	       !waitid(P_PIDFD, (id_t)own->process.remote.pidfd, &how,
		       WEXITED | WSTOPPED | WCONTINUED | WNOHANG) &&
	       how.si_pid) {
		if (how.si_code == CLD_STOPPED || how.si_code == CLD_TRAPPED)
			stop_with_guest(own, how.si_status);
		else if (how.si_code == CLD_CONTINUED)
			own->job_stopped = own->guest.stopped = false;
		else
			ended(own, &how);
		how = (siginfo_t){0};
	}
}

/* ---- The loop */

static void pause_until(struct process_guest *own, uint64_t due_ns)
{
	/* poll(2) passes over a negative one. */
	struct pollfd list[] = {{own->wake_fd, POLLIN, 0},
				{own->process.remote.pidfd, POLLIN, 0},
				{requests_fd(&own->requests), POLLIN, 0}};
	uint64_t now = clock_monotonic_ns(), wait = due_ns > now ? due_ns - now : 0, woken;
	struct timespec patience = {(time_t)(wait / 1000000000u), (long)(wait % 1000000000u)};

	own->asked = false;
	if (ppoll(list, 3, due_ns ? &patience : NULL, NULL) <= 0)
		return;
	own->asked = list[2].revents;
	if (list[0].revents && read(own->wake_fd, &woken, sizeof(woken)) < 0)
		return;
}

/* Before a generation that is due: where it has not run since the last, there is nothing to look at. */
static void note_work(struct process_guest *own, uint64_t due_ns)
{
	idle_look(own);
	if (!due_ns || clock_monotonic_ns() < due_ns || is_closing(own) || !idle_has_run(own))
		return;
	own->guest.turns++;
	mappings_look(&own->process);
}

/* Until when there is nothing to do but to wait; 0: for ever. */
static uint64_t next_due_ns(const struct process_guest *own)
{
	uint64_t due = owner_due_ns(own->guest.owner);
	const uint64_t others[] = {idle_due_ns(own), holds_due_ns(own)};

	if (own->job_stopped)
		return 0;
	for (size_t i = 0; i < sizeof(others) / sizeof(*others); i++)
		if (others[i] && (!due || others[i] < due))
			due = others[i];
	return due;
}

static void guest_tell_outcomes(struct guest *guest)
{
	requests_tell(&process_of(guest)->requests);
}

static bool guest_run(struct guest *guest, enum guest_until until, int fd)
{
	struct process_guest *own = process_of(guest);

	(void)until, (void)fd;
	while (!owner_stops(guest->owner)) {
		look(own);
		if (!own->alive)
			break;
		guest_output_tell(own);
		if (!own->job_stopped) { /* a stopped one cannot park, nor does it change */
			holds_look(own);
			if (own->asked || own->process.remote.request_count)
				requests_serve(&own->requests);
			note_work(own, owner_due_ns(guest->owner));
			owner_advance(guest->owner);
			guest_tell_outcomes(guest);
		}
		answer_end(own);
		if (own->alive)
			pause_until(own, next_due_ns(own));
	}
	return false;
}

/* ---- What is asked of it */

/* One that has ended meanwhile, too: run() finds out how. */
static bool guest_has_work(struct guest *guest)
{
	return process_of(guest)->alive;
}

static bool guest_unsettled(struct guest *guest)
{
	(void)guest;
	return false;
}

static const char *guest_name(const struct guest *guest)
{
	const struct process_guest *own = (const struct process_guest *)guest;

	return own->state.argument_count ? own->state.arguments[0] : own->options->script;
}

static void guest_poll(struct guest *guest)
{
	guest_wake(guest);
}

static const char *guest_trapped(struct guest *guest)
{
	(void)guest;
	return NULL;
}

static void guest_numbers(struct guest *guest, struct guest_numbers *numbers)
{
	*numbers = (struct guest_numbers){.heap_bytes = thaw_size(process_of(guest)->heap)};
}

const struct guest_type process_guest = {
	.size = sizeof(struct guest_type),
	.abi = GUEST_ABI,
	.identity = "process-1 x86-64",
	.process = true,
	.bound = true,
	.open = guest_open,
	.close = guest_close,
	.restore = guest_restore,
	.prepare = guest_prepare,
	.load = guest_load,
	.start = guest_start,
	.resume = guest_go_on,
	.run = guest_run,
	.tell_outcomes = guest_tell_outcomes,
	.has_work = guest_has_work,
	.unsettled = guest_unsettled,
	.settle = guest_settle,
	.name = guest_name,
	.save = guest_save,
	.captured = guest_captured,
	.output_settled = guest_output_settled,
	.deliver = guest_output_deliver,
	.poll_soon = guest_poll,
	.poll_next = guest_poll,
	.wake = guest_wake,
	.signalled = guest_signalled,
	.trapped = guest_trapped,
	.numbers = guest_numbers,
};
