/* SPDX-License-Identifier: MIT */
/*
 * control_jobs.c - does what others ask of a running program (control.c), on its owner's thread: between turns, and for
 * checkpoints in the middle of them.
 *
 * Looks at nothing but a flag while nobody asks. Must never take the lock in a capture: captures and generations are told
 * of by tickets, which are the owner's alone.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/format.h"
#include "base/json.h"
#include "control_jobs.h"

/* What is longer is not sent. */
#define RESULT_MOST (16u << 20)

static struct control *control_of(const struct runtime *rt)
{
	struct control *control = rt->options.control;

	return control && control->rt == rt ? control : NULL;
}

/* Of what went wrong the words behind the image's name: who asks has named it, perhaps in another way. */
static const char *reason_of(const char *image, int code, const struct thaw_error *error)
{
	size_t length = strlen(image);
	const char *text = error->text[0] ? error->text : thaw_strerror(code);

	return !strncmp(text, image, length) && !strncmp(text + length, ": ", 2) ? text + length + 2
										 : text;
}

/* ---- Waiting for a generation */

static void wait_for_generation(struct control *control, struct job *job)
{
	job->state = JOB_WAITS;
	job->ticket = ++control->tickets;
	control->waiting++;
}

/* With the lock. False: it was answered. */
static bool name_next(struct runtime *rt, struct control *control, struct job *job)
{
	const char *name = job->request->name;
	int code = *name ? checkpoints_name(rt, name) : 0;

	if (code)
		control_answer_refused(control, job,
				       code == -EINVAL ? EXIT_USAGE : runtime_exit_code(code), "%s",
				       code == -EINVAL	 ? "that cannot be the name of a generation"
				       : code == -ENOSPC ? "too many names wait for a generation"
							 : thaw_strerror(code));
	return !code;
}

bool control_take_checkpoints(struct runtime *rt)
{
	struct control *control = control_of(rt);
	struct job *job, *next;
	bool any = false;

	if (!control || !atomic_exchange(&control->checkpoint_asked, false))
		return false;
	pthread_mutex_lock(&control->lock);
	for (job = control->jobs; job; job = next) {
		next = job->next;
		if (job->command != CONTROL_CHECKPOINT || job->state != JOB_QUEUED ||
		    !name_next(rt, control, job))
			continue;
		wait_for_generation(control, job);
		any = true;
	}
	pthread_mutex_unlock(&control->lock);
	return any;
}

void control_captured(struct runtime *rt)
{
	struct control *control = control_of(rt);

	if (control)
		control->captured = control->tickets;
}

/* ---- What a generation has come to */

static void write_durable(FILE *to, const struct job *job, const void *what)
{
	const struct thaw_result *result = what;
	const struct thaw_generation *generation = &result->generation;
	struct json json = control_well(to);

	json_number(&json, "generation", generation->number);
	if (job->request && job->request->name[0])
		json_text(&json, "name", job->request->name);
	if (job->command == CONTROL_EVAL && job->threw) {
		json_text(&json, "exception", job->text + job->head);
		json_text(&json, "shown", job->text);
	} else if (job->command == CONTROL_EVAL) {
		json_text(&json, "value", job->text);
	} else {
		json_bool(&json, "unchanged", result->unchanged);
		json_number(&json, "bytes", result->unchanged ? 0 : generation->bytes_written);
		json_number(&json, "pauseNs", result->unchanged ? 0 : generation->pause_ns);
		json_number(&json, "durableNs", result->durable_ns);
	}
	json_close(&json, '}');
}

/* The generation that it waited for is durable: it ends here, and is opened again. */
static void come_to_rest(struct runtime *rt, struct control *control, struct job *job)
{
	if (rt->guest->in_turn) {
		control_answer_refused(control, job, EXIT_IMAGE_IN_USE,
				       "nothing was done: the program is in a turn that lasts");
		return;
	}
	job->state = JOB_RESTS;
	rt->ending.rests = true;
	runtime_end(rt, 128 + SIGTERM, true); /* which it comes to if that comes meanwhile */
	rt->type->wake(rt->guest);	      /* its loop looks, before it waits for anything */
}

