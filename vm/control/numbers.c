/* SPDX-License-Identifier: MIT */
/*
 * numbers.c - see numbers.h. The names follow Prometheus' conventions (base units, _total for counters); the format is its text
 * format, version 0.0.4.
 */

#include <string.h>

#include "base/clock.h"
#include "base/json.h"
#include "control/numbers.h"
#include "control/server.h"

/* Upper ends of the buckets, in nanoseconds: 1, 2.5 and 5 of each power of ten, from 100 us on. */
static const uint64_t ends[NUMBERS_BUCKETS] = {
	100000,	  250000,   500000,    1000000,	  2500000,   5000000,	 10000000,
	25000000, 50000000, 100000000, 250000000, 500000000, 1000000000, 5000000000,
};

void histogram_add(struct histogram *histogram, uint64_t ns)
{
	unsigned bucket = 0;

	while (bucket < NUMBERS_BUCKETS && ns > ends[bucket])
		bucket++;
	number_add(&histogram->counts[bucket], 1);
	number_add(&histogram->sum_ns, ns);
	number_set(&histogram->last_ns, ns);
	if (ns > number_get(&histogram->most_ns))
		number_set(&histogram->most_ns, ns);
}

static const char *state_name(enum numbers_state state)
{
	static const char *const names[] = {"starting", "running", "in a turn", "stopped",
					    "ending"};

	return names[state];
}

/* ---- Prometheus */

static void head(FILE *to, const char *name, const char *type, const char *help)
{
	fprintf(to, "# HELP thaw_%s %s\n# TYPE thaw_%s %s\n", name, help, name, type);
}

static void counter(FILE *to, const char *name, const char *help, uint64_t value)
{
	head(to, name, "counter", help);
	fprintf(to, "thaw_%s %llu\n", name, (unsigned long long)value);
}

static void gauge(FILE *to, const char *name, const char *help, uint64_t value)
{
	head(to, name, "gauge", help);
	fprintf(to, "thaw_%s %llu\n", name, (unsigned long long)value);
}

/* Exact: a double has no room for nanoseconds since 1970. */
static void seconds(FILE *to, uint64_t ns)
{
	fprintf(to, "%llu.%09llu", (unsigned long long)(ns / 1000000000u),
		(unsigned long long)(ns % 1000000000u));
}

static void gauge_seconds(FILE *to, const char *name, const char *help, uint64_t ns)
{
	head(to, name, "gauge", help);
	fprintf(to, "thaw_%s ", name);
	seconds(to, ns);
	putc('\n', to);
}

/* The count is that of the buckets, also while one is added. */
static void times(FILE *to, const char *name, const char *help, const struct histogram *histogram)
{
	unsigned long long count = 0;

	head(to, name, "histogram", help);
	for (unsigned i = 0; i <= NUMBERS_BUCKETS; i++) {
		count += number_get(&histogram->counts[i]);
		if (i < NUMBERS_BUCKETS)
			fprintf(to, "thaw_%s_bucket{le=\"%g\"} %llu\n", name, (double)ends[i] / 1e9,
				count);
		else
			fprintf(to, "thaw_%s_bucket{le=\"+Inf\"} %llu\n", name, count);
	}
	fprintf(to, "thaw_%s_sum ", name);
	seconds(to, number_get(&histogram->sum_ns));
	fprintf(to, "\nthaw_%s_count %llu\n", name, count);
}

/* Escaped as the value of a label, behind what JSON escapes: a quote, a backslash and a newline. */
static void label(FILE *to, const char *name, const char *value)
{
	fprintf(to, "%s=\"", name);
	for (; *value; value++) {
		if (*value == '"' || *value == '\\')
			putc('\\', to);
		if (*value == '\n')
			fputs("\\n", to);
		else
			putc(*value, to);
	}
	putc('"', to);
}

static uint64_t age_ns(uint64_t wall_ns)
{
	uint64_t now = clock_wall_ns();

	return wall_ns && now > wall_ns ? now - wall_ns : 0;
}

static void of_program(const struct counters *counters, const struct moment *moment, FILE *to)
{
	head(to, "build_info", "gauge", "The version of Thaw, and what kind of program it runs.");
	fputs("thaw_build_info{", to);
	label(to, "version", THAW_VERSION);
	putc(',', to);
	label(to, "kind", moment->kind);
	fputs("} 1\n", to);
	gauge_seconds(to, "start_timestamp_seconds",
		      "When the program was started or restored last, since 1970.",
		      moment->started_ns);
	gauge_seconds(to, "turn_seconds",
		      "How long the turn under way has lasted; 0 between turns.",
		      moment->state == NUMBERS_IN_TURN ? moment->state_ns : 0);
	gauge(to, "stopped", "1 while a signal has stopped the program.",
	      moment->state == NUMBERS_STOPPED);
	counter(to, "starts_total", "Starts of the program by this supervisor, restarts included.",
		number_get(&counters->starts));
	counter(to, "restarts_total", "Of these, how often it was started again.",
		number_get(&counters->starts) ? number_get(&counters->starts) - 1 : 0);
	counter(to, "restores_total", "How often the program was restored in its life.",
		moment->restores);
}

