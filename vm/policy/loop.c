/* SPDX-License-Identifier: MIT */
/*
 * loop.c - turns: the only file that runs the libuv loop, and the only way into the VM while a
 * program runs.
 *
 * Owns the uv loop, the one uv timer behind all of the program's timers, and the program's clock.
 * Owner's thread. Must never call the prelude without need: whatever runs in the VM writes its
 * pages, and an idle program shall stay clean.
 *
 * The program's clock. Due times of timers must mean the same in the next process, so they are
 * milliseconds of the wall clock. But the wall clock can be set. So the program's clock is read
 * from the wall once per process and counts with the monotonic clock from there; and it never
 * starts below what the generation was captured at. A wall clock set back by a year, while the
 * program runs or between two runs, therefore delays nothing: at worst the time in between is not
 * counted.
 *
 * What ends a program. exit(), the end of all work, a signal: the final checkpoint includes the
 * last turn. An uncaught exception or an unhandled rejection: no checkpoint is taken, and the
 * newest generation is one from before the turn that failed. If the failure was an accident (a
 * full disk, a missing file), running again repeats that turn and may now succeed; if it is a
 * bug, it repeats at every start, until an older generation is chosen (--at), or the program is
 * started anew (--fresh). That is what crash consistency means: a failed turn has never happened.
 *
 * Steps. A turn is a sequence of calls into the VM: one of the prelude (or the main module's
 * evaluation), then one per job. What comes after each stands in a function of its own (called,
 * evaluated, job_ran), because the call may have been made by another process: a generation in the
 * middle of a turn (midturn.c) names the step, and loop_turn_resume() goes on behind it.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "base/process_limits.h"
#include "loop.h"

/* Due timers run one after the other for so long before the loop looks at anything else. */
#define SLICE_NS 2000000u
/* The loop's: epoll, two pipes for signals, an eventfd for each uv_async_t, and one to spare. */
#define LOOP_DESCRIPTORS 8u
/* A terminal takes what was printed within this time, unless it was stopped. */
#define TERMINAL_NS 100000000u

double loop_clock(const struct runtime *rt)
{
	return rt->clock.base_ms + (double)(clock_monotonic_ns() - rt->clock.base_ns) / 1e6;
}

static void start_clock(struct runtime *rt)
{
	rt->clock.base_ns = clock_monotonic_ns();
	rt->clock.base_ms = fmax((double)clock_ns(CLOCK_REALTIME) / 1e6, rt->blob.clock_ms);
}

void loop_tell(struct runtime *rt, const char *format, ...)
{
	va_list arguments;
	char *text;
	int bytes;

	va_start(arguments, format);
	bytes = vasprintf(&text, format, arguments);
	va_end(arguments);
	if (bytes < 0)
		return;
	if (rt->output.streams)
		streams_tell(rt, text, (size_t)bytes);
	else
		fputs(text, stderr);
	free(text);
}

/* ---- The end ---- */

void loop_end(struct runtime *rt, int exit_code, bool final)
{
	if (rt->ending.ended)
		return;
	rt->ending.ended = true;
	rt->ending.final = final;
	rt->ending.exit_code = exit_code;
}

bool loop_trapped(struct runtime *rt)
{
	const char *reason = js_trapped(rt->engine);

	if (!reason)
		return false;
	if (rt->ending.ended &&
	    (rt->ending.exit_code == EXIT_ENGINE_TRAP || signals_stop() || rt->evaluation.asking))
		return true; /* it was said, or midturn_end() or evaluate_inside() wanted it so */
	failures_trapped(rt, reason);
	rt->ending.ended =
		false; /* whatever it was about to end with, its heap is not sound any more */
	loop_end(rt, EXIT_ENGINE_TRAP, false);
	return true;
}

bool loop_stop_requested(struct runtime *rt)
{
	int signo = signals_stop();

	if (signo)
		rt->ending.stop_signal = signo;
	streams_check(rt);
	if (rt->ending.stop_signal) /* or SIGPIPE, from streams.c */
		loop_end(rt, 128 + rt->ending.stop_signal, true);
	return rt->ending.ended;
}

/* ---- Exceptions ---- */