static void settle(struct runtime *rt, struct control *control, struct job *job,
		   const struct thaw_result *result)
{
	control->waiting--;
	if (result->code)
		control_answer_refused(
			control, job, runtime_exit_code(result->code), "%s: %s",
			job->command == CONTROL_EVAL
				? "the code has run, but what it did could not be made durable"
				: "the checkpoint failed",
			reason_of(rt->options.image, result->code, &result->error));
	else if (job->command == CONTROL_ROLLBACK || job->command == CONTROL_COMPACT ||
		 job->command == CONTROL_UPGRADE)
		come_to_rest(rt, control, job);
	else
		control_answer(control, job, write_durable, result);
}

static void count(struct runtime *rt, struct control *control, const struct thaw_result *result)
{
	const struct thaw_generation *generation = &result->generation;
	struct counters *counters = &control->counters;
	uint64_t now = clock_monotonic_ns();

	number_set(&counters->failing, rt->failures.failing);
	if (result->code) {
		number_add(&counters->failed, 1);
		return;
	}
	number_set(&counters->generation, generation->number);
	number_set(&counters->generation_time_ns, generation->time_ns);
	number_add(&counters->dirty_ns, now - control->counted_ns);
	control->counted_ns = now;
	if (result->unchanged)
		return;
	number_add(&counters->checkpoints, 1);
	number_add(&counters->written_bytes, generation->bytes_written);
	number_add(&counters->dirty_pages, generation->pages_written);
	number_add(&counters->stored_pages, generation->pages_stored);
	histogram_add(&counters->pause, generation->pause_ns);
	histogram_add(&counters->durable, result->durable_ns);
}

void control_finished(struct runtime *rt, const struct thaw_result *result)
{
	struct control *control = control_of(rt);

	if (!control)
		return;
	count(rt, control, result);
	if (!control->failure[0] && !rt->failures.text[0])
		return;
	pthread_mutex_lock(&control->lock);
	snprintf(control->failure, sizeof(control->failure), "%s", rt->failures.text);
	pthread_mutex_unlock(&control->lock);
}

uint64_t control_ticket(struct runtime *rt)
{
	struct control *control = control_of(rt);

	return control ? control->captured : 0;
}

bool control_waits(struct runtime *rt, uint64_t ticket)
{
	struct control *control = control_of(rt);
	bool waits = false;

	if (!control || !control->waiting)
		return false;
	pthread_mutex_lock(&control->lock);
	for (struct job *job = control->jobs; job && !waits; job = job->next)
		waits = job->state == JOB_WAITS && job->ticket <= ticket;
	pthread_mutex_unlock(&control->lock);
	return waits;
}

bool control_asks_after(struct runtime *rt, uint64_t ticket)
{
	struct control *control = control_of(rt);

	return control && control->waiting && control->tickets > ticket;
}

void control_settled(struct runtime *rt, uint64_t ticket, const struct thaw_result *result)
{
	struct control *control = control_of(rt);
	struct job *job, *next;

	if (!control || !control->waiting)
		return;
	pthread_mutex_lock(&control->lock);
	for (job = control->jobs; job; job = next) {
		next = job->next;
		if (job->state == JOB_WAITS && job->ticket <= ticket)
			settle(rt, control, job, result);
	}
	pthread_mutex_unlock(&control->lock);
}

/* ---- Names of generations */

/* The number that stands there, of a generation that there was; else 0. */
static uint64_t former(const char *word, uint64_t newest)
{
	uint64_t number;

	return parse_number(word, &number) && number < newest ? number : 0;
}

/* `generation` is 0 where `word` is empty. What was durable just now may be in the image's log alone, which has no list. */
static int find_generation(struct runtime *rt, const char *word, uint64_t *generation,
			   struct thaw_error *error)
{
	struct thaw_image *image;
	struct thaw_status status;
	int code;

	*generation = 0;
	if (!*word)
		return 0;
	code = thaw_list(rt->heap, error);
	if (code)
		return code;
	code = thaw_image_of(rt->heap, &image, error);
	if (!code)
		code = thaw_image_find(image, word, generation, error);
	thaw_image_close(image);
	thaw_status(rt->heap, &status);
	if (code == THAW_ENOGEN && former(word, status.generation))
		return failure(
			error, code,
			"generation %s is not kept any more: thaw log has those that are, of "
			"many in a second the newest",
			word);
	return code;
}