static void of_generations(const struct counters *counters, const struct moment *moment, FILE *to)
{
	uint64_t time_ns = number_get(&counters->generation_time_ns);

	gauge(to, "generation", "The newest durable generation; 0: none yet.",
	      number_get(&counters->generation));
	gauge_seconds(to, "generation_timestamp_seconds", "When it was captured, since 1970.",
		      time_ns);
	gauge_seconds(to, "generation_age_seconds", "How long ago that was.", age_ns(time_ns));
	gauge_seconds(to, "interval_seconds", "The interval of checkpoints; 0: on request only.",
		      moment->every_ns);
	counter(to, "checkpoints_total", "Generations made durable.",
		number_get(&counters->checkpoints));
	counter(to, "checkpoint_failures_total", "Checkpoints that failed.",
		number_get(&counters->failed));
	gauge(to, "checkpoints_failing", "How many have failed in a row, up to now.",
	      number_get(&counters->failing));
	times(to, "pause_seconds", "How long the program stood still for a generation.",
	      &counters->pause);
	times(to, "durable_seconds", "From the beginning of a checkpoint until it was durable.",
	      &counters->durable);
	counter(to, "written_bytes_total", "Bytes written to the image.",
		number_get(&counters->written_bytes));
	counter(to, "dirty_bytes_total", "Bytes of the pages that the program has written.",
		number_get(&counters->dirty_pages) * moment->page_bytes);
	counter(to, "stored_bytes_total", "Of these, bytes of pages whose contents had changed.",
		number_get(&counters->stored_pages) * moment->page_bytes);
}

/* One time series, or none: a program without a replica has no number of it. */
static void of_replica(const struct numbers_replica *replica, FILE *to)
{
	if (!replica->place)
		return;
	head(to, "replica_info", "gauge", "The object store that has a copy of the image.");
	fputs("thaw_replica_info{", to);
	label(to, "place", replica->place);
	putc(',', to);
	label(to, "durable", replica->durable ? "remote" : "local");
	fputs("} 1\n", to);
	gauge(to, "replica_generation", "The newest generation that the store has.",
	      replica->generation);
	gauge_seconds(to, "replica_behind_seconds",
		      "For how long the store has not had the newest generation; 0: it has it.",
		      replica->behind_ns);
	gauge_seconds(to, "replica_lag_seconds",
		      "From when the newest that it has was in the image to when it was there.",
		      replica->lag_ns);
	gauge_seconds(to, "replica_outage_seconds",
		      "For how long the store has not answered; 0: it does.", replica->outage_ns);
	gauge(to, "replica_fenced", "1 once another program continues the store.",
	      !strcmp(replica->state, "fenced"));
	gauge(to, "replica_failed", "1 once replication cannot go on.",
	      !strcmp(replica->state, "failed"));
	gauge(to, "replica_epoch", "How often the store was taken over.", replica->epoch);
	counter(to, "replica_records_total", "Records put since the start.", replica->records);
	counter(to, "replica_objects_total", "Other objects put since the start.",
		replica->objects);
	counter(to, "replica_requests_total", "Requests to the store.", replica->requests);
	counter(to, "replica_sent_bytes_total", "Bytes sent to the store.", replica->bytes_sent);
	gauge(to, "replica_stored_bytes", "Bytes of the objects that the newest record needs.",
	      replica->bytes_stored);
	gauge(to, "replica_stored_objects", "How many these are.", replica->objects_stored);
	gauge(to, "replica_missing_bytes",
	      "Of an image that lives in the store: what has not arrived here yet.",
	      replica->missing_bytes);
	counter(to, "replica_needed_total", "Requests to the store that somebody waited for.",
		replica->needed);
}

void numbers_metrics(const struct counters *counters, const struct moment *moment, FILE *to)
{
	of_program(counters, moment, to);
	of_generations(counters, moment, to);
	counter(to, "faults_total", "Page faults that were answered.", moment->served.faults);
	counter(to, "restored_bytes_total", "Bytes of pages that have arrived from the image.",
		moment->served.pages_restored * moment->page_bytes);
	counter(to, "read_bytes_total", "Bytes read from the image for them.",
		moment->served.restore_bytes);
	counter(to, "unreadable_pages_total", "Pages of the image that could not be read.",
		moment->served.pages_poisoned);
	gauge(to, "held_output_bytes", "Output that waits until its cause is durable.",
	      moment->held_bytes);
	gauge_seconds(to, "held_output_age_seconds",
		      "How long the oldest of it that no capture has was held.", moment->held_ns);
	of_replica(&moment->replica, to);
}

