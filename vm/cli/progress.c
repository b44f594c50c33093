/* SPDX-License-Identifier: MIT */
/*
 * progress.c - what the commands that read or write whole images share: a progress bar, a clean end
 * on Ctrl-C, and the printing of damage. One thread.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli.h"

#define SHOWN_AFTER_NS 1000000000u
#define DRAWN_EVERY_NS 100000000u

static volatile sig_atomic_t interrupted; /* the number of the signal; 0: none came */

void progress_begin(struct progress *progress, const char *verb, const struct cli_options *options)
{
	*progress = (struct progress){
		.verb = verb,
		.bar = isatty(STDERR_FILENO) && !options->quiet,
		.begun_ns = clock_monotonic_ns(),
	};
}

int progress_show(void *arg, uint64_t done, uint64_t total)
{
	struct progress *progress = arg;
	uint64_t now = clock_monotonic_ns();
	char bar[31];
	unsigned filled;

	if (!progress->bar || now - progress->begun_ns < SHOWN_AFTER_NS ||
	    now - progress->time_ns < DRAWN_EVERY_NS)
		return interrupted;
	progress->time_ns = now;
	progress->shown = true;
	if (total < done)
		total = done;
	filled = total ? (unsigned)((double)done / (double)total * 30) : 0;
	memset(bar, '.', 30);
	memset(bar, '#', filled);
	bar[30] = '\0';
	fprintf(stderr, "\r\033[K%s [%s] %s of %s", progress->verb, bar, format_bytes(done).s,
		format_bytes(total).s);
	fflush(stderr);
	return interrupted;
}

void progress_clear(struct progress *progress)
{
	if (progress->shown)
		fputs("\r\033[K", stderr);
	progress->shown = false;
}

static void interrupt(int number)
{
	interrupted = number;
}

void interrupt_catch(void)
{
	/* A second signal ends the program at once, as by default. */
	struct sigaction action = {.sa_handler = interrupt, .sa_flags = (int)SA_RESETHAND};
	static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};

	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
		struct sigaction before;

		if (!sigaction(numbers[i], NULL, &before) && before.sa_handler != SIG_IGN)
			sigaction(numbers[i], &action, NULL);
	}
}

int interrupt_fail(const char *image, const struct thaw_error *error, int code)
{
	if (code == -ECANCELED && interrupted)
		return cli_fail(128 + interrupted, "interrupted: nothing was changed");
	return cli_fail_change(image, NULL, error, code);
}

void damage_json(struct json *json, const char *key, const struct thaw_damage *damage)
{
	json_open(json, key, '{');
	json_number(json, "generation", damage->generation);
	json_number(json, "firstPage", damage->first_page);
	json_number(json, "pages", damage->pages);
	json_number(json, "offset", damage->offset);
	json_number(json, "bytes", damage->bytes);
	json_text(json, "what", damage->what);
	json_close(json, '}');
}

void damage_print(const struct thaw_damage *damage)
{
	char what[2 * sizeof(damage->what)];

	if (damage->generation)
		printf("generation %llu", (unsigned long long)damage->generation);
	else
		printf("header");
	if (damage->pages == 1)
		printf(", page %llu", (unsigned long long)damage->first_page);
	else if (damage->pages)
		printf(", pages %llu to %llu", (unsigned long long)damage->first_page,
		       (unsigned long long)(damage->first_page + damage->pages - 1));
	thaw_escape(damage->what, what, sizeof(what));
	printf(": %s (%llu bytes at offset %llu)", what, (unsigned long long)damage->bytes,
	       (unsigned long long)damage->offset);
}