static void write_tagged(FILE *to, const struct job *job, const void *what)
{
	struct json json = control_well(to);

	json_text(&json, job->command == CONTROL_TAG ? "name" : "deleted", what);
	json_number(&json, "generation", job->generation);
	json_close(&json, '}');
}

/* One commit of the image, by whose program it is. */
static void tag(struct runtime *rt, struct control *control, struct job *job,
		const struct control_request *request)
{
	bool gives = request->command == CONTROL_TAG;
	struct thaw_error error = {0};
	uint64_t generation;
	int code = find_generation(rt, gives ? request->generation : request->name, &generation,
				   &error);

	if (!code)
		code = gives ? thaw_tag(rt->heap, request->name, &generation,
					request->move ? THAW_TAG_MOVE : 0, &error)
			     : thaw_untag(rt->heap, request->name, &error);
	pthread_mutex_lock(&control->lock);
	job->generation = generation;
	if (code)
		control_answer_refused(control, job,
				       code == -EEXIST || code == -EINVAL ? EXIT_USAGE
									  : runtime_exit_code(code),
				       "%s", reason_of(rt->options.image, code, &error));
	else
		control_answer(control, job, write_tagged, request->name);
	pthread_mutex_unlock(&control->lock);
}

/* ---- Code */

/* It has its result, or its end: what was done is a part of the next generation. */
static void evaluated(struct runtime *rt, struct control *control, struct job *job)
{
	char *text = NULL;
	size_t bytes = 0;
	bool threw = false;

	if (guest_trapped(rt) || rt->ending.ended)
		rt->type->forget(rt->guest);
	else
		threw = !rt->type->answer(rt->guest, &text, &bytes);
	runtime_note_trap(rt);
	pthread_mutex_lock(&control->lock);
	control->evaluating = NULL;
	job->text = text;
	job->threw = threw;
	job->head = threw ? rt->guest->answer_head : 0;
	if (rt->ending.ended || !text)
		control_answer_refused(control, job, EXIT_IMAGE_IN_USE,
				       rt->ending.ended ? "the code has ended the program"
							: "there is no memory for the result");
	else if (rt->evaluation.cut)
		control_answer_refused(control, job, EXIT_IMAGE_IN_USE,
				       "the code was stopped when its time was over; what it did "
				       "until then stays");
	else if (bytes > RESULT_MOST)
		control_answer_refused(control, job, EXIT_IO,
				       "the result has %zu bytes: at most %u are told", bytes,
				       RESULT_MOST);
	else
		wait_for_generation(control, job);
	rt->checkpoints.wanted = true;
	pthread_mutex_unlock(&control->lock);
}

static void evaluate(struct runtime *rt, struct control *control, struct job *job, char *code,
		     size_t bytes)
{
	enum guest_evaluation state;

	rt->evaluation.controlled = true;
	rt->evaluation.cut = false;
	rt->evaluation.until_ns = job->until_ns;
	state = rt->type->evaluate(rt->guest, code, bytes, "[ctl]");
	rt->evaluation.controlled = false;
	free(code);
	pthread_mutex_lock(&control->lock);
	control->evaluating = job;
	pthread_mutex_unlock(&control->lock);
	if (state != GUEST_PENDING)
		evaluated(rt, control, job);
}

static void look_at_evaluation(struct runtime *rt, struct control *control)
{
	struct job *job = control->evaluating;
	bool wanted;

	if (!job)
		return;
	pthread_mutex_lock(&control->lock);
	wanted = job->request;
	pthread_mutex_unlock(&control->lock);
	if (!wanted) { /* its time is over, or who asked has gone */
		rt->type->forget(rt->guest);
		pthread_mutex_lock(&control->lock);
		control_answer(control, job, write_tagged, ""); /* to nobody */
		pthread_mutex_unlock(&control->lock);
	} else if (rt->type->evaluation(rt->guest) != GUEST_PENDING) {
		evaluated(rt, control, job);
	}
}

