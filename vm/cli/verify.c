/* SPDX-License-Identifier: MIT */
/*
 * verify.c - thaw verify: every byte that any retained generation reaches is read and checked.
 * Writes nothing to the image; the image may be in use.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"

struct verification {
	bool bar; /* stderr is a terminal */
	bool bar_shown;
	uint64_t bar_time_ns;
	bool as_json;
	struct json json;
};

static uint64_t monotonic_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

static void bar_clear(struct verification *verification)
{
	if (verification->bar_shown)
		fputs("\r\033[K", stderr);
	verification->bar_shown = false;
}

static int progress(void *arg, uint64_t done, uint64_t total)
{
	struct verification *verification = arg;
	uint64_t now = monotonic_ns();
	char bar[31];
	unsigned filled;

	if (!verification->bar || now - verification->bar_time_ns < 100000000)
		return 0;
	verification->bar_time_ns = now;
	verification->bar_shown = true;
	if (total < done)
		total = done;
	filled = total ? (unsigned)((double)done / (double)total * 30) : 0;
	memset(bar, '.', 30);
	memset(bar, '#', filled);
	bar[30] = '\0';
	fprintf(stderr, "\r\033[Kverify [%s] %s of %s", bar, format_bytes(done).s,
		format_bytes(total).s);
	fflush(stderr);
	return 0;
}

static void damage_json(struct json *json, const struct thaw_damage *damage)
{
	json_open(json, NULL, '{');
	json_number(json, "generation", damage->generation);
	json_number(json, "firstPage", damage->first_page);
	json_number(json, "pages", damage->pages);
	json_number(json, "offset", damage->offset);
	json_number(json, "bytes", damage->bytes);
	json_text(json, "what", damage->what);
	json_close(json, '}');
}

static void damage(void *arg, const struct thaw_damage *damage)
{
	struct verification *verification = arg;

	bar_clear(verification);
	if (verification->as_json) {
		damage_json(&verification->json, damage);
		return;
	}
	if (damage->generation)
		printf("generation %llu", (unsigned long long)damage->generation);
	else
		printf("header");
	if (damage->pages == 1)
		printf(", page %llu", (unsigned long long)damage->first_page);
	else if (damage->pages)
		printf(", pages %llu to %llu", (unsigned long long)damage->first_page,
		       (unsigned long long)(damage->first_page + damage->pages - 1));
	printf(": %s (%llu bytes at offset %llu)\n", damage->what,
	       (unsigned long long)damage->bytes, (unsigned long long)damage->offset);
}

static void summary_json(struct json *json, const struct thaw_verify_summary *summary, bool ok)
{
	json_close(json, ']');
	json_bool(json, "ok", ok);
	json_number(json, "generations", summary->generations);
	json_number(json, "pages", summary->pages);
	json_number(json, "nodes", summary->nodes);
	json_number(json, "bytes", summary->bytes);
	json_close(json, '}');
	putchar('\n');
}

static int verify(const struct cli_options *options, int operand_count, char **operands)
{
	struct verification verification = {.bar = isatty(STDERR_FILENO) && !options->quiet,
					    .as_json = options->json,
					    .json = {.to = stdout}};
	struct thaw_verify_ops ops = {.progress = progress, .damage = damage, .arg = &verification};
	struct thaw_verify_summary summary = {0};
	struct thaw_error error = {0};
	int code;

	(void)operand_count;
	if (options->json) {
		json_open(&verification.json, NULL, '{');
		json_text(&verification.json, "image", operands[0]);
		json_open(&verification.json, "damages", '[');
	}
	code = thaw_image_verify(operands[0], &ops, &summary, &error);
	bar_clear(&verification);
	if (options->json)
		summary_json(&verification.json, &summary, code == 0);
	if (code == THAW_EDAMAGED && summary.damages)
		return cli_fail(EXIT_IMAGE_DAMAGED, "%s: %s damaged %s", operands[0],
				format_count(summary.damages).s,
				summary.damages == 1 ? "place" : "places");
	if (code < 0)
		return cli_fail_error(&error, code);
	if (!options->json)
		printf("ok: %s %s, %s %s, %s checked\n", format_count(summary.generations).s,
		       summary.generations == 1 ? "generation" : "generations",
		       format_count(summary.pages).s, summary.pages == 1 ? "page" : "pages",
		       format_bytes(summary.bytes).s);
	return 0;
}

static const struct cli_option verify_options[] = {
	CLI_JSON,
	{"quiet", 'q', NULL, CLI_FLAG, CLI_FIELD(quiet), "no progress bar on a terminal"},
	CLI_HELP,
	{0},
};

const struct cli_command command_verify = {
	.name = "verify",
	.synopsis = "[options] IMAGE",
	.summary = "read and check every byte of an image",
	.description =
		"Checks headers, indexes and pages of every retained generation against their checksums.\n"
		"Prints 'ok: ...' and exits 0, or one line for each damaged place and exits 65.",
	.examples = "  thaw verify app.thaw\n"
		    "  thaw verify app.thaw && cp app.thaw /backup/\n",
	.options = verify_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = verify,
};