char *loop_describe(struct runtime *rt, js_value exception, size_t *bytes)
{
	js_value argument = js_dup(rt->engine, exception);
	js_value text = loop_ask(rt, PRELUDE_DESCRIBE, 1, &argument);
	char *copy = text ? js_to_string(rt->engine, text, bytes) : NULL;

	if (text)
		js_free(rt->engine, text);
	if (!copy) { /* no memory or no stack left to format it nicely */
		copy = js_exception_text(rt->engine, exception);
		if (bytes)
			*bytes = strlen(copy);
	}
	return copy;
}

/* One write, so that nothing comes between its lines. */
void loop_print_exception(const char *prefix, const char *text, size_t bytes)
{
	size_t before = strlen(prefix);
	bool ends = bytes && text[bytes - 1] == '\n';
	char *line = malloc(before + bytes + 1);

	fflush(stdout);
	if (!line)
		return;
	memcpy(line, prefix, before);
	memcpy(line + before, text, bytes);
	line[before + bytes] = '\n';
	fwrite(line, 1, before + bytes + !ends, stderr);
	free(line);
}

void loop_uncaught(struct runtime *rt, js_value exception, const char *prefix)
{
	char *text;

	if (!exception || loop_trapped(rt))
		return;
	if (rt->turn.exiting || rt->ending.ended ||
	    rt->ending.cut) { /* the error that unwinds the stack */
		js_free(rt->engine, exception);
		return;
	}
	text = loop_describe(rt, exception, NULL);
	js_free(rt->engine, exception);
	if (!loop_trapped(rt)) {
		loop_tell(rt, "%s%s%s", prefix, text,
			  *text && text[strlen(text) - 1] == '\n' ? "" : "\n");
		rt->evaluation.uncaught++;
		if (!rt->options.interactive &&
		    !rt->options.keep_result) { /* a shell goes on, also a piped one */
			loop_end(rt, EXIT_EXCEPTION, false);
			failures_crashed(rt, text);
		}
	}
	free(text);
}

static bool note_rejection(struct runtime *rt, struct js_rejection rejection)
{
	if (rt->turn.rejection_count == rt->turn.rejection_room) {
		unsigned room = rt->turn.rejection_room ? 2 * rt->turn.rejection_room : 16;
		struct js_rejection *more = realloc(rt->turn.rejections, room * sizeof(*more));

		if (!more)
			return false;
		rt->turn.rejections = more;
		rt->turn.rejection_room = room;
	}
	rt->turn.rejections[rt->turn.rejection_count++] = rejection;
	return true;
}

void loop_rejection(void *arg, js_value promise, js_value reason, bool handled)
{
	struct runtime *rt = arg;
	struct js_rejection rejection = {
		.promise = js_dup(rt->engine, promise),
		.reason = handled ? 0 : js_dup(rt->engine, reason),
		.handled = handled,
	};

	if (!note_rejection(rt, rejection)) {
		js_free(rt->engine, rejection.promise);
		js_free(rt->engine, rejection.reason);
	}
}

/*
 * Whoever is rejected and still without a handler when the jobs of the turn are done ends the
 * program, as in node.
 */
static void report_rejections(struct runtime *rt)
{
	struct js_engine *engine = rt->engine;
	js_value arguments[2] = {js_array(engine), js_array(engine)}, reasons, length;
	unsigned rejected = 0, handled = 0, count = rt->turn.rejection_count, reported = 0;

	rt->turn.rejection_count = 0;
	for (unsigned i = 0; i < count; i++) {
		struct js_rejection *entry = &rt->turn.rejections[i];
		js_value pair;

		if (entry->handled) {
			js_set_index(engine, arguments[1], handled++, entry->promise);
			continue;
		}
		pair = js_array(engine);
		js_set_index(engine, pair, 0, entry->promise);
		js_set_index(engine, pair, 1, entry->reason);
		js_set_index(engine, arguments[0], rejected++, pair);
	}
	reasons = loop_ask(rt, PRELUDE_UNHANDLED, 2, arguments);
	if (!reasons)
		return;
	length = js_get(engine, reasons, "length");
	reported = (unsigned)js_to_number(engine, length);
	js_free(engine, length);
	for (unsigned i = 0; i < reported && !rt->ending.ended; i++)
		loop_uncaught(rt, js_get_index(engine, reasons, i), "Uncaught (in promise) ");
	js_free(engine, reasons);
}