/* A guest has one evaluation at a time, and who types at its shell comes first. */
void control_ends_evaluation(struct runtime *rt)
{
	struct control *control = control_of(rt);

	if (!control || !control->evaluating)
		return;
	rt->type->forget(rt->guest);
	pthread_mutex_lock(&control->lock);
	control_answer_refused(control, control->evaluating, EXIT_IMAGE_IN_USE,
			       "the code had no result yet when something was typed at the "
			       "program's shell: it is not waited for any more, what it did stays");
	pthread_mutex_unlock(&control->lock);
}

/* ---- Going back, and rewriting the image: while the program rests */

static void prepare_rest(struct runtime *rt, struct control *control, struct job *job,
			 const struct control_request *request)
{
	struct thaw_error error = {0};
	uint64_t generation;
	int code = find_generation(rt, request->generation, &generation, &error);

	pthread_mutex_lock(&control->lock);
	job->generation = generation;
	if (code) {
		control_answer_refused(control, job, runtime_exit_code(code), "%s",
				       reason_of(rt->options.image, code, &error));
	} else {
		wait_for_generation(control, job);
		rt->checkpoints.wanted = true;
	}
	pthread_mutex_unlock(&control->lock);
}

static void write_modules(struct json *json, const struct guest_changes *changes)
{
	static const char *const kinds[] = {
		[GUEST_CHANGED] = "changed", [GUEST_ADDED] = "added", [GUEST_REMOVED] = "removed"};

	for (unsigned kind = GUEST_CHANGED; kind <= GUEST_REMOVED; kind++) {
		json_open(json, kinds[kind], '[');
		for (unsigned i = 0; i < changes->count; i++)
			if (changes->list[i].kind == kind)
				json_text(json, NULL, changes->list[i].name);
		json_close(json, ']');
	}
}

static void write_rested(FILE *to, const struct job *job, const void *what)
{
	struct json json = control_well(to);

	(void)what;
	json_number(&json, "generation", job->generation);
	if (job->command == CONTROL_ROLLBACK) {
		json_number(&json, "from", job->before);
	} else if (job->command == CONTROL_UPGRADE) {
		json_number(&json, "from", job->before);
		write_modules(&json, &job->changes);
	} else {
		json_number(&json, "bytesBefore", job->before);
		json_number(&json, "bytesAfter", job->after);
	}
	json_close(&json, '}');
}

void control_jobs_resumed(struct control *control)
{
	struct job *job, *next;

	for (job = control->jobs; job; job = next) {
		next = job->next;
		if (job->state == JOB_RESTS && job->failed)
			control_answer_refused(control, job, job->failed, "%s",
					       job->text ? job->text : "out of memory");
		else if (job->state == JOB_RESTS)
			control_answer(control, job, write_rested, NULL);
	}
}

static int roll_back(const char *image, struct job *job, struct thaw_error *error)
{
	struct thaw_generation made;
	uint64_t from = job->generation;
	int code = thaw_image_rollback(image, from, &made, error);

	job->generation = made.number;
	job->before = from;
	return code;
}

static int compact(const char *image, struct job *job, struct thaw_error *error)
{
	struct thaw_copy_summary summary;
	int code = thaw_image_compact(image, 0, NULL, &summary, error);

	job->generation = summary.newest;
	job->before = summary.bytes_before;
	job->after = summary.bytes_after;
	return code;
}

/* Of what is left of its time; the rest is for the way to there and back. */
static uint64_t upgrade_limit_ns(const struct job *job)
{
	uint64_t now = clock_monotonic_ns();

	return job->until_ns > now ? (job->until_ns - now) / 4 * 3 : 1;
}

/* As thaw upgrade does it: a runtime of its own, of which nothing but the upgrade runs. An exit code. */
static int upgrade(struct control *control, struct job *job, struct thaw_error *error)
{
	const struct runtime_upgrade how = {
		.how = {.check = job->check, .force = job->force},
		.time_limit_ns = upgrade_limit_ns(job),
	};
	struct runtime_options options = control->options;
	struct thaw_result result;
	struct runtime *rt;
	int code;

	options.control = NULL;
	options.store = NULL; /* it has all once the program goes on */
	options.fresh = false;
	options.generation = 0;
	options.must_exist = options.upgrades = options.holds_output = true;
	code = runtime_open(&options, &rt, error);
	if (code)
		return runtime_exit_code(code);
	job->before = job->generation = thaw_opened(runtime_heap(rt))->number;
	code = runtime_upgrade(rt, &how, &job->changes, &result, error);
	if (!code)
		job->generation = result.generation.number;
	code = code < 0 ? runtime_upgrade_exit_code(code) : 0;
	runtime_abandon(rt, code);
	runtime_close(rt);
	return code;
}

