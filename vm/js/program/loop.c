/* SPDX-License-Identifier: MIT */
/*
 * loop.c - the only file that runs the libuv loop: timers, completions, waiting.
 *
 * Owns the uv loop, the one uv timer behind all of the program's timers, and the program's clock. Called by the owner
 * through the guest's run(), on the owner's thread.
 *
 * The program's clock. Due times of timers must mean the same in the next process, so they are
 * milliseconds of the wall clock. But the wall clock can be set. So the program's clock is read
 * from the wall once per process and counts with the monotonic clock from there; and it never
 * starts below what the generation was captured at. A wall clock set back by a year, while the
 * program runs or between two runs, therefore delays nothing: at worst the time in between is not
 * counted.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/process_limits.h"
#include "program.h"

/* Due timers run one after the other for so long before the loop looks at anything else. */
#define SLICE_NS 2000000u
/* The loop's: epoll, two pipes for signals, an eventfd for each uv_async_t, and one to spare. */
#define LOOP_DESCRIPTORS 8u

double loop_clock(const struct program *program)
{
	return program->clock.base_ms +
	       (double)(clock_monotonic_ns() - program->clock.base_ns) / 1e6;
}

static void start_clock(struct program *program)
{
	program->clock.base_ns = clock_monotonic_ns();
	program->clock.base_ms = fmax((double)clock_wall_ns() / 1e6, program->blob.clock_ms);
}

/* ---- The loop ---- */

static void on_timer(uv_timer_t *timer);
static void on_owner_timer(uv_timer_t *timer);

static bool timer_is_due(const struct program *program)
{
	return program->events.next_due > 0 && program->events.next_due <= loop_clock(program);
}

/*
 * Several turns in a row spare the loop's system calls between them; signals and checkpoints wait
 * for one slice at most.
 */
static void run_timers(struct program *program)
{
	struct runtime *owner = program->guest.owner;
	uint64_t started = clock_monotonic_ns();

	do {
		js_value now = js_number(program->engine, loop_clock(program));

		turn_run(program, PRELUDE_RUN_ONE, 1, &now);
	} while (!owner_stops(owner) && !owner_output_full(owner) && timer_is_due(program) &&
		 clock_monotonic_ns() - started < SLICE_NS && !owner_interrupted(owner));
}

bool loop_step(struct program *program)
{
	js_value now;

	if (!timer_is_due(program))
		return false;
	now = js_number(program->engine, loop_clock(program));
	turn_run(program, PRELUDE_RUN_ONE, 1, &now);
	return true;
}

/* Wake up for what the owner has to do. Set again only when that has changed: most rounds need no call. */
static void set_owner_timer(struct program *program)
{
	struct events *events = &program->events;
	uint64_t due = owner_due_ns(program->guest.owner), now;

	if (due == events->owner_due_ns)
		return;
	events->owner_due_ns = due;
	if (!due) {
		uv_timer_stop(&events->owner_timer);
		return;
	}
	uv_update_time(&events->loop);
	now = clock_monotonic_ns();
	uv_timer_start(&events->owner_timer, on_owner_timer,
		       due > now ? (due - now + 999999) / 1000000 : 0, 0);
}

/* One round of the loop: blocks until something happens, unless a timer is due. */
static void run_round(struct program *program)
{
	if (timer_is_due(program)) {
		run_timers(program);
		uv_run(&program->events.loop, UV_RUN_NOWAIT);
		return;
	}
	if (program->events.next_due > 0) {
		uv_update_time(&program->events.loop);
		uv_timer_start(
			&program->events.timer, on_timer,
			(uint64_t)fmin(
				fmax(ceil(program->events.next_due - loop_clock(program)), 0),
				1e12),
			0); /* never negative: it may have become due since it was looked at */
	} else {
		uv_timer_stop(&program->events.timer);
	}
	set_owner_timer(program);
	uv_run(&program->events.loop, UV_RUN_ONCE);
}

/*
 * It woke the loop up: the next round finds what is due. Or it never slept: a timer that has become
 * due between its start and uv_run() is run before libuv (before 1.45) works out how long to wait,
 * and then is not there to be waited for. So there is nothing to wait for in this round.
 */