/* ---- Turns ---- */

/* At a poll, on the host's stack. True ends the script. */
bool loop_interrupt(void *arg)
{
	struct runtime *rt = arg;

	if (rt->turn.exiting || (rt->options.interactive && signals_interrupted()))
		return true;
	if (rt->turn.running) {
		poll_timer_polled(rt);
		checkpoints_advance_inside(rt);
		if (rt->evaluation.question)
			evaluate_inside(rt);
	}
	if (signals_stop() && midturn_end(rt))
		return true;
	return rt->turn.running && streams_full(rt) && streams_wait(rt);
}

/* What the prelude's entry function takes: the operation's number, and what it works on. */
static unsigned gather(struct runtime *rt, enum prelude_operation operation, unsigned count,
		       const js_value *arguments, js_value all[JS_TURN_ARGUMENTS])
{
	all[0] = js_number(rt->engine, operation);
	for (unsigned i = 0; i < count; i++)
		all[i + 1] = arguments[i];
	return count + 1;
}

static void free_all(struct runtime *rt, unsigned count, const js_value *values)
{
	for (unsigned i = 0; i < count; i++)
		js_free(rt->engine, values[i]);
}

js_value loop_ask(struct runtime *rt, enum prelude_operation operation, unsigned count,
		  js_value *arguments)
{
	js_value all[JS_TURN_ARGUMENTS], result;

	count = gather(rt, operation, count, arguments, all);
	result = js_call(rt->engine, rt->blob.enter, 0, count, all);
	free_all(rt, count, all);
	if (!result && !loop_trapped(rt))
		js_free(rt->engine, js_take_exception(rt->engine));
	return result;
}

/* When is the earliest of the program's timers due, and does any keep the program alive? */
static void ask_next_due(struct runtime *rt)
{
	js_value value = loop_ask(rt, PRELUDE_NEXT_DUE, 0, NULL);
	double due;

	if (!value)
		return;
	due = js_to_number(rt->engine, value);
	js_free(rt->engine, value);
	rt->events.keeps_alive = due > 0;
	rt->events.next_due = fabs(due); /* 0: there is none */
}

/*
 * A generation became durable since the module "thaw" was told: now the heap is about to change
 * anyway.
 */
static void sync_bindings(struct runtime *rt)
{
	struct thaw_status status;
	js_value arguments[2], result;

	if (!(rt->blob.flags & JS_BLOB_MODULE) || !rt->options.image)
		return;
	thaw_status(rt->heap, &status);
	if (status.generation == rt->synced_generation)
		return;
	rt->synced_generation = status.generation;
	arguments[0] = js_number(rt->engine, (double)status.generation);
	arguments[1] = js_number(rt->engine, (double)rt->blob.restores);
	result = loop_ask(rt, PRELUDE_SYNC, 2, arguments);
	if (result)
		js_free(rt->engine, result);
}

/* A turn begins, or goes on in this process. */
static void enter_turn(struct runtime *rt)
{
	rt->turn.began_ns = clock_monotonic_ns();
	rt->midturn.stop_requested_ns = 0;
	poll_timer_polled(rt);
	if (rt->options.image)
		poll_timer_set(rt, rt->checkpoints.due_ns);
	rt->turn.running = true;
}

void loop_turn_begin(struct runtime *rt)
{
	enter_turn(rt);
	sync_bindings(rt);
}

/* After a job. False: no more of them. */
static bool job_ran(struct runtime *rt, js_value exception)
{
	if (exception)
		loop_uncaught(rt, exception, "Uncaught ");
	if (signals_stop() && midturn_cuts(rt))
		return false;
	return !(rt->options.interactive && signals_interrupted());
}

/* One by one, because exit() means that not even the next job runs. */
static void run_jobs(struct runtime *rt)
{
	js_value exception;
	bool ran;

	do {
		if (rt->turn.exiting || rt->ending.ended || loop_trapped(rt))
			return;
		rt->turn.step = JS_TURN_JOB;
		ran = js_run_job(rt->engine, &exception);
		rt->turn.step = JS_TURN_NONE;
		rt->turn.jobs += ran;
	} while (ran && job_ran(rt, exception));
}

