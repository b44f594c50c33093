/* SPDX-License-Identifier: MIT */
/*
 * control.c - see control.h: what others ask of a program becomes a job of its owner, and the job's end their answer.
 *
 *	queued --taken by the owner--> waits for a generation --durable--> answered
 *	  |           \--(eval)--> awaits its result --> waits for a generation
 *	  |           \--(rollback, compact)--> waits for a generation --> rests: the runtime is closed and opened again
 *	  \--(time is over, or nobody wants it any more)--> forgotten
 *
 * The lock is for the list of jobs and for which runtime there is; it is held for moments, and by no capture. Counters need
 * none. Must never answer what could still be taken back: the result of a turn is told when it is durable.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/text.h"
#include "control_jobs.h"

/* ---- Jobs: with the lock */

static void job_append(struct control *control, struct job *job)
{
	struct job **link = &control->jobs;

	while (*link)
		link = &(*link)->next;
	*link = job;
}

/* Out of the list, and gone. */
static void job_free(struct control *control, struct job *job)
{
	struct job **link = &control->jobs;

	while (*link && *link != job)
		link = &(*link)->next;
	if (*link)
		*link = job->next;
	if (control->evaluating == job)
		control->evaluating = NULL;
	for (unsigned i = 0; i < job->changes.count; i++) {
		free(job->changes.list[i].name);
		free(job->changes.list[i].hooks);
		free(job->changes.list[i].state);
	}
	free(job->changes.list);
	free(job->check);
	free(job->text);
	free(job);
}

void control_answer(struct control *control, struct job *job,
		    void (*write)(FILE *to, const struct job *job, const void *what),
		    const void *what)
{
	struct control_request *request = job->request;
	struct control_line line;

	if (request) {
		if (control_line_begin(&line)) {
			write(line.to, job, what);
			control_line_end(&line);
		}
		request->job = NULL;
		control_server_answer(control->server, request, line.text, line.bytes);
	}
	job_free(control, job);
}

static void write_refusal(FILE *to, const struct job *job, const void *what)
{
	const struct refusal *refusal = what;

	(void)job;
	control_refuse(to, refusal->code, "%s", refusal->text);
}

void control_answer_refused(struct control *control, struct job *job, int code, const char *format,
			    ...)
{
	struct refusal refusal = {.code = code};
	va_list arguments;

	va_start(arguments, format);
	text_cut(refusal.text, sizeof(refusal.text),
		 (size_t)vsnprintf(refusal.text, sizeof(refusal.text), format, arguments));
	va_end(arguments);
	control_answer(control, job, write_refusal, &refusal);
}

/* ---- The server's thread */

static void add_served(struct thaw_counters *served, const struct runtime *rt)
{
	struct thaw_counters more;

	thaw_counters(rt->heap, &more);
	served->faults += more.faults;
	served->pages_restored += more.pages_restored;
	served->pages_poisoned += more.pages_poisoned;
	served->restore_bytes += more.restore_bytes;
}

static void describe(struct control *control, struct moment *moment)
{
	struct runtime *rt = control->rt;
	uint64_t now = clock_monotonic_ns(), oldest;

	*moment = (struct moment){
		.kind = control->kind,
		.image = control->image,
		.id = control->id,
		.program = control->program,
		.failure = control->failure,
		.pid = getpid(),
		.started_ns = control->started_ns,
		.page_bytes = (uint64_t)sysconf(_SC_PAGESIZE),
		.served = control->before,
		.restores = control->restores,
	};
	if (rt) {
		add_served(&moment->served, rt);
		runtime_replica(rt, &moment->replica);
		moment->guest_pid = rt->guest->pid;
		moment->every_ns = rt->options.every_ns;
		moment->commits_output = rt->options.commit_output;
		moment->held_bytes =
			atomic_load(&rt->output_commit.held) -
			__atomic_load_n(&rt->output_commit.committed, __ATOMIC_RELAXED);
		oldest = atomic_load(&rt->output_commit.oldest_ns);
		moment->held_ns = oldest && now > oldest ? now - oldest : 0;
		moment->state = rt->ending.ended     ? NUMBERS_ENDING
				: rt->guest->stopped ? NUMBERS_STOPPED
				: rt->guest->in_turn ? NUMBERS_IN_TURN
						     : NUMBERS_RUNNING;
		if (moment->state == NUMBERS_IN_TURN && now > rt->guest->turn_began_ns)
			moment->state_ns = now - rt->guest->turn_began_ns;
	}
}

