/* SPDX-License-Identifier: MIT */
/*
 * signals.c - what signals ask of a program, from the first instruction of main() to the last.
 *
 * Owns the process's handlers of SIGINT, SIGTERM, SIGHUP, SIGXCPU and SIGUSR2 (one runtime per
 * process), and ignores SIGPIPE and SIGXFSZ while a runtime is open (a file that may not grow is an
 * error that can be told, EFBIG). A guest that answers signals itself (guest.h, signalled()) gets all that
 * are sent to a program. owner.c looks at the flags between turns. Plain handlers instead of
 * uv_signal, because a turn may last for ever: the first SIGTERM waits for its end, the second must
 * end the process all the same, and the loop would never see it. A handler does nothing but set flags,
 * wake the guest up (uv_async_send and sem_post are async-signal-safe), set an alarm and _exit.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "internal.h"

/*
 * Before there is a runtime, and after, a handler only notes what came: signals_open() acts on it. A
 * start or an end that does not come to its end within a second then is not waited for: nothing of the
 * program has run yet, or all of it is durable.
 *
 * (SIGSEGV and SIGBUS are the engine's: js/engine.)
 */

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGXCPU, SIGUSR2};
#define CAUGHT (sizeof(caught) / sizeof(caught[0]))
/* Besides, for a guest that answers them itself. SIGCHLD: of the guest's own process. */
static const int passed[] = {SIGQUIT, SIGUSR1, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT, SIGCHLD};
#define PASSED (sizeof(passed) / sizeof(passed[0]))

/* Whom to wake. Written with the signals blocked by nobody, before and after use. */
static struct runtime *volatile runtime_signalled;
static volatile sig_atomic_t stop, interrupted, checkpoint_wanted, asked_to_end;
static volatile sig_atomic_t last_second; /* the alarm below is set */

static bool begun; /* the process is ours: handlers stay until its end */
static struct sigaction before[CAUGHT], passed_before[PASSED], pipe_before, size_before;
static sigset_t mask_before;

/* No runtime came, or the last one did not go away. */
static void on_last_second(int signo)
{
	(void)signo;
	_exit(128 + stop);
}

static void end_within_a_second(void)
{
	struct sigaction action = {.sa_handler = on_last_second, .sa_flags = SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, NULL);
	last_second = 1;
	alarm(1);
}

static uint32_t bit_of(int signo)
{
	return signo > 0 && signo < 32 ? 1u << signo : 0;
}

/* Is it the program's? Whoever asks a program for its end that does not get to hear of it gets what he wants. */
static bool heard(struct runtime *rt, int signo)
{
	uint32_t bit = bit_of(signo);
	bool asks = signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT;

	if (!rt->guest || !(rt->guest->hears_signals & bit) ||
	    (signo == SIGINT && rt->options.interactive))
		return false;
	return !(__atomic_fetch_or(&rt->guest->signals_come, bit, __ATOMIC_SEQ_CST) & bit) || !asks;
}

static void on_signal(int signo, siginfo_t *info, void *context)
{
	struct runtime *rt = runtime_signalled;
	int saved = errno;

	(void)context;
	if (rt && heard(rt, signo)) {
		rt->type->wake(rt->guest);
		errno = saved;
		return;
	}
	if (signo == SIGINT || signo == SIGTERM || signo == SIGHUP || signo == SIGQUIT)
		asked_to_end = 1;
	if (rt && rt->type->signalled && signo != SIGXCPU)
		rt->type->signalled(rt->guest, signo, info);
	else if (signo == SIGUSR2)
		checkpoint_wanted = 1;
	else if (signo == SIGINT && rt && rt->options.interactive)
		interrupted = 1;
	else if (signo == SIGXCPU) /* the kernel repeats it with each second of CPU time */
		stop = stop ? stop : signo;
	else if (stop && stop != SIGXCPU)
		_exit(128 + signo);
	else
		stop = signo;
	if (rt) {
		streams_wake(rt);
		poll_timer_now(rt);
	}
	if (stop && (!rt || rt->starting) && !last_second)
		end_within_a_second();
	errno = saved;
}

