/* SPDX-License-Identifier: MIT */
/*
 * top.c - thaw top: all running Thaw programs of the machine, refreshed like top(1); or once, or as
 * JSON. It reads /proc, images and what the kernel counts; programs are neither stopped nor asked.
 * One thread.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/array.h"
#include "base/clock.h"
#include "base/failure.h"
#include "top_frame.h"

#define INTERVAL_NS 2000000000u
#define INTERVAL_MIN_NS 100000000u
#define OPERANDS_MAX 1000u

/* ---- Which programs ---- */

static bool operand_means(const struct top_operand *operand, const struct running_program *program)
{
	struct stat status;

	if (operand->pid)
		return operand->pid == program->process.pid;
	return program->inode && !stat(operand->word, &status) && status.st_ino == program->inode &&
	       status.st_dev == program->device;
}

static bool is_wanted(const struct top *top, const struct running_program *program)
{
	for (unsigned i = 0; i < top->operand_count; i++)
		if (operand_means(&top->operands[i], program))
			return true;
	return !top->operand_count;
}

/* Which image a program has may not be known: then it may be any. */
static bool may_be_wanted(const struct top *top, const struct running_program *program)
{
	for (unsigned i = 0; i < top->operand_count && program->descriptor < 0; i++)
		if (!top->operands[i].pid)
			return true;
	return is_wanted(top, program);
}

static int operands_take(struct top *top, unsigned count, char **words)
{
	struct top_operand *operands = calloc(count + 1, sizeof(*operands));

	top->operands = operands;
	if (!operands)
		return cli_fail(EXIT_IO, "out of memory");
	for (unsigned i = 0; i < count; i++) {
		uint64_t pid;

		operands[i].word = words[i];
		top->operand_count++;
		if (parse_number(words[i], &pid) && pid && pid <= INT32_MAX)
			operands[i].pid = (pid_t)pid;
		else if (access(words[i], F_OK))
			return cli_fail(EXIT_NO_INPUT, "%s: %s: name a process or an image",
					words[i], strerror(errno));
	}
	return 0;
}

/* ---- Which order ---- */

static int rows_compare(const void *one, const void *other, void *arg)
{
	const struct sample_row *a = *(const struct sample_row *const *)one;
	const struct sample_row *b = *(const struct sample_row *const *)other;
	const struct top *top = arg;
	const struct top_column *column = top->sort;
	int order;

	if (column->value) {
		double x = column->value(&top->sample, a), y = column->value(&top->sample, b);

		/* What is not known comes last, whichever way. */
		if (isnan(x) || isnan(y)) {
			order = isnan(x) - isnan(y);
			return order ? order : (a->serial > b->serial) - (a->serial < b->serial);
		}
		order = (x > y) - (x < y);
	} else {
		static char cell[TOP_CELL_BYTES], first[TOP_CELL_BYTES];

		/* A text is valid until the next call. */
		snprintf(first, sizeof(first), "%s", column->text(&top->sample, a, cell));
		order = strcmp(first, column->text(&top->sample, b, cell));
	}
	if (!column->ascending != top->reverse)
		order = -order;
	return order ? order : (a->serial > b->serial) - (a->serial < b->serial);
}

void top_sort(struct top *top)
{
	if (top->count)
		qsort_r(top->rows, top->count, sizeof(struct sample_row *), rows_compare, top);
}

int top_refresh(struct top *top, struct thaw_error *error)
{
	struct sample *sample = &top->sample;
	int code = sample_take(sample, error);

	if (code)
		return code;
	top->count = top->closed = 0;
	for (size_t i = 0; i < sample->count; i++) {
		const struct running_program *program = sample->rows[i].program;
		const struct sample_row **rows;

		top->closed += program->descriptor < 0 && may_be_wanted(top, program);
		if (!is_wanted(top, program))
			continue;
		rows = array_grow(top->rows, top->count, &top->room, sizeof(struct sample_row *));
		if (!rows)
			return failure(error, -ENOMEM, "out of memory");
		top->rows = rows;
		rows[top->count++] = &sample->rows[i];
	}
	top_sort(top);
	return 0;
}