/* With the program at rest: an exit code. */
static int do_rested(struct control *control, struct job *job, struct thaw_error *error)
{
	if (job->command == CONTROL_UPGRADE)
		return upgrade(control, job, error);
	return runtime_exit_code(job->command == CONTROL_ROLLBACK
					 ? roll_back(control->image, job, error)
					 : compact(control->image, job, error));
}

/* One of those that wait for it; the list is nobody else's now, but for stops. */
static struct job *find_resting(struct control *control)
{
	struct job *job;

	pthread_mutex_lock(&control->lock);
	job = control->jobs;
	while (job && (job->state != JOB_RESTS || job->rested))
		job = job->next;
	pthread_mutex_unlock(&control->lock);
	return job;
}

/* Told once the program runs again. */
static void note_failure(struct control *control, struct job *job, int code,
			 const struct thaw_error *error)
{
	bool upgrade = job->command == CONTROL_UPGRADE;

	job->failed = code;
	if (asprintf(&job->text, "%s%s; the program goes on%s", upgrade ? "no upgrade: " : "",
		     reason_of(control->image, error->code, error),
		     upgrade ? " as it was" : "") < 0)
		job->text = NULL;
}

bool control_resumes(struct control *control)
{
	struct job *job;
	bool any = false;

	while (control && (job = find_resting(control))) {
		struct thaw_error error = {0};
		int code = do_rested(control, job, &error);

		any = job->rested = true;
		if (code)
			note_failure(control, job, code, &error);
	}
	return any && !runtime_asked_to_end();
}

/* ---- Between turns */

/* Can it be done now? Else it stays where it is, and is looked at again. */
static bool is_possible(const struct runtime *rt, const struct control *control,
			const struct job *job)
{
	if (job->command == CONTROL_EVAL)
		return !control->evaluating && !rt->evaluation.running && !rt->guest->in_turn;
	return !rt->checkpoints.in_flight; /* the image has one writer at a time */
}

/* The next job, out of the server's hands: its request stays until it is answered, or given up. */
static struct job *next_job(struct runtime *rt, struct control *control,
			    struct control_request *request)
{
	struct job *job;

	pthread_mutex_lock(&control->lock);
	for (job = control->jobs; job; job = job->next) {
		if (job->state != JOB_QUEUED || job->command == CONTROL_CHECKPOINT ||
		    job->command == CONTROL_STOP)
			continue;
		if (is_possible(rt, control, job))
			break;
		atomic_store(&control->asked, true);
	}
	if (job) {
		*request = *job->request;
		job->request->code = NULL;
		job->check = request->check;
		job->request->check = NULL;
		job->force = request->force;
		job->state = JOB_BEGUN;
	}
	pthread_mutex_unlock(&control->lock);
	return job;
}

void control_advance(struct runtime *rt)
{
	struct control *control = control_of(rt);
	struct control_request request;
	struct job *job;

	if (!control || rt->ending.ended)
		return;
	look_at_evaluation(rt, control);
	if (!atomic_exchange(&control->asked, false))
		return;
	while (!rt->ending.ended && (job = next_job(rt, control, &request))) {
		if (job->command == CONTROL_EVAL)
			evaluate(rt, control, job, request.code, request.code_bytes);
		else if (job->command == CONTROL_TAG || job->command == CONTROL_UNTAG)
			tag(rt, control, job, &request);
		else
			prepare_rest(rt, control, job, &request);
	}
}

bool control_cuts(struct runtime *rt)
{
	if (rt->evaluation.controlled && clock_monotonic_ns() >= rt->evaluation.until_ns)
		rt->evaluation.cut = true;
	return rt->evaluation.controlled && rt->evaluation.cut;
}