static void serve_metrics(void *arg, FILE *to)
{
	struct control *control = arg;
	struct moment moment;

	pthread_mutex_lock(&control->lock);
	describe(control, &moment);
	numbers_metrics(&control->counters, &moment, to);
	pthread_mutex_unlock(&control->lock);
}

/* With the lock. */
static void answer_status(struct control *control, FILE *answer)
{
	struct moment moment;

	describe(control, &moment);
	numbers_status(&control->counters, &moment, answer);
}

static void answer_metrics(struct control *control, FILE *answer)
{
	struct json json;
	char *text = NULL;
	size_t bytes;
	FILE *to = open_memstream(&text, &bytes);
	struct moment moment;

	if (to) {
		describe(control, &moment);
		numbers_metrics(&control->counters, &moment, to);
	}
	if (!to || ferror(to) | fclose(to)) {
		control_refuse(answer, EXIT_IO, "out of memory");
	} else {
		json = control_well(answer);
		json_text(&json, "metrics", text);
		json_close(&json, '}');
	}
	free(text);
}

/* Why not. NULL: it can be done, if need be by the program's owner. With the lock. */
static const char *refusal(const struct control *control, const struct control_request *request,
			   int *code)
{
	const struct runtime *rt = control->rt;

	*code = EXIT_IMAGE_IN_USE;
	if (request->image[0] && strcmp(request->image, control->id))
		return "what listens here is the program of another image, which had this name";
	if (request->command == CONTROL_STATUS || request->command == CONTROL_METRICS ||
	    request->command == CONTROL_STOP)
		return NULL;
	if (!rt)
		return "the program does not run just now: it is about to be started";
	*code = EXIT_USAGE;
	if (request->command == CONTROL_EVAL && !rt->type->evaluate)
		return "a program of thaw exec is a process of its own: code cannot be evaluated in it";
	if (request->command == CONTROL_ROLLBACK && !rt->options.script)
		return "a shell does not go back while it runs: leave it, and use thaw rollback";
	if (request->command == CONTROL_UPGRADE && !rt->type->upgrade)
		return "the code of a process cannot be replaced from outside: the program can load new "
		       "code itself (thaw help exec)";
	if (request->command == CONTROL_UPGRADE && !rt->options.script)
		return "a shell has no files whose code could have changed";
	if (request->command != CONTROL_COMPACT)
		return NULL;
	if (rt->type->process)
		return "it would lose its connections: stop it (thaw ctl IMAGE stop), thaw compact, and "
		       "start it again; or compact a clone (thaw clone)";
	return rt->options.script ? NULL : "leave the shell first, and use thaw compact";
}

/* As kill(1) would, once: the second one would not wait for its end. */
static void ask_to_stop(struct control *control)
{
	if (!control->stop_sent)
		kill(getpid(), SIGTERM);
	control->stop_sent = true;
}

static bool take(struct control *control, struct control_request *request, FILE *answer)
{
	struct job *job = calloc(1, sizeof(*job));

	if (!job) {
		control_refuse(answer, EXIT_IO, "out of memory");
		return true;
	}
	job->request = request;
	job->command = request->command;
	job->until_ns = clock_monotonic_ns() + request->timeout_ns;
	request->job = job;
	job_append(control, job);
	if (job->command == CONTROL_STOP) {
		ask_to_stop(control);
		return false;
	}
	atomic_store(job->command == CONTROL_CHECKPOINT ? &control->checkpoint_asked
							: &control->asked,
		     true);
	checkpoints_notify(control->rt);
	return false;
}