void loop_turn_end(struct runtime *rt)
{
	run_jobs(rt);
	if (rt->turn.main_failure) {
		loop_uncaught(rt, rt->turn.main_failure, "Uncaught ");
		rt->turn.main_failure = 0;
	}
	if (!loop_trapped(rt) && rt->turn.rejection_count)
		report_rejections(rt);
	if (!loop_trapped(rt) && !rt->ending.ended) {
		if (rt->turn.collect || js_gc_wanted(rt->engine)) {
			js_gc(rt->engine);
			rt->turn.collections++;
			rt->turn.collect = false;
		}
		if (!rt->turn.exiting)
			ask_next_due(rt);
	}
	loop_trapped(rt);
	rt->turn.running = false;
	if (!rt->turn.count++)
		rt->first_turn_ns = clock_monotonic_ns();
	if (rt->turn.exiting)
		loop_end(rt, rt->turn.exit_request, true);
}

/* After the call of the prelude: whatever it was, its result is nothing. */
static void called(struct runtime *rt, js_value result)
{
	free_all(rt, rt->turn.argument_count, rt->turn.arguments);
	rt->turn.argument_count = 0;
	if (result)
		js_free(rt->engine, result);
	else if (!loop_trapped(rt))
		loop_uncaught(rt, js_take_exception(rt->engine), "Uncaught ");
}

/* After the evaluation of the main module: a promise. */
static void evaluated(struct runtime *rt, js_value promise)
{
	js_value result;

	if (promise) {
		result = loop_ask(rt, PRELUDE_MAIN, 1, &promise);
		if (result)
			js_free(rt->engine, result);
	} else if (!loop_trapped(rt)) {
		loop_uncaught(rt, js_take_exception(rt->engine), "Uncaught ");
	}
}

void loop_turn(struct runtime *rt, enum prelude_operation operation, unsigned count,
	       js_value *arguments)
{
	js_value result;

	loop_turn_begin(rt);
	rt->turn.argument_count = gather(rt, operation, count, arguments, rt->turn.arguments);
	rt->turn.step = JS_TURN_CALL;
	result =
		js_call(rt->engine, rt->blob.enter, 0, rt->turn.argument_count, rt->turn.arguments);
	rt->turn.step = JS_TURN_NONE;
	called(rt, result);
	loop_turn_end(rt);
}

void loop_turn_main(struct runtime *rt, const char *source, size_t bytes, const char *name)
{
	js_value promise;

	loop_turn_begin(rt);
	rt->turn.step = JS_TURN_MAIN;
	promise = js_eval(rt->engine, source, bytes, name, JS_EVAL_MODULE);
	rt->turn.step = JS_TURN_NONE;
	evaluated(rt, promise);
	loop_turn_end(rt);
}

void loop_turn_resume(struct runtime *rt)
{
	const struct js_turn *turn = &rt->blob.turn;
	js_value result;

	rt->turn.argument_count = turn->argument_count;
	memcpy(rt->turn.arguments, turn->arguments, sizeof(rt->turn.arguments));
	rt->turn.main_failure = turn->main_failure;
	rt->turn.collect = turn->collect;
	for (unsigned i = 0; i < turn->rejection_count; i++)
		note_rejection(rt, turn->rejections[i]);
	enter_turn(rt);
	rt->turn.step = turn->step;
	result = js_turn_continue(rt->engine);
	rt->turn.step = JS_TURN_NONE;
	if (turn->step == JS_TURN_CALL)
		called(rt, result);
	else if (turn->step == JS_TURN_MAIN)
		evaluated(rt, result);
	else
		job_ran(rt, result);
	loop_turn_end(rt);
}

/* ---- What became of checkpoints ---- */