static void on_timer(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

/* It may come a little early: then it is set again. */
static void on_owner_timer(uv_timer_t *timer)
{
	((struct events *)timer->data)->owner_due_ns = 0;
	uv_stop(timer->loop);
}

static void on_wake(uv_async_t *wake)
{
	(void)wake; /* serve() looks at everything after each round */
}

int loop_open(struct program *program, struct thaw_error *error)
{
	int code;

	if (program->hosting) { /* its host waits */
		start_clock(program);
		return 0;
	}
	code = limits_want_descriptors(LOOP_DESCRIPTORS);

	if (!code)
		code = uv_loop_init(&program->events.loop);
	if (code)
		return failure(error, code, "cannot make an event loop: %s", uv_strerror(code));
	program->events.ready = true;
	code = uv_async_init(&program->events.loop, &program->events.wake, on_wake);
	if (code)
		return failure(error, code, "cannot make an event loop: %s", uv_strerror(code));
	program->events.can_be_woken = true;
	uv_timer_init(&program->events.loop, &program->events.timer);
	uv_timer_init(&program->events.loop, &program->events.owner_timer);
	program->events.owner_timer.data = &program->events;
	start_clock(program);
	return 0;
}

void loop_close(struct program *program)
{
	if (!program->events.ready)
		return;
	if (program->events.can_be_woken) {
		program->events.can_be_woken = false;
		uv_close((uv_handle_t *)&program->events.wake, NULL);
		uv_close((uv_handle_t *)&program->events.timer, NULL);
		uv_close((uv_handle_t *)&program->events.owner_timer, NULL);
	}
	uv_run(&program->events.loop, UV_RUN_NOWAIT);
	/*
	 * A thread that still reads or writes a file keeps the loop busy: it ends with the
	 * process.
	 */
	uv_loop_close(&program->events.loop);
	program->events.ready = false;
}

bool loop_has_work(struct program *program)
{
	return program->events.keeps_alive || io_holds(program) ||
	       owner_has_work(program->guest.owner) || js_jobs_pending(program->engine);
}

struct input_wait;
static bool input_ready(const struct input_wait *wait);

static bool is_reached(struct program *program, enum guest_until until,
		       const struct input_wait *wait)
{
	return (until == GUEST_UNTIL_EVALUATED &&
		evaluate_state(&program->guest) != GUEST_PENDING) ||
	       (until == GUEST_UNTIL_READABLE && input_ready(wait));
}

static bool serve(struct program *program, enum guest_until until, const struct input_wait *wait)
{
	struct runtime *owner = program->guest.owner;

	for (;;) {
		bool told;

		owner_advance(owner);
		told = turn_tell_outcomes(program);
		if (owner_stops(owner))
			return false;
		if (is_reached(program, until, wait))
			return true;
		if (owner_interrupted(owner))
			return false;
		if (owner_output_full(owner)) {
			owner_wait_output(owner);
			continue;
		}
		if (told || turn_tell_signal(program) ||
		    io_tell(program)) /* and may have asked for another checkpoint */
			continue;
		if (until != GUEST_UNTIL_READABLE && !loop_has_work(program))
			return until == GUEST_UNTIL_IDLE;
		run_round(program);
	}
}

/*
 * An epoll instance of our own stands between, because libuv makes what it polls non-blocking:
 * also for the shell, and for whoever else shares the terminal.
 */
struct input_wait {
	uv_poll_t poll;
	int epoll;
	int status; /* 0: not yet */
};

static void on_readable(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events; /* an error is readable too: read() will tell it */
	((struct input_wait *)poll->data)->status = 1;
	uv_poll_stop(poll);
}

static bool input_ready(const struct input_wait *wait)
{
	return wait->status != 0;
}

static void on_poll_closed(uv_handle_t *poll)
{
	struct input_wait *wait = poll->data;

	close(wait->epoll);
	free(wait);
}

static struct input_wait *watch_input(struct program *program, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct input_wait *wait = calloc(1, sizeof(*wait));

	if (!wait)
		return NULL;
	wait->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (wait->epoll < 0 || epoll_ctl(wait->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ||
	    uv_poll_init(&program->events.loop, &wait->poll, wait->epoll)) {
		if (wait->epoll >= 0)
			close(wait->epoll);
		free(wait);
		return NULL;
	}
	wait->poll.data = wait;
	uv_poll_start(&wait->poll, UV_READABLE, on_readable);
	return wait;
}

static bool run_until_readable(struct program *program, int fd)
{
	struct runtime *owner = program->guest.owner;
	struct input_wait *wait;
	bool readable;

	if (owner_stops(owner))
		return false;
	wait = watch_input(program, fd);
	if (!wait) { /* a regular file: always readable */
		owner_advance(owner);
		if (turn_tell_outcomes(program))
			owner_advance(owner);
		uv_run(&program->events.loop, UV_RUN_NOWAIT);
		io_tell(program);
		return !owner_stops(owner);
	}
	serve(program, GUEST_UNTIL_READABLE, wait);
	readable = input_ready(wait);
	uv_close((uv_handle_t *)&wait->poll, on_poll_closed);
	return readable;
}

bool loop_run(struct guest *guest, enum guest_until until, int fd)
{
	if (until == GUEST_UNTIL_READABLE)
		return run_until_readable(program_of(guest), fd);
	return serve(program_of(guest), until, NULL);
}

static void on_patience_ended(uv_timer_t *timer)
{
	uv_stop(timer->loop);
}

void loop_wait(struct program *program, uint64_t until_ns)
{
	uint64_t now = clock_monotonic_ns();
	uv_timer_t *timer = &program->events.timer;

	if (io_tell(program))
		return;
	uv_update_time(&program->events.loop);
	if (until_ns)
		uv_timer_start(timer, on_patience_ended,
			       until_ns > now ? (until_ns - now + 999999) / 1000000 : 0, 0);
	uv_run(&program->events.loop, UV_RUN_ONCE);
	uv_timer_stop(timer);
	io_tell(program);
}

void loop_wake(struct guest *guest)
{
	struct program *program = program_of(guest);

	if (program->events.can_be_woken)
		uv_async_send(&program->events.wake);
}
