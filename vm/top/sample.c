/* SPDX-License-Identifier: MIT */
/* sample.c - see sample.h. */
#define _GNU_SOURCE
#include "sample.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "store/sidefile.h"
#include "thaw_process.h"

double sample_rate(const struct sample *sample, uint64_t number)
{
	if (number == UNKNOWN || !sample->interval_ns)
		return NAN;
	return (double)number * 1e9 / (double)sample->interval_ns;
}

/* Of something that only grows: by how much. */
static uint64_t growth(uint64_t before, uint64_t now)
{
	return before == UNKNOWN || now == UNKNOWN || now < before ? UNKNOWN : now - before;
}

/* ---- One program ---- */

/* Is it thaw exec, whose program is another process? */
static bool is_process(const struct image_log *log)
{
	return !log->code && log->listed && log->heap_bytes == THAW_PROCESS_BYTES;
}

static void figures_of_image(const struct sample *sample, struct sample_row *row)
{
	struct figures *figures = &row->figures;
	struct image_log *log = &row->log;
	char path[64];

	if (row->program->descriptor < 0) {
		log->code = -EACCES;
		return;
	}
	program_image(row->program, path);
	image_log_update(log, path);
	if (log->code)
		return;
	if (log->listed) {
		figures->generation = log->generation;
		figures->generation_time_ns = log->time_ns;
		if (!is_process(log)) /* an address space has no size */
			figures->heap_bytes = log->heap_bytes;
		figures->pause_ns = log->pause_ns;
		figures->every_ns = log->every_ns ? log->every_ns : UNKNOWN;
	}
	if (log->pauses)
		figures->pause_mean_ns = log->pauses_ns / log->pauses;
	if (log->looks < 2)
		return;
	figures->generations = log->made;
	if (log->complete) {
		figures->dirty_pages = sample_rate(sample, log->pages_written);
		figures->checkpoint_bytes = sample_rate(sample, log->bytes_written);
	} else if (log->span_ns) {
		figures->dirty_pages = (double)log->pages_written * 1e9 / (double)log->span_ns;
		figures->checkpoint_bytes = (double)log->bytes_written * 1e9 / (double)log->span_ns;
	}
}

static void figures_of_kernel(struct sample *sample, struct sample_row *row)
{
	struct kernel_counts now, *before = &row->counts;
	struct figures *figures = &row->figures;

	kernel_counts_read(&sample->kernel, &sample->programs, row->program, &now);
	for (unsigned i = 0; i < DELAYS; i++)
		figures->delay_ns[i] = growth(before->delay_ns[i], now.delay_ns[i]);
	figures->heap_resident_bytes = now.resident_bytes;
	figures->dirty_by_module = now.region != UNKNOWN;
	if (figures->dirty_by_module) {
		if (now.region != before->region)
			memset(before, 0xff, sizeof(*before));
		figures->faults_served = growth(before->faults_served, now.faults_served);
		figures->faults_passed = growth(before->faults_passed, now.faults_passed);
		figures->dirty_pages =
			sample_rate(sample, growth(before->pages_dirtied, now.pages_dirtied));
	}
	*before = now;
}

static void replica_of(struct sample_row *row)
{
	const struct running_program *program = row->program;
	struct sidefile side;

	row->replica[0] = '\0';
	if (program->place != IMAGE_NAMED || !program->path ||
	    sidefile_read(program->path, &side, NULL))
		return;
	snprintf(row->replica, sizeof(row->replica), "%s%s", side.place,
		 side.incomplete ? " (arriving)" : "");
}

static void row_take(struct sample *sample, struct sample_row *row)
{
	struct figures *figures = &row->figures;
	const struct process *process = &row->program->process;
	struct process guest;

	memset(figures, 0xff, sizeof(*figures)); /* UNKNOWN */
	figures->dirty_pages = figures->checkpoint_bytes = NAN;
	figures_of_image(sample, row);
	replica_of(row);
	figures_of_kernel(sample, row);
	if (is_process(&row->log) && !process_read(process_child(process->pid), &guest))
		process = &guest; /* the other one only serves its memory */
	figures->resident_bytes = process->resident_bytes;
	figures->faults = growth(row->faults, process->faults);
	row->faults = process->faults;
}

/* ---- All of them ---- */

static struct sample_row *row_of(struct sample *sample, uint64_t serial)
{
	for (size_t i = 0; i < sample->count; i++)
		if (sample->rows[i].serial == serial)
			return &sample->rows[i];
	return NULL;
}

static int row_add(struct sample *sample, const struct running_program *program)
{
	struct sample_row *rows =
		array_grow(sample->rows, sample->count, &sample->room, sizeof(*rows));
	struct sample_row *row;

	if (!rows)
		return -ENOMEM;
	sample->rows = rows;
	row = &rows[sample->count++];
	*row = (struct sample_row){.serial = program->serial, .faults = UNKNOWN};
	memset(&row->counts, 0xff, sizeof(row->counts));
	return 0;
}

/* A row for each program, and none for those that have ended. */
static int rows_match(struct sample *sample)
{
	const struct programs *programs = &sample->programs;
	size_t kept = 0;

	for (size_t i = 0; i < sample->count; i++)
		sample->rows[i].program = NULL;
	for (size_t i = 0; i < programs->count; i++) {
		struct running_program *program = programs->list[i];
		struct sample_row *row = row_of(sample, program->serial);

		if (!row && row_add(sample, program))
			return -ENOMEM;
		row = row ? row : &sample->rows[sample->count - 1];
		row->program = program;
	}
	for (size_t i = 0; i < sample->count; i++)
		if (sample->rows[i].program)
			sample->rows[kept++] = sample->rows[i];
	sample->count = kept;
	return 0;
}

int sample_take(struct sample *sample, struct thaw_error *error)
{
	int code = programs_update(&sample->programs);
	uint64_t now = clock_monotonic_ns();

	if (!code)
		code = rows_match(sample);
	if (code)
		return failure(error, code, "cannot find the running programs in /proc: %s",
			       thaw_strerror(code));
	sample->interval_ns = sample->clock_ns ? now - sample->clock_ns : 0;
	sample->clock_ns = now;
	sample->time_ns = clock_wall_ns();
	kernel_source_update(&sample->kernel);
	for (size_t i = 0; i < sample->count; i++)
		row_take(sample, &sample->rows[i]);
	return 0;
}

void sample_free(struct sample *sample)
{
	free(sample->rows);
	programs_free(&sample->programs);
	kernel_source_free(&sample->kernel);
	*sample = (struct sample){0};
}