static void tell_durable(struct runtime *rt, const struct checkpoint_outcome *outcome)
{
	const struct thaw_result *result = &outcome->result;
	const struct thaw_generation *generation = &result->generation;
	struct js_engine *engine = rt->engine;
	bool changed = !result->unchanged;
	const char *reason =
		thaw_reason_name(changed ? generation->reason : rt->checkpoints.reason);
	js_value arguments[2] = {js_number(engine, (double)outcome->last), js_object(engine)};

	js_set(engine, arguments[1], "generation", js_number(engine, (double)generation->number));
	js_set(engine, arguments[1], "pages",
	       js_number(engine, changed ? (double)generation->pages_stored : 0));
	js_set(engine, arguments[1], "bytes",
	       js_number(engine, changed ? (double)generation->bytes_written : 0));
	js_set(engine, arguments[1], "pauseNs",
	       js_number(engine, changed ? (double)generation->pause_ns : 0));
	js_set(engine, arguments[1], "durableNs", js_number(engine, (double)result->durable_ns));
	js_set(engine, arguments[1], "reason", js_string(engine, reason, strlen(reason)));
	loop_turn(rt, PRELUDE_DURABLE, 2, arguments);
}

/* What a program sees as `code` of the error. */
static const char *code_name(int code)
{
	switch (code) {
	case THAW_EGONE:
		return "EGONE";
	case THAW_EREPLACED:
		return "EREPLACED";
	case THAW_EOVERWRITTEN:
		return "EOVERWRITTEN";
	default:
		return code > -4096 ? uv_err_name(code) : "ETHAW";
	}
}

static void tell_failed(struct runtime *rt, const struct checkpoint_outcome *outcome)
{
	const char *name = code_name(outcome->result.code);
	char message[600];
	js_value arguments[3];

	snprintf(message, sizeof(message), "checkpoint failed: %s", outcome->result.error.text);
	arguments[0] = js_number(rt->engine, (double)outcome->last);
	arguments[1] = js_string(rt->engine, message, strlen(message));
	arguments[2] = js_string(rt->engine, name, strlen(name));
	loop_turn(rt, PRELUDE_FAILED, 3, arguments);
}

bool loop_tell_outcomes(struct runtime *rt)
{
	struct checkpoint_outcome outcome;
	bool told = false;

	/* A turn that tells one may last, and leave more to tell: those come next time. */
	for (unsigned left = rt->checkpoints.untold_count;
	     left && !rt->turn.running && !rt->ending.ended && !js_trapped(rt->engine) &&
	     !streams_full(rt) && checkpoints_take_outcome(rt, &outcome);
	     left--) {
		if (outcome.result.code)
			tell_failed(rt, &outcome);
		else
			tell_durable(rt, &outcome);
		told = true;
	}
	return told;
}

/* ---- The loop ---- */

static void on_timer(uv_timer_t *timer);

static bool timer_is_due(const struct runtime *rt)
{
	return rt->events.next_due > 0 && rt->events.next_due <= loop_clock(rt);
}

/*
 * Several turns in a row spare the loop's system calls between them; signals and checkpoints wait
 * for one slice at most.
 */
static void run_timers(struct runtime *rt)
{
	uint64_t started = clock_monotonic_ns();

	do {
		js_value now = js_number(rt->engine, loop_clock(rt));

		loop_turn(rt, PRELUDE_RUN_ONE, 1, &now);
	} while (!loop_stop_requested(rt) && !streams_full(rt) && timer_is_due(rt) &&
		 clock_monotonic_ns() - started < SLICE_NS &&
		 !(rt->options.interactive && signals_interrupted()));
}

