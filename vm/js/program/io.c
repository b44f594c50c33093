/* SPDX-License-Identifier: MIT */
/*
 * io.c - holds on the loop, and the completions of what the outside has done for a program (io.h).
 *
 * Owns the lists of operations: begun, and done but not told. Called by files.c, and by loop.c between turns; owner's
 * thread. Must never make the end of the process wait for an operation: a thread may be blocked in it for ever.
 */
#include "program.h"

/* The end waits so long for what is under way, after the final generation. */
#define SETTLE_MS 400u

static bool left_behind; /* a thread of the pool is still in some operation, and may be for ever */

static void append(struct io **first, struct io **last, struct io *io)
{
	io->before = *last;
	io->after = NULL;
	*(*last ? &(*last)->after : first) = io;
	*last = io;
}

static void take_out(struct io **first, struct io **last, struct io *io)
{
	*(io->before ? &io->before->after : first) = io->after;
	*(io->after ? &io->after->before : last) = io->before;
}

void io_hold(struct io *io)
{
	struct io_list *list = &io->program->io;

	append(&list->first_begun, &list->last_begun, io);
	list->holds++;
	if (!list->first_number)
		list->first_number = io->number;
}

void io_done(struct io *io)
{
	struct io_list *list = &io->program->io;

	take_out(&list->first_begun, &list->last_begun, io);
	if (owner_ended(io->program->guest.owner)) {
		list->holds--;
		io->type->drop(io);
	} else {
		append(&list->first_done, &list->last_done, io);
	}
}

bool io_tell(struct program *program)
{
	struct io_list *list = &program->io;
	struct io *io = list->first_done;

	if (!io)
		return false;
	take_out(&list->first_done, &list->last_done, io);
	list->holds--;
	if (owner_ended(program->guest.owner) || js_trapped(program->engine))
		io->type->drop(io);
	else
		io->type->tell(program, io);
	return true;
}

static void on_patience_ended(uv_timer_t *timer)
{
	*(bool *)timer->data = true;
}

/*
 * Those that have not begun are not begun any more. Those under way mostly end at once; what does
 * not is in the heap, and is begun again or reported by the process after this one, unless the program
 * called exit().
 */
void io_settle(struct program *program)
{
	struct io_list *list = &program->io;
	bool patience_ended = false;
	uv_timer_t timer;
	char what[1100];

	while (io_tell(program))
		;
	if (!list->first_begun || uv_timer_init(&program->events.loop, &timer))
		return;
	for (struct io *io = list->first_begun, *next; io; io = next) {
		next = io->after; /* it may be gone */
		io->type->cancel(io);
	}
	timer.data = &patience_ended;
	uv_update_time(&program->events.loop);
	uv_timer_start(&timer, on_patience_ended, SETTLE_MS, 0);
	while (list->first_begun && !patience_ended)
		uv_run(&program->events.loop, UV_RUN_ONCE);
	uv_close((uv_handle_t *)&timer, NULL);
	uv_run(&program->events.loop, UV_RUN_NOWAIT); /* it is on this stack */
	if (!list->first_begun)
		return;
	left_behind = true;
	if (program->guest.exiting) {
		list->first_begun->type->describe(list->first_begun, what, sizeof(what));
		owner_tell(program->guest.owner,
			   "thaw: exit() did not wait for %s, which has not ended\n", what);
	}
}

bool io_holds(const struct program *program)
{
	return program->io.holds;
}

bool io_left_behind(void)
{
	return left_behind;
}
