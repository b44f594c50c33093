/* SPDX-License-Identifier: MIT */
/*
 * poll_timer.c - makes a turn that lasts poll at the right moment.
 *
 * The VM polls every 10,000 loop edges or calls: mostly within a millisecond, but edges around slow
 * built-ins can take a hundred times that. So whoever has something for a turn under way (an interval
 * that ended, pages that were copied, a signal) sends the owner's thread a SIGALRM, whose handler
 * sets the VM's countdown to its end: the next edge polls. Where none comes, inside of a built-in,
 * the VM is made to poll at the instruction that it is at (poll_here()).
 *
 * Owns one POSIX timer of the process and SIGALRM while a runtime is open. The handler runs on the
 * signal stack, never on the VM's, and does nothing but what is async-signal-safe. Its store is lost if
 * the VM was just between loading and storing the countdown: asked for again a millisecond later.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <unistd.h>

#include "internal.h"

#define AGAIN_NS 1000000u
/* After so many alarms without a poll the VM is in something that does without. */
#define ALARMS_WITHOUT_POLL 4

#ifndef sigev_notify_thread_id /* glibc before 2.41 lacks the name */
#define sigev_notify_thread_id _sigev_un._tid
#endif

static struct runtime *awaited; /* whose turn is meant; as in signals.c */
static struct sigaction before;

static void set_timer(struct runtime *rt, uint64_t when_ns)
{
	const struct itimerspec when = {
		.it_value = {(time_t)(when_ns / 1000000000u), (long)(when_ns % 1000000000u)},
	};

	timer_settime(rt->poll_timer.timer, TIMER_ABSTIME, &when, NULL);
}

static void on_alarm(int signo, siginfo_t *info, void *context)
{
	struct runtime *rt = awaited;
	int saved = errno;

	(void)signo, (void)info;
	if (rt && rt->guest && rt->guest->in_turn) {
		rt->type->poll_soon(rt->guest);
		/* A question waits until the VM can be entered. */
		if (rt->poll_timer.expired < ALARMS_WITHOUT_POLL)
			rt->poll_timer.expired++;
		else if (rt->type->poll_here && !rt->evaluation.question)
			rt->type->poll_here(rt->guest, context);
		set_timer(rt, clock_monotonic_ns() + AGAIN_NS);
	}
	errno = saved;
}

/*
 * Where there is no timer to be had (RLIMIT_SIGPENDING, a sandbox) polls come when they come, and
 * the times that turns are stopped at are a little less exact.
 */
void poll_timer_open(struct runtime *rt)
{
	struct sigaction action = {.sa_sigaction = on_alarm,
				   .sa_flags = SA_RESTART | SA_ONSTACK | SA_SIGINFO};
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGALRM};
	sigset_t set;

	rt->poll_timer.thread = pthread_self();
	event.sigev_notify_thread_id = gettid();
	if (timer_create(CLOCK_MONOTONIC, &event, &rt->poll_timer.timer))
		return;
	rt->poll_timer.ready = true;
	awaited = rt;
	sigemptyset(&action.sa_mask);
	sigaction(SIGALRM, &action, &before);
	/* Inherited from whoever started us, a blocked signal would never come. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void poll_timer_close(struct runtime *rt)
{
	struct sigaction now;

	if (!rt->poll_timer.ready)
		return;
	timer_delete(rt->poll_timer.timer);
	rt->poll_timer.ready = false;
	if (awaited == rt) {
		awaited = NULL;
		sigaction(SIGALRM, NULL, &now);
		if (now.sa_flags & SA_SIGINFO &&
		    now.sa_sigaction == on_alarm) /* not what signals.c needs by now */
			sigaction(SIGALRM, &before, NULL);
	}
}

void poll_timer_set(struct runtime *rt, uint64_t when_ns)
{
	if (!rt->poll_timer.ready || when_ns == rt->poll_timer.at_ns)
		return;
	rt->poll_timer.at_ns = when_ns;
	set_timer(rt, when_ns);
}

void poll_timer_now(struct runtime *rt)
{
	if (rt->poll_timer.ready && rt->guest && rt->guest->in_turn)
		pthread_kill(rt->poll_timer.thread, SIGALRM);
}

void poll_timer_polled(struct runtime *rt)
{
	if (!rt->poll_timer.expired)
		return;
	rt->poll_timer.expired = 0;
	rt->poll_timer.at_ns =
		UINT64_MAX; /* the handler's own choice: the next poll_timer_set() counts */
}
