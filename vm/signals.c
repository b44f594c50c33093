/* SPDX-License-Identifier: MIT */
/*
 * signals.c - what signals ask of a running program.
 *
 * Owns the process's handlers of SIGINT, SIGTERM, SIGHUP and SIGUSR2 while a runtime is open (one
 * per process), and ignores SIGPIPE and SIGXFSZ (a file that may not grow is an error that can be
 * told, EFBIG). loop.c looks at the flags between turns. Plain handlers
 * instead of uv_signal, because a turn may last for ever: the first SIGTERM waits for its end,
 * the second must end the process all the same, and the loop would never see it. A handler does
 * nothing but set flags, write to the loop's eventfd (uv_async_send is async-signal-safe) and
 * _exit.
 *
 * (SIGSEGV and SIGBUS are the engine's: js/engine.c.)
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <unistd.h>

#include "loop.h"

static struct runtime *
	runtime_signalled; /* whom to wake; written with the signals blocked by nobody, before and after use */
static volatile sig_atomic_t stop, interrupted, checkpoint_wanted;

static const int caught[] = {SIGINT, SIGTERM, SIGHUP, SIGUSR2};
static struct sigaction before[sizeof(caught) / sizeof(caught[0])], pipe_before, size_before;

static void on_signal(int signo)
{
	struct runtime *rt = runtime_signalled;
	int saved = errno;

	if (!rt)
		return;
	if (signo == SIGUSR2)
		checkpoint_wanted = 1;
	else if (signo == SIGINT && rt->options.interactive)
		interrupted = 1;
	else if (stop)
		_exit(128 + signo);
	else
		stop = signo;
	uv_async_send(&rt->wake);
	alarm_ring(rt);
	errno = saved;
}

void signals_open(struct runtime *rt)
{
	struct sigaction action = {.sa_handler = on_signal, .sa_flags = SA_RESTART | SA_ONSTACK};

	stop = interrupted = checkpoint_wanted = 0;
	runtime_signalled = rt;
	sigemptyset(&action.sa_mask);
	for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++) {
		sigaction(caught[i], NULL, &before[i]);
		/* nohup and background jobs of old shells: what was ignored stays ignored */
		if (before[i].sa_handler != SIG_IGN || caught[i] == SIGUSR2)
			sigaction(caught[i], &action, NULL);
	}
	action.sa_handler = SIG_IGN;
	sigaction(SIGPIPE, &action, &pipe_before);
	sigaction(SIGXFSZ, &action, &size_before);
}

void signals_close(struct runtime *rt)
{
	if (runtime_signalled != rt)
		return;
	for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		sigaction(caught[i], &before[i], NULL);
	sigaction(SIGPIPE, &pipe_before, NULL);
	sigaction(SIGXFSZ, &size_before, NULL);
	runtime_signalled = NULL;
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
