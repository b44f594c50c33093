/* SPDX-License-Identifier: MIT */
/*
 * evaluate.c - one piece of code in the global scope of a program, for the shell, -e and -p: when it runs,
 * what runs meanwhile, and how it ends.
 *
 * Called by the command line, on the owner's thread; evaluate_mid_turn() at a poll. Must never let a
 * program go on that was only asked something (options.asks), unless the question awaits it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

struct question {
	const char *code, *name;
	size_t bytes;
	struct runtime_answer *answer;
	bool begun; /* its answer waits for other turns */
	bool answered;
	int status;
};

static enum guest_evaluation begin(struct runtime *rt, const struct question *question)
{
	control_ends_evaluation(rt);
	return rt->type->evaluate(rt->guest, question->code, question->bytes, question->name);
}

static int look(struct runtime *rt, struct runtime_answer *answer)
{
	bool good = rt->type->answer(rt->guest, &answer->text, &answer->bytes);

	answer->head = good ? 0 : rt->guest->answer_head;
	return good ? 0 : EXIT_EXCEPTION;
}

static void take_back(struct runtime_answer *answer)
{
	free(answer->text);
	answer->text = NULL;
}

/* What was evaluated may await what its program waits for; only then that goes on. */
static void settle(struct runtime *rt)
{
	if (rt->options.asks && rt->type->evaluation(rt->guest) == GUEST_PENDING && !signals_stop())
		runtime_resume(rt);
	if (!rt->ending.ended)
		rt->type->run(rt->guest, GUEST_UNTIL_EVALUATED, -1);
}

static int answered(struct runtime *rt, struct runtime_answer *answer)
{
	int status;

	signals_take_interrupt();
	status = look(rt, answer);
	if (signals_stop()) /* what was rendered may have been cut off */
		rt->type->run(rt->guest, GUEST_UNTIL_IDLE, -1);
	if (!runtime_note_trap(rt) && !rt->ending.ended)
		return status;
	take_back(answer);
	return rt->ending.exit_code;
}

/* Of -e and -p. To the shell, a promise that waits is an answer. */
static int await_is_over(struct runtime *rt, struct runtime_answer *answer)
{
	owner_tell(rt, "thaw: the code ended while its top-level await was still waiting\n");
	take_back(answer);
	return EXIT_UNSETTLED;
}

/* ---- Asked in the middle of a turn ---- */

/*
 * The question runs like a function that the program's own code has called, on the side stack, while its
 * turn stands still; and the turn is captured again as it was, with what the question has changed.
 */
static void answer_and_leave(struct runtime *rt, struct question *question)
{
	int status = look(rt, question->answer);

	if (rt->guest->exiting || signals_stop()) {
		take_back(question->answer);
		status = rt->guest->exiting ? rt->ending.exit_request : 128 + signals_stop();
		rt->guest->exiting = false;
	}
	question->answered = true;
	question->status = status;
	if (checkpoints_last(rt, signals_stop() ? THAW_REASON_SIGNAL : THAW_REASON_EXIT, NULL))
		status = EXIT_IO;
	runtime_end(rt, status, false);
	rt->type->abandon(rt->guest, "asked in the middle of a turn");
}

void evaluate_mid_turn(struct runtime *rt)
{
	struct question *question = rt->evaluation.question;

	rt->evaluation.question = NULL;
	if (midturn_possible(rt)) {
		rt->evaluation.running = rt->evaluation.asking = true;
		if (begin(rt, question) != GUEST_PENDING || rt->guest->exiting || signals_stop())
			answer_and_leave(rt, question);
		rt->evaluation.running = rt->evaluation.asking = false;
		question->begun = true;
	}
	runtime_tell_turn(rt);
}

/* True: it was answered, or its answer waits for the turns that follow. */
static bool ask_mid_turn(struct runtime *rt, struct question *question)
{
	if (!rt->guest->mid_turn)
		return false;
	rt->evaluation.question = question;
	rt->type->poll_next(rt->guest);
	runtime_resume_turn(rt);
	rt->evaluation.question = NULL;
	return question->answered || question->begun;
}

/* ---- */

static int evaluate(struct runtime *rt, struct question *question)
{
	enum guest_evaluation state = GUEST_PENDING;
	int status;

	rt->evaluation.running = true;
	if (!question->begun) {
		signals_take_interrupt();
		state = begin(rt, question);
	}
	if (state != GUEST_FAILED && !rt->ending.ended)
		settle(rt);
	if (rt->ending
		    .ended) { /* exit(), a signal, a trap, or somebody else's exception, which was printed */
		rt->type->forget(rt->guest);
		status = rt->ending.exit_code;
	} else {
		bool waits = state != GUEST_FAILED && rt->options.plain_result &&
			     rt->type->evaluation(rt->guest) == GUEST_PENDING;

		status = answered(rt, question->answer);
		if (waits && !status && !rt->ending.ended)
			status = await_is_over(rt, question->answer);
	}
	rt->evaluation.running = false;
	return status;
}

int runtime_eval(struct runtime *rt, const char *code, size_t bytes, const char *name,
		 struct runtime_answer *answer)
{
	struct question question = {code, name, bytes, answer, false, false, 0};
	int status;

	*answer = (struct runtime_answer){0};
	rt->evaluation.used = true;
	if (runtime_ended_early(rt))
		return rt->ending.exit_code;
	if (!rt->type->evaluate) {
		owner_tell(rt, "thaw: this kind of program cannot evaluate code from outside\n");
		return EXIT_USAGE;
	}
	if (rt->options.asks) {
		if (ask_mid_turn(rt, &question) && question.answered)
			return question.status;
	} else {
		rt->guest->common.finished = false;
		runtime_resume(rt);
	}
	if (rt->ending.ended)
		return rt->ending.exit_code;
	status = evaluate(rt, &question);
	/* The caller shows the text after what was printed. */
	if (!guest_trapped(rt))
		streams_drain(rt);
	return status;
}

char *runtime_complaint(struct runtime *rt, const char *code, size_t bytes)
{
	return rt->type->complaint ? rt->type->complaint(rt->guest, code, bytes) : NULL;
}

/* A terminal that does not take what is said does not keep who types from typing. */
#define TYPING_NS 1000000000u

/* Somebody types: the line makes room, and is drawn again when all of the output is there. */
void evaluate_around_output(struct runtime *rt, bool before)
{
	if (!rt->options.around_output)
		return;
	if (!before)
		streams_flush(rt, TYPING_NS);
	rt->options.around_output(rt->options.around_arg, before);
}

char *runtime_ask(struct runtime *rt, enum guest_question question, const char *text, size_t bytes)
{
	if (!rt->type->ask || rt->ending.ended || guest_trapped(rt))
		return NULL;
	return rt->type->ask(rt->guest, question, text, bytes);
}

/* One write, so that nothing comes between its lines. */
static void print_exception(const char *text, size_t bytes)
{
	bool ends = bytes && text[bytes - 1] == '\n';
	char *line = malloc(bytes + 1);

	fflush(stdout);
	if (!line)
		return;
	memcpy(line, text, bytes);
	line[bytes] = '\n';
	fwrite(line, 1, bytes + !ends, stderr);
	free(line);
}

void runtime_tell_exception(const struct runtime_answer *answer)
{
	if (answer->text)
		print_exception(answer->text, answer->bytes);
}

unsigned runtime_uncaught(const struct runtime *rt)
{
	return rt->ending.uncaught;
}