static bool ask(void *arg, struct control_request *request, FILE *answer)
{
	struct control *control = arg;
	const char *why;
	bool answered = true;
	int code;

	pthread_mutex_lock(&control->lock);
	why = refusal(control, request, &code);
	if (why)
		control_refuse(answer, code, "%s", why);
	else if (request->command == CONTROL_STATUS)
		answer_status(control, answer);
	else if (request->command == CONTROL_METRICS)
		answer_metrics(control, answer);
	else
		answered = take(control, request, answer);
	pthread_mutex_unlock(&control->lock);
	return answered;
}

/* With the lock: why it took too long. */
static void tell_late(struct control *control, const struct job *job, FILE *answer)
{
	double asked = (double)job->request->timeout_ns / 1e9;
	struct moment moment;

	describe(control, &moment);
	if (job->command == CONTROL_STOP)
		control_refuse(answer, EXIT_IMAGE_IN_USE,
			       "it was asked to stop, and has not ended within %.3g s", asked);
	else if (job->state == JOB_RESTS)
		control_refuse(answer, EXIT_IMAGE_IN_USE,
			       "it takes longer than %.3g s, and is not over", asked);
	else if (job->state == JOB_WAITS)
		control_refuse(
			answer, EXIT_IMAGE_IN_USE,
			"%s, but not durable within %.3g s: it will be, unless a checkpoint fails",
			job->command == CONTROL_EVAL ? "the code has run" : "it has begun", asked);
	else if (job->state == JOB_BEGUN)
		control_refuse(
			answer, EXIT_IMAGE_IN_USE,
			"the code has begun, and has no result after %.3g s: it is not waited "
			"for any more, what it did stays",
			asked);
	else if (moment.state == NUMBERS_STOPPED)
		control_refuse(answer, EXIT_IMAGE_IN_USE,
			       "nothing was done within %.3g s: a signal has stopped the program "
			       "(SIGCONT lets it go on)",
			       asked);
	else if (moment.state == NUMBERS_IN_TURN)
		control_refuse(answer, EXIT_IMAGE_IN_USE,
			       "nothing was done within %.3g s: the program is in a turn that has "
			       "lasted for %.3g s, and this waits for its end",
			       asked, (double)moment.state_ns / 1e9);
	else
		control_refuse(answer, EXIT_IMAGE_IN_USE, "nothing was done within %.3g s", asked);
}

static bool give_up(void *arg, struct control_request *request, FILE *answer)
{
	struct control *control = arg;
	struct job *job;

	pthread_mutex_lock(&control->lock);
	job = request->job;
	if (answer && job)
		tell_late(control, job, answer);
	else if (answer)
		control_refuse(answer, EXIT_IMAGE_IN_USE, "it has just been answered");
	request->job = NULL;
	if (job)
		job->request = NULL;
	if (job && (job->state == JOB_QUEUED))
		job_free(control, job);
	else if (job && job->state == JOB_BEGUN && control->rt) {
		atomic_store(&control->asked, true);
		checkpoints_notify(control->rt);
	}
	pthread_mutex_unlock(&control->lock);
	return job;
}

/* ---- The life of a supervisor */

int control_open(const struct control_options *options, struct control **control,
		 struct thaw_error *error)
{
	struct control *made = calloc(1, sizeof(*made));
	const struct control_ops ops = {.arg = made, .ask = ask, .give_up = give_up};
	struct http *http = NULL;
	struct thaw_error why;
	int code;