static void catch_signals(void)
{
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < CAUGHT; i++) {
		sigaction(caught[i], NULL, &before[i]);
		/* nohup and background jobs of old shells: what was ignored stays ignored */
		if (before[i].sa_handler != SIG_IGN || caught[i] == SIGUSR2)
			sigaction(caught[i], &action, NULL);
	}
}

static void catch_passed(void)
{
	struct sigaction action = {.sa_sigaction = on_signal,
				   .sa_flags = SA_SIGINFO | SA_RESTART | SA_ONSTACK};

	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < PASSED; i++)
		sigaction(passed[i], &action, &passed_before[i]);
}

void signals_hold(void)
{
	sigset_t set;

	sigemptyset(&set);
	for (unsigned i = 0; i < CAUGHT; i++)
		sigaddset(&set, caught[i]);
	sigprocmask(SIG_BLOCK, &set, &mask_before);
}

void signals_begin(bool program)
{
	if (program) {
		catch_signals();
		begun = true;
	}
	sigprocmask(SIG_SETMASK, &mask_before, NULL);
}

void signals_open(struct runtime *rt)
{
	struct sigaction action = {.sa_handler = SIG_IGN};

	if (!begun) {
		stop = interrupted = checkpoint_wanted = 0;
		catch_signals();
	}
	runtime_signalled = rt;
	if (last_second) { /* it has come in time */
		alarm(0);
		signal(SIGALRM, SIG_DFL);
		last_second = 0;
	}
	sigemptyset(&action.sa_mask);
	sigaction(SIGPIPE, &action, &pipe_before);
	sigaction(SIGXFSZ, &action, &size_before);
	if (rt->type->signalled)
		catch_passed();
}

void signals_close(struct runtime *rt)
{
	if (runtime_signalled != rt)
		return;
	for (int signo = 1; signo < 32 && rt->guest; signo++)
		owner_hear(rt, signo, false);
	runtime_signalled = NULL;
	for (unsigned i = 0; i < CAUGHT && !begun; i++)
		sigaction(caught[i], &before[i], NULL);
	for (unsigned i = 0; i < PASSED && rt->type->signalled; i++)
		sigaction(passed[i], &passed_before[i], NULL);
	sigaction(SIGPIPE, &pipe_before, NULL);
	sigaction(SIGXFSZ, &size_before, NULL);
}

static bool always_caught(int signo)
{
	for (unsigned i = 0; i < CAUGHT; i++)
		if (caught[i] == signo)
			return true;
	return false;
}

void owner_hear(struct runtime *rt, int signo, bool hear)
{
	struct sigaction action = {.sa_flags = SA_RESTART | SA_ONSTACK};
	uint32_t bit = bit_of(signo);

	if (!bit || !rt->guest || hear == !!(rt->guest->hears_signals & bit))
		return;
	if (!hear)
		rt->guest->hears_signals &= ~bit;
	else
		rt->guest->hears_signals |= bit;
	sigemptyset(&action.sa_mask);
	if (hear) { /* also where it was ignored */
		action.sa_sigaction = on_signal;
		action.sa_flags |= SA_SIGINFO;
	} else if (always_caught(signo)) {
		return;
	} else {
		action.sa_handler = SIG_DFL;
	}
	sigaction(signo, &action, NULL);
}

int owner_take_signal(struct runtime *rt)
{
	uint32_t come = rt->guest->signals_come & rt->guest->hears_signals;
	int signo = come ? __builtin_ctz(come) : 0;

	if (signo)
		__atomic_fetch_and(&rt->guest->signals_come, ~bit_of(signo), __ATOMIC_SEQ_CST);
	return signo;
}

bool runtime_asked_to_end(void)
{
	return asked_to_end;
}

int signals_stop(void)
{
	return stop;
}

bool signals_interrupted(void)
{
	return interrupted;
}

bool signals_take_interrupt(void)
{
	bool taken = interrupted;

	interrupted = 0;
	return taken;
}

bool signals_take_checkpoint(void)
{
	bool taken = checkpoint_wanted;

	checkpoint_wanted = 0;
	return taken;
}
