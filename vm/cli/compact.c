/* SPDX-License-Identifier: MIT */
/*
 * compact.c - thaw compact: rewrites an image without its free space. The image must not be in use.
 */
#include "areas.h"
#include "ctl.h"
#include "store.h"

static void print_json(const char *image, const struct thaw_copy_summary *summary)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "image", image);
	json_number(&json, "generations", summary->generations);
	json_number(&json, "newest", summary->newest);
	json_number(&json, "names", summary->names);
	json_number(&json, "generationsDropped", summary->generations_lost);
	json_number(&json, "namesDropped", summary->names_lost);
	json_number(&json, "pages", summary->pages);
	json_number(&json, "bytesBefore", summary->bytes_before);
	json_number(&json, "bytesAfter", summary->bytes_after);
	json_close(&json, '}');
	putchar('\n');
}

static void print_words(const char *image, const struct thaw_copy_summary *summary)
{
	printf("%s: %s before, %s after; %s %s, %s %s\n", image,
	       format_bytes(summary->bytes_before).s, format_bytes(summary->bytes_after).s,
	       format_count(summary->generations).s,
	       summary->generations == 1 ? "generation" : "generations",
	       format_count(summary->pages).s, summary->pages == 1 ? "page" : "pages");
	if (summary->generations_lost)
		printf("dropped: %s %s, %s %s\n", format_count(summary->generations_lost).s,
		       summary->generations_lost == 1 ? "generation" : "generations",
		       format_count(summary->names_lost).s,
		       summary->names_lost == 1 ? "name" : "names");
}

/* What is not encrypted of a process has to be authenticated: it could not be continued. */
static bool holds_process(const char *path)
{
	struct thaw_image *image;
	bool process;

	if (thaw_image_open(path, &image, NULL))
		return false; /* why, compacting will tell */
	process = image_is_process(image);
	thaw_image_close(image);
	return process;
}

static int compact(const struct cli_options *options, int operand_count, char **operands)
{
	struct progress bar;
	const struct thaw_copy_ops ops = {.progress = progress_show, .arg = &bar};
	struct thaw_copy_summary summary;
	struct thaw_error error = {0};
	unsigned tries = 0, compress;
	bool taken;
	unsigned flags = (options->newest ? THAW_COMPACT_NEWEST : 0) |
			 (options->encrypt ? THAW_COMPACT_ENCRYPT : 0) |
			 (options->decrypt ? THAW_COMPACT_DECRYPT : 0);
	int code;

	(void)operand_count;
	code = cli_whole(operands[0], true);
	if (code)
		return code;
	if (options->encrypt && options->decrypt)
		return cli_fail(EXIT_USAGE, "--encrypt and --decrypt exclude each other");
	if (cli_compress(options->compress, &compress))
		return EXIT_USAGE;
	if (options->compress)
		flags |= THAW_COMPACT_COMPRESS(compress);
	if (options->decrypt && holds_process(operands[0]))
		flags |= THAW_COMPACT_KEYED;
	progress_begin(&bar, "compact", options);
	interrupt_catch();
	do {
		code = thaw_image_compact(operands[0], flags, &ops, &summary, &error);
		progress_clear(&bar);
	} while (ctl_again(operands[0], code, &tries, &taken) ||
		 (taken && !flags &&
		  (code = ctl_compact(options, operands[0], &tries)) == CTL_ENDED));
	if (taken && options->newest)
		return cli_fail(
			EXIT_IMAGE_IN_USE,
			"%s: its program has it open, and does not drop generations: stop it first",
			operands[0]);
	if (taken && flags)
		return cli_fail(
			EXIT_IMAGE_IN_USE,
			options->compress
				? "%s: its program has it open, and says itself how pages are "
				  "stored: stop it first"
				: "%s: its program has it open, and goes on with the key it has: stop "
				  "it first",
			operands[0]);
	if (taken)
		return code;
	if (code)
		return interrupt_fail(operands[0], &error, code);
	(options->json ? print_json : print_words)(operands[0], &summary);
	return 0;
}

static const struct cli_option compact_options[] = {
	{"newest", 0, NULL, CLI_FLAG, CLI_FIELD(newest),
	 "drop all other generations, and their names"},
	{"encrypt", 0, NULL, CLI_FLAG, CLI_FIELD(encrypt),
	 "so that only a key opens it (thaw key); of one that is: with a new one"},
	{"decrypt", 0, NULL, CLI_FLAG, CLI_FIELD(decrypt), "so that anybody can read it"},
	CLI_COMPRESS("store all pages so (default: as they are)"),
	CLI_JSON,
	CLI_QUIET,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_compact = {
	.name = "compact",
	.synopsis = "[options] IMAGE",
	.summary = "rewrite an image without its free space",
	.description =
		"Copies everything but the free space to a new file and checks every byte. The new file replaces the old\n"
		"one in one step when it is durable; if anything fails before that, the old file is unchanged. Needs space\n"
		"for both. Pages are written in the order in which the last restored program first touched them. With\n"
		"--newest, only the newest generation stays, and the one between turns that it can fall back to.\n"
		"With --encrypt, nothing of a clear image is left in the new file; what the file system still has of the old\n"
		"one (its free blocks, snapshots, backups) is not Thaw's to erase. If it is killed, the old one may be left beside\n"
		"it, as IMAGE.tmp.*, until the image is opened to be written to.\n"
		"With --compress, all pages are stored so from now on; what a program writes later is as it says itself.\n"
		"A program of thaw run that has the image open does it itself, and goes on (thaw ctl).",
	.examples = "  thaw compact app.thaw\n"
		    "  thaw compact --newest app.thaw && scp app.thaw elsewhere:\n",
	.options = compact_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = compact,
};