	*control = NULL;
	if (!made)
		return failure(error, -ENOMEM, "out of memory");
	pthread_mutex_init(&made->lock, NULL);
	made->kind = "run";
	code = options->metrics ? http_open(options->metrics, &http, error) : 0;
	if (code) {
		control_free(made);
		return code;
	}
	if (http) {
		http_answer_with(http, serve_metrics, made);
		if (!options->quiet)
			fprintf(stderr, "thaw: metrics are at %s\n", http_address(http));
	}
	code = control_server_open(&ops, http, &made->server, &why);
	if (code && options->metrics) {
		control_free(made);
		return failure(error, code, "metrics cannot be served: %s", why.text);
	}
	/* Without it the program runs as well, and nobody can talk to it. */
	if (code && options->verbose)
		fprintf(stderr, "thaw: thaw ctl cannot reach this program: %s\n", why.text);
	*control = made;
	return 0;
}

void control_free(struct control *control)
{
	control_server_close(control->server);
	pthread_mutex_destroy(&control->lock);
	free(control->image);
	free(control->program);
	free(control);
}

static void write_ended(FILE *to, const struct job *job, const void *what)
{
	const struct control *control = what;
	struct json json = control_well(to);

	(void)job;
	json_number(&json, "exitCode", (uint64_t)control->exit_code);
	json_number(&json, "generation", atomic_load(&control->counters.generation));
	json_close(&json, '}');
}

void control_close(struct control *control, int exit_code)
{
	if (!control)
		return;
	pthread_mutex_lock(&control->lock);
	control->exit_code = exit_code;
	while (control->jobs) {
		struct job *job = control->jobs;

		if (job->command == CONTROL_STOP)
			control_answer(control, job, write_ended, control);
		else
			control_answer_refused(control, job, EXIT_IMAGE_IN_USE,
					       "the program has ended, with exit code %d",
					       exit_code);
	}
	pthread_mutex_unlock(&control->lock);
	control_free(control);
}

/* ---- The life of a runtime */

bool control_gives_way(struct runtime *rt)
{
	struct control *control = rt->options.control;

	if (!control || !control->server)
		return false;
	control_server_close(control->server);
	control->server = NULL;
	return true;
}

void control_attach(struct runtime *rt)
{
	struct control *control = rt->options.control;
	const char *name = rt->options.script ? rt->options.script : rt->type->name(rt->guest);
	struct thaw_status status;
	struct stat image;
	char id[CONTROL_ID_ROOM] = "", *path;
	bool same;

	if (!control || !control->server || !rt->options.image)
		return;
	thaw_status(rt->heap, &status);
	if (!stat(rt->options.image, &image))
		control_id(&image, id);
	path = realpath(rt->options.image, NULL);
	pthread_mutex_lock(&control->lock);
	same = path && control->image && !strcmp(path, control->image) && !strcmp(id, control->id);
	control->rt = rt;
	control->options = rt->options;
	control->kind = rt->type->process ? "exec" : "run";
	control->restores = rt->guest->common.restores;
	control->started_ns = clock_wall_ns();
	control->counted_ns = clock_monotonic_ns();
	free(control->image);
	free(control->program);
	control->image = path;
	control->program = name ? strdup(name) : NULL;
	memcpy(control->id, id, sizeof(id));
	atomic_store(&control->counters.generation, status.generation);
	atomic_store(&control->counters.generation_time_ns, status.generation_time_ns);
	atomic_fetch_add(&control->counters.starts, 1);
	if (!same) /* before anybody is answered who may ask again */
		control_server_listen(control->server, rt->options.image, id);
	control_jobs_resumed(control);
	pthread_mutex_unlock(&control->lock);
}

void control_detach(struct runtime *rt)
{
	struct control *control = rt->options.control;
	struct job *job, *next;

	if (!control || control->rt != rt)
		return;
	pthread_mutex_lock(&control->lock);
	add_served(&control->before, rt);
	control->rt = NULL;
	control->waiting = 0;
	for (job = control->jobs; job; job = next) {
		next = job->next;
		if (job->command != CONTROL_STOP && job->state != JOB_RESTS)
			control_answer_refused(
				control, job, EXIT_IMAGE_IN_USE,
				job->state == JOB_QUEUED
					? "the program has ended before it was done"
					: "the program has ended before it was durable");
	}
	pthread_mutex_unlock(&control->lock);
}