/* One round of the loop: blocks until something happens, unless a timer is due. */
static void run_round(struct runtime *rt)
{
	if (timer_is_due(rt)) {
		run_timers(rt);
		uv_run(&rt->events.loop, UV_RUN_NOWAIT);
		return;
	}
	if (rt->events.next_due > 0) {
		uv_update_time(&rt->events.loop);
		uv_timer_start(
			&rt->events.timer, on_timer,
			(uint64_t)fmin(fmax(ceil(rt->events.next_due - loop_clock(rt)), 0), 1e12),
			0); /* never negative: it may have become due since it was looked at */
	} else {
		uv_timer_stop(&rt->events.timer);
	}
	uv_run(&rt->events.loop, UV_RUN_ONCE);
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

static void on_wake(uv_async_t *wake)
{
	(void)wake; /* loop_serve looks at everything after each round */
}

int loop_open(struct runtime *rt, struct thaw_error *error)
{
	int code = limits_want_descriptors(LOOP_DESCRIPTORS);

	if (!code)
		code = uv_loop_init(&rt->events.loop);
	if (code)
		return failure(error, code, "cannot make an event loop: %s", uv_strerror(code));
	rt->events.ready = true;
	code = uv_async_init(&rt->events.loop, &rt->events.wake, on_wake);
	if (code)
		return failure(error, code, "cannot make an event loop: %s", uv_strerror(code));
	uv_timer_init(&rt->events.loop, &rt->events.timer);
	start_clock(rt);
	return 0;
}

void loop_close(struct runtime *rt)
{
	if (!rt->events.ready)
		return;
	uv_close((uv_handle_t *)&rt->events.wake, NULL);
	uv_close((uv_handle_t *)&rt->events.timer, NULL);
	if (rt->checkpoints.every.loop)
		uv_close((uv_handle_t *)&rt->checkpoints.every, NULL);
	uv_run(&rt->events.loop, UV_RUN_NOWAIT);
	/*
	 * A thread that still reads or writes a file keeps the loop busy: it ends with the
	 * process.
	 */
	uv_loop_close(&rt->events.loop);
	rt->events.ready = false;
	free(rt->turn.rejections);
}

bool loop_has_work(const struct runtime *rt)
{
	return rt->events.keeps_alive || rt->files.in_flight || checkpoints_waited_for(rt) ||
	       rt->checkpoints.untold_count || js_jobs_pending(rt->engine);
}

void loop_serve(struct runtime *rt, bool (*done)(struct runtime *rt, void *arg), void *arg,
		bool idle_ends)
{
	for (;;) {
		bool told;

		checkpoints_advance(rt);
		told = loop_tell_outcomes(rt);
		if (loop_stop_requested(rt) || (done && done(rt, arg)))
			return;
		if (rt->options.interactive && signals_interrupted())
			return;
		if (streams_full(rt)) {
			streams_wait(rt);
			continue;
		}
		if (told || files_tell(rt)) /* and may have asked for another checkpoint */
			continue;
		if (idle_ends && !loop_has_work(rt))
			return;
		run_round(rt);
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

static bool input_ready(struct runtime *rt, void *arg)
{
	(void)rt;
	return ((struct input_wait *)arg)->status != 0;
}

static void on_poll_closed(uv_handle_t *poll)
{
	struct input_wait *wait = poll->data;

	close(wait->epoll);
	free(wait);
}

static struct input_wait *watch_input(struct runtime *rt, int fd)
{
	struct epoll_event event = {.events = EPOLLIN};
	struct input_wait *wait = calloc(1, sizeof(*wait));

	if (!wait)
		return NULL;
	wait->epoll = epoll_create1(EPOLL_CLOEXEC);
	if (wait->epoll < 0 || epoll_ctl(wait->epoll, EPOLL_CTL_ADD, fd, &event) < 0 ||
	    uv_poll_init(&rt->events.loop, &wait->poll, wait->epoll)) {
		if (wait->epoll >= 0)
			close(wait->epoll);
		free(wait);
		return NULL;
	}
	wait->poll.data = wait;
	uv_poll_start(&wait->poll, UV_READABLE, on_readable);
	return wait;
}

int loop_wait_readable(struct runtime *rt, int fd)
{
	struct input_wait *wait;
	int result;

	if (loop_stop_requested(rt))
		return 0;
	wait = watch_input(rt, fd);
	if (!wait) { /* a regular file: always readable */
		checkpoints_advance(rt);
		if (loop_tell_outcomes(rt))
			checkpoints_advance(rt);
		uv_run(&rt->events.loop, UV_RUN_NOWAIT);
		files_tell(rt);
		return loop_stop_requested(rt) ? 0 : 1;
	}
	loop_serve(rt, input_ready, wait, false);
	result = rt->ending.ended ? 0 : wait->status ? 1 : -1;
	if (result < 0)
		signals_take_interrupt();
	if (rt->options.interactive) /* who draws on the terminal now does so after it */
		streams_flush(rt, TERMINAL_NS);
	uv_close((uv_handle_t *)&wait->poll, on_poll_closed);
	return result;
}
