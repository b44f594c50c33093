// SPDX-License-Identifier: MIT
/*
 * alarm.c - a timer whose signal makes the VM that runs in a thread poll, in a program whose signals are not ours: it takes
 * the one that is caught anyway (SIGSEGV, in which the timer of the kernel's says that it is one).
 *
 * Owns a POSIX timer for each alarm. js_alarm_set() may be called by any thread, one at a time with the others; the handler's
 * half does what is async-signal-safe, and touches no page of the heap. Where there is no timer to be had (RLIMIT_SIGPENDING),
 * or nobody who would hear it, polls come when they come.
 */
#define _GNU_SOURCE
#include <signal.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "state.h"

#ifndef sigev_notify_thread_id /* glibc before 2.41 lacks the name */
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Until what it rang for is over: it may have found the thread in a function of the C library. */
#define AGAIN_NS 5000000
/* The same while a function of the host's runs, whose system calls it interrupts. */
#define AGAIN_IN_HOST_NS 100000000

static const char ours; /* its address is what our signals carry */
static __thread pid_t this_thread;

void js_alarm_aim(struct js_alarm *alarm)
{
	struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGSEGV};

	if (!this_thread)
		this_thread = gettid();
	if (alarm->thread == this_thread)
		return;
	js_alarm_close(alarm);
	event.sigev_value.sival_ptr = (void *)&ours;
	event.sigev_notify_thread_id = this_thread;
	alarm->thread = this_thread;
	alarm->ready = !timer_create(CLOCK_MONOTONIC, &event, &alarm->timer);
}

bool js_alarm_is_aimed(const struct js_alarm *alarm)
{
	return alarm->thread && alarm->thread == this_thread;
}

/* A handler over ours that is not told where a signal comes from has nothing to hand on: it takes the timer's for a crash. */
static bool is_heard(void)
{
	struct sigaction now;

	return !sigaction(SIGSEGV, NULL, &now) && (now.sa_flags & SA_SIGINFO);
}

void js_alarm_set(struct js_alarm *alarm, uint64_t when_ns)
{
	const struct itimerspec when = {
		.it_value = {(time_t)(when_ns / 1000000000u), (long)(when_ns % 1000000000u)},
	};

	if (alarm->ready && (!when_ns || is_heard()))
		timer_settime(alarm->timer, TIMER_ABSTIME, &when, NULL);
}

void js_alarm_close(struct js_alarm *alarm)
{
	if (alarm->ready)
		timer_delete(alarm->timer);
	*alarm = (struct js_alarm){0};
}

/* Once more. The timer's number is the kernel's; one that is gone by now is another one's at worst, which then rings once in vain. */
static void again(int timer, long delay_ns)
{
	struct itimerspec when = {.it_value = {0, delay_ns}};

	syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

bool engine_alarm(const siginfo_t *info, void *context)
{
	struct js_engine *engine = engine_current();

	if (info->si_code != SI_TIMER || info->si_value.sival_ptr != (void *)&ours)
		return false;
	if (!engine || !engine->landing)
		return true; /* the call is over: it is rung off */
	again(info->si_timerid, engine->running ? AGAIN_NS : AGAIN_IN_HOST_NS);
	js_poll_here(engine, context);
	return true;
}