/* ---- What is said above the table ---- */

void top_summary(const struct top *top, char *line, size_t room)
{
	const char *time = format_time(top->sample.time_ns).s;

	time = strrchr(time, ' ') ? strrchr(time, ' ') + 1 : time;
	snprintf(line, room, "thaw top - %s, %zu program%s, every %g s, by %s%s%s", time,
		 top->count, top->count == 1 ? "" : "s", (double)top->interval_ns / 1e9,
		 top->sort->title, top->reverse ? " reversed" : "",
		 top->sample.kernel.kmod ? ", with the kernel module" : "");
}

/* Short: a line of a screen. JSON has all of it. */
static const char *why_no_delays(const struct thaw_error *error)
{
	if (error->code == -ENODATA)
		return "kernel.task_delayacct=0; it has to be 1 when programs start";
	if (error->code == -EPERM)
		return "CAP_NET_ADMIN is needed: run as root";
	return error->text;
}

bool top_note(const struct top *top, unsigned n, char *line, size_t room)
{
	const struct sample *sample = &top->sample;

	if (top->closed && !n--) {
		snprintf(line, room, "%zu program%s cannot be looked into: run as root",
			 top->closed, top->closed == 1 ? "" : "s");
		return true;
	}
	if (sample->kernel.no_delays.code && !n--) {
		snprintf(line, room, "no delays: %s", why_no_delays(&sample->kernel.no_delays));
		return true;
	}
	/* That there is no module is the usual case. */
	if (sample->kernel.no_kmod.code && sample->kernel.no_kmod.code != -ENOENT && !n--) {
		snprintf(line, room, "no figures of the kernel module: %s",
			 sample->kernel.no_kmod.text);
		return true;
	}
	return false;
}

/* ---- As JSON ---- */

static void json_known(struct json *json, const char *key, uint64_t number)
{
	if (number == UNKNOWN)
		json_raw(json, key, "null");
	else
		json_number(json, key, number);
}

static void json_text_known(struct json *json, const char *key, const char *text)
{
	if (text)
		json_text(json, key, text);
	else
		json_raw(json, key, "null");
}

static void json_rate(struct json *json, const char *key, double rate)
{
	char text[64];

	snprintf(text, sizeof(text), "%.3f", rate);
	json_raw(json, key, isnan(rate) ? "null" : text);
}

static const char *place_word(const struct running_program *program)
{
	return program->descriptor < 0		 ? NULL
	       : program->place == IMAGE_NAMED	 ? "named"
	       : program->place == IMAGE_REMOVED ? "removed"
						 : "unnamed";
}

static void json_program(struct json *json, const struct sample *sample,
			 const struct sample_row *row)
{
	const struct running_program *program = row->program;
	const struct figures *figures = &row->figures;
	uint64_t uid = program->user == (uid_t)-1 ? UNKNOWN : program->user;

	json_open(json, NULL, '{');
	json_number(json, "pid", (uint64_t)program->process.pid);
	json_number(json, "startTicks", program->process.start_ticks);
	json_known(json, "uid", uid);
	json_text_known(json, "user", uid == UNKNOWN ? NULL : top_user(program->user));
	json_text_known(json, "command", program->command);
	json_text_known(json, "image", program->path);
	json_text_known(json, "replica", row->replica[0] ? row->replica : NULL);
	json_known(json, "imageInode", program->inode ? program->inode : UNKNOWN);
	json_text_known(json, "imageState", place_word(program));
	json_text_known(json, "imageError", row->log.code ? thaw_strerror(row->log.code) : NULL);
	json_known(json, "generation", figures->generation);
	json_known(json, "generationTimeNs", figures->generation_time_ns);
	json_known(json, "generations", figures->generations);
	json_known(json, "heapBytes", figures->heap_bytes);
	json_known(json, "residentBytes", figures->resident_bytes);
	json_known(json, "heapResidentBytes", figures->heap_resident_bytes);
	json_rate(json, "dirtyPagesPerSecond", figures->dirty_pages);
	json_text(json, "dirtyFrom", figures->dirty_by_module ? "module" : "generations");
	json_known(json, "faults", figures->faults);
	json_rate(json, "faultsPerSecond", sample_rate(sample, figures->faults));
	json_known(json, "faultsServedByModule", figures->faults_served);
	json_known(json, "faultsPassedByModule", figures->faults_passed);
	json_known(json, "pauseNs", figures->pause_ns);
	json_known(json, "pauseMeanNs", figures->pause_mean_ns);
	json_known(json, "everyNs", figures->every_ns);
	json_rate(json, "checkpointBytesPerSecond", figures->checkpoint_bytes);
	json_known(json, "blockIoDelayNs", figures->delay_ns[DELAY_BLOCK_IO]);
	json_known(json, "swapInDelayNs", figures->delay_ns[DELAY_SWAP_IN]);
	json_known(json, "thrashingDelayNs", figures->delay_ns[DELAY_THRASHING]);
	json_known(json, "writeProtectCopyDelayNs", figures->delay_ns[DELAY_WRITE_PROTECT_COPY]);
	json_close(json, '}');
}