/* ---- Status */

static void json_histogram(struct json *json, const char *last, const char *most,
			   const struct histogram *histogram)
{
	json_number(json, last, number_get(&histogram->last_ns));
	json_number(json, most, number_get(&histogram->most_ns));
}

static void json_maybe(struct json *json, const char *key, const char *text)
{
	if (text && *text)
		json_text(json, key, text);
	else
		json_raw(json, key, "null");
}

static uint64_t per_second(uint64_t bytes, uint64_t ns)
{
	return ns ? (uint64_t)((double)bytes * 1e9 / (double)ns) : 0;
}

static void json_generations(const struct counters *counters, const struct moment *moment,
			     struct json *json)
{
	uint64_t dirty = number_get(&counters->dirty_pages) * moment->page_bytes;

	json_number(json, "generation", number_get(&counters->generation));
	json_number(json, "generationAgeNs", age_ns(number_get(&counters->generation_time_ns)));
	json_number(json, "everyNs", moment->every_ns);
	json_number(json, "checkpoints", number_get(&counters->checkpoints));
	json_number(json, "checkpointsFailed", number_get(&counters->failed));
	json_number(json, "checkpointsFailing", number_get(&counters->failing));
	json_maybe(json, "checkpointError", moment->failure);
	json_histogram(json, "pauseNs", "pauseNsMax", &counters->pause);
	json_histogram(json, "durableNs", "durableNsMax", &counters->durable);
	json_number(json, "bytesWritten", number_get(&counters->written_bytes));
	json_number(json, "dirtyBytes", dirty);
	json_number(json, "dirtyBytesPerSecond",
		    per_second(dirty, number_get(&counters->dirty_ns)));
}

static void json_replica(const struct numbers_replica *replica, struct json *json)
{
	if (!replica->place) {
		json_raw(json, "replica", "null");
		return;
	}
	json_open(json, "replica", '{');
	json_text(json, "place", replica->place);
	json_text(json, "state", replica->state);
	json_text(json, "durable", replica->durable ? "remote" : "local");
	json_number(json, "generation", replica->generation);
	json_number(json, "behindNs", replica->behind_ns);
	json_number(json, "lagNs", replica->lag_ns);
	json_number(json, "outageNs", replica->outage_ns);
	json_number(json, "epoch", replica->epoch);
	json_number(json, "record", replica->record);
	json_number(json, "records", replica->records);
	json_number(json, "objects", replica->objects);
	json_number(json, "requests", replica->requests);
	json_number(json, "bytesSent", replica->bytes_sent);
	json_number(json, "objectsStored", replica->objects_stored);
	json_number(json, "bytesStored", replica->bytes_stored);
	json_number(json, "missingBytes", replica->missing_bytes);
	json_number(json, "needed", replica->needed);
	json_number(json, "waiting", replica->waiting);
	json_maybe(json, "error", replica->why);
	json_close(json, '}');
}

void numbers_status(const struct counters *counters, const struct moment *moment, FILE *to)
{
	struct json json = control_well(to);
	uint64_t starts = number_get(&counters->starts);

	json_number(&json, "protocol", CONTROL_PROTOCOL);
	json_text(&json, "version", THAW_VERSION);
	json_text(&json, "kind", moment->kind);
	json_text(&json, "image", moment->image);
	json_text(&json, "imageId", moment->id);
	json_maybe(&json, "program", moment->program);
	json_number(&json, "pid", (uint64_t)moment->pid);
	json_number(&json, "guestPid",
		    (uint64_t)(moment->guest_pid ? moment->guest_pid : moment->pid));
	json_text(&json, "state", state_name(moment->state));
	json_number(&json, "stateNs", moment->state_ns);
	json_number(&json, "upNs", age_ns(moment->started_ns));
	json_generations(counters, moment, &json);
	json_number(&json, "faults", moment->served.faults);
	json_number(&json, "pagesRestored", moment->served.pages_restored);
	json_number(&json, "pagesUnreadable", moment->served.pages_poisoned);
	json_number(&json, "restoreBytes", moment->served.restore_bytes);
	json_bool(&json, "commitsOutput", moment->commits_output);
	json_number(&json, "heldBytes", moment->held_bytes);
	json_number(&json, "heldNs", moment->held_ns);
	json_number(&json, "restores", moment->restores);
	json_number(&json, "restarts", starts ? starts - 1 : 0);
	json_replica(&moment->replica, &json);
	json_close(&json, '}');
}