static void print_json(const struct top *top)
{
	const struct sample *sample = &top->sample;
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_number(&json, "timeNs", sample->time_ns);
	json_known(&json, "intervalNs", sample->interval_ns ? sample->interval_ns : UNKNOWN);
	json_bool(&json, "module", sample->kernel.kmod);
	json_text_known(&json, "noDelays",
			sample->kernel.no_delays.code ? sample->kernel.no_delays.text : NULL);
	json_number(&json, "closed", top->closed);
	json_open(&json, "programs", '[');
	for (size_t i = 0; i < top->count; i++)
		json_program(&json, sample, top->rows[i]);
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

/* ---- Without a screen ---- */

static void sleep_until(uint64_t monotonic_ns)
{
	struct timespec end = {(time_t)(monotonic_ns / 1000000000u),
			       (long)(monotonic_ns % 1000000000u)};

	while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &end, NULL) == EINTR)
		;
}

/* `count` 0: until a signal ends it, or its reader is gone. */
static int print_samples(struct top *top, uint64_t count, bool json)
{
	struct top_frame frame = {0};
	struct thaw_error error = {0};
	int code = top_refresh(top, &error);

	for (uint64_t n = 0; !code && (!count || n < count); n++) {
		sleep_until(top->sample.clock_ns + top->interval_ns);
		code = top_refresh(top, &error);
		if (code)
			break;
		if (json)
			print_json(top);
		else
			top_frame_print(&frame, top, stdout);
		if (!json && n + 1 != count)
			putchar('\n');
		if (cli_output_end())
			return EXIT_IO;
	}
	return code ? cli_fail_error(&error, code) : 0;
}

/* ---- The command ---- */

/* "0.5", as top(1) takes it, or "500ms". */
static bool parse_interval(const char *word, uint64_t *ns)
{
	char *end;
	double seconds;

	if (!parse_duration(word, ns)) {
		if (!isdigit((unsigned char)word[0]) && word[0] != '.')
			return false;
		seconds = strtod(word, &end);
		if (*end || !(seconds < 1e9))
			return false;
		*ns = (uint64_t)(seconds * 1e9);
	}
	return *ns >= INTERVAL_MIN_NS && *ns <= 1000000000u * 1000000000ull;
}

static int unknown_column(const char *word)
{
	const char *names[64], *nearest;
	char list[512] = "";
	unsigned i;

	for (i = 0; i < top_column_count; i++) {
		names[i] = top_columns[i].name;
		snprintf(list + strlen(list), sizeof(list) - strlen(list), "%s%s", i ? ", " : "",
			 names[i]);
	}
	names[i] = NULL;
	nearest = cli_nearest(word, names);
	if (nearest)
		return cli_fail(EXIT_USAGE, "--sort: no column '%s' (did you mean %s?)", word,
				nearest);
	return cli_fail(EXIT_USAGE, "--sort: no column '%s'; there are: %s", word, list);
}

static int top_options(struct top *top, const struct cli_options *options)
{
	const char *sort = options->sort ? options->sort : "dirty";

	top->interval_ns = INTERVAL_NS;
	if (options->interval && !parse_interval(options->interval, &top->interval_ns))
		return cli_fail(EXIT_USAGE,
				"--interval wants seconds, or a time such as 500ms or 2min, from "
				"0.1 s up, not '%s'",
				options->interval);
	top->sort = top_column_named(sort);
	if (!top->sort)
		return unknown_column(sort);
	if (options->once && options->count)
		return cli_fail(EXIT_USAGE, "--once and --count exclude each other");
	return 0;
}

static int top_run(const struct cli_options *options, int operand_count, char **operands)
{
	struct top top = {0};
	uint64_t count = options->once ? 1 : options->count;
	bool screen = !options->once && !options->json && top_screen_possible();
	int code = top_options(&top, options);

	if (!code && options->set)
		return operand_count || options->once || options->count || options->json
			       ? cli_fail(EXIT_USAGE,
					  "--set changes the kernel module, and shows no "
					  "programs: give it alone")
			       : top_set(options->set);
	if (!code)
		code = operands_take(&top, (unsigned)operand_count, operands);
	if (!code && screen)
		code = top_screen_run(&top, count);
	else if (!code)
		code = print_samples(&top, count || options->json ? count : 1, options->json);
	free((void *)top.operands);
	free(top.rows);
	sample_free(&top.sample);
	return code;
}

static const struct cli_option top_options_table[] = {
	{"interval", 'd', "SECONDS", CLI_TEXT, CLI_FIELD(interval),
	 "how long from one refresh to the next: 0.5, 500ms, 2min (default 2)"},
	{"sort", 's', "COLUMN", CLI_TEXT, CLI_FIELD(sort),
	 "pid, user, generation, age, heap, resident, dirty (default), faults, pause, ..."},
	{"count", 'n', "COUNT", CLI_NUMBER, CLI_FIELD(count), "end after so many refreshes"},
	{"once", 0, NULL, CLI_FLAG, CLI_FIELD(once),
	 "one table, of one interval, to stdout (also where that is no terminal)"},
	{"json", 0, NULL, CLI_FLAG, CLI_FIELD(json),
	 "write JSON to stdout, one line for each refresh"},
	{"set", 0, "NAME=NUMBER,...", CLI_TEXT, CLI_FIELD(set),
	 "change the kernel module: cluster-bytes, ring-entries; print both, and end"},
	CLI_HELP,
	{0},
};

const struct cli_command command_top = {
	.name = "top",
	.synopsis = "[options] [PID|IMAGE...]",
	.summary = "the running programs, refreshed like top(1)",
	.description =
		"Shows every process that has an image open for writing, or those that are named. Nothing is asked of them.\n"
		"  GEN, AGE    the newest generation, and how long ago it was captured\n"
		"  HEAP, RES   size of the heap in it; memory of the whole process\n"
		"  DIRTY/s     pages of the heap written: as the generations made since tell, or the kernel module\n"
		"  FAULT/s     page faults of the process, of all kinds\n"
		"  PAUSE MEAN  how long the newest generation stopped the program; mean of those made while watching\n"
		"  EVERY       time from the generation before to the newest one: the interval that is achieved\n"
		"  CKPT/s      bytes that checkpoints wrote to the image\n"
		"  HEAPRES SERVED/s PASSED/s  with the kernel module: memory of the heap; missing pages that it brought,\n"
		"              and left to the program\n"
		"  %IO %SWAP %THR %WPC  time that its threads waited for disks, swap, pages of files that were in memory\n"
		"              not long ago, and copies of write-protected pages, of the interval\n"
		"'-': not known. Keys: q quits, h tells the others.",
	.examples = "  thaw top\n"
		    "  thaw top -d 0.5 app.thaw      one program, twice a second\n"
		    "  thaw top --once --sort pause\n"
		    "  thaw top --json -n 10 | jq '.programs[] | [.pid, .dirtyPagesPerSecond]'\n",
	.options = top_options_table,
	.operands_max = OPERANDS_MAX,
	.run = top_run,
};
