/* SPDX-License-Identifier: MIT */
/*
 * key.c - thaw key: what opens an encrypted image. The image must not be in use: its program has the slots in memory.
 */
#include <errno.h>
#include <sodium.h>
#include <string.h>

#include "base/failure.h"
#include "cli.h"
#include "policy/key.h"
#include "policy/passphrase.h"

static const char *const kinds[] = {
	[THAW_KEY_NONE] = "",
	[THAW_KEY_USER] = "your key",
	[THAW_KEY_FILE] = "key file",
	[THAW_KEY_PASSPHRASE] = "passphrase",
};

static const char *kind_of(const struct thaw_key_slot *slot)
{
	return slot->kind <= THAW_KEY_PASSPHRASE ? kinds[slot->kind] : "?";
}

/* So many of the slots are used; 0: it is not encrypted. Or a code, with `error`. */
static int used_slots(const char *image, struct thaw_key_slot slots[THAW_KEY_SLOTS],
		      struct thaw_error *error)
{
	int code = thaw_image_keys(image, slots, error), used = 0;

	for (unsigned i = 0; !code && i < THAW_KEY_SLOTS; i++)
		used += slots[i].kind != THAW_KEY_NONE;
	return code ? code : used;
}

/* ---- list */

static void list_json(const char *image, const struct thaw_key_slot *slots)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "image", image);
	json_open(&json, "keys", '[');
	for (unsigned i = 0; i < THAW_KEY_SLOTS; i++) {
		if (slots[i].kind == THAW_KEY_NONE)
			continue;
		json_open(&json, NULL, '{');
		json_number(&json, "slot", i);
		json_text(&json, "kind", kind_of(&slots[i]));
		json_text(&json, "name", slots[i].name);
		json_number(&json, "addedNs", slots[i].time_ns);
		if (slots[i].kind == THAW_KEY_PASSPHRASE) {
			json_number(&json, "passes", slots[i].passes);
			json_number(&json, "memoryBytes", slots[i].memory);
		}
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

static void list_words(const struct thaw_key_slot *slots)
{
	struct table table;

	table_init(&table, "rlll");
	table_cell(&table, "slot");
	table_cell(&table, "kind");
	table_cell(&table, "added");
	table_cell(&table, "name");
	for (unsigned i = 0; i < THAW_KEY_SLOTS; i++) {
		char number[8];

		if (slots[i].kind == THAW_KEY_NONE)
			continue;
		snprintf(number, sizeof(number), "%u", i);
		table_cell(&table, number);
		table_cell(&table, kind_of(&slots[i]));
		table_cell(&table, format_time(slots[i].time_ns).s);
		table_cell(&table, slots[i].name);
	}
	table_print(&table, stdout);
}

static int list(const struct cli_options *options, const char *image)
{
	struct thaw_key_slot slots[THAW_KEY_SLOTS];
	struct thaw_error error = {0};
	int used = used_slots(image, slots, &error);

	if (used < 0)
		return cli_fail_error(&error, used);
	if (options->json)
		list_json(image, slots);
	else if (used)
		list_words(slots);
	else
		printf("%s is not encrypted\n", image);
	return 0;
}

/* ---- add */

/* Asked for twice: a mistake would be noticed when it is too late. Its length, or a code with `error`. */
static int ask_twice(char *passphrase, struct thaw_error *error)
{
	char *again = sodium_malloc(THAW_PASSPHRASE_BYTES);
	int first, second;

	if (!again)
		return -ENOMEM;
	first = passphrase_ask("New passphrase: ", passphrase, THAW_PASSPHRASE_BYTES, error);
	second = first <= 0 ? first
			    : passphrase_ask("The same once more: ", again, THAW_PASSPHRASE_BYTES,
					     error);
	if (!second)
		second = failure(error, -EINVAL, "an empty passphrase opens nothing");
	else if (second > 0 && (second != first || memcmp(passphrase, again, (size_t)first)))
		second = failure(error, -EINVAL, "these are two passphrases");
	sodium_free(again);
	return second;
}

static int add_passphrase(const char *image, const char *name, struct thaw_error *error)
{
	char *passphrase = sodium_init() < 0 ? NULL : sodium_malloc(THAW_PASSPHRASE_BYTES);
	int bytes = passphrase ? ask_twice(passphrase, error) : -ENOMEM;
	const struct thaw_key_secret secret = {THAW_KEY_PASSPHRASE, passphrase, (size_t)bytes,
					       name};
	int code = bytes < 0 ? bytes : thaw_image_key_add(image, &secret, error);

	sodium_free(passphrase);
	return code;
}

/* `file` NULL: the user's. */
static int add_key(const char *image, const char *file, const char *name, struct thaw_error *error)
{
	struct key *key = key_new();
	struct thaw_key_secret secret = {file ? THAW_KEY_FILE : THAW_KEY_USER, NULL, THAW_KEY_BYTES,
					 name};
	int code = -ENOMEM;

	if (key)
		code = file ? key_load_file(file, true, key, error) : key_load(true, key, error);
	if (!code) {
		secret.bytes = key->bytes;
		code = thaw_image_key_add(image, &secret, error);
	}
	key_free(key);
	return code;
}

static int add(const struct cli_options *options, const char *image)
{
	const char *file = options->key_file;
	struct thaw_error error = {0};
	char path[PATH_MAX];
	int code;

	if (options->passphrase && file)
		return cli_fail(EXIT_USAGE, "--passphrase and --file are two keys: add one");
	if (file && cli_key_path("--file", file, path))
		return EXIT_USAGE;
	code = options->passphrase ? add_passphrase(image, options->name, &error)
				   : add_key(image, file ? path : NULL, options->name, &error);
	if (code < 0)
		return cli_fail_change(image, NULL, &error, code);
	printf("slot %d of %s has it\n", code, image);
	return 0;
}

/* ---- remove, rotate */

static int take_away(const char *image, const char *word)
{
	struct thaw_error error = {0};
	int code;

	if (!word || word[0] < '0' || word[0] > '7' || word[1])
		return cli_fail(EXIT_USAGE,
				"which slot? a number from 0 to 7 (see thaw key %s list)", image);
	code = thaw_image_key_remove(image, (unsigned)(word[0] - '0'), &error);
	if (code)
		return cli_fail_change(image, NULL, &error, code);
	printf("slot %s of %s is free\n", word, image);
	return 0;
}

static int rotate(const char *image)
{
	struct thaw_key_slot slots[THAW_KEY_SLOTS];
	struct thaw_copy_summary summary;
	struct thaw_error error = {0};
	int code = used_slots(image, slots, &error);

	if (!code)
		return cli_fail(EXIT_USAGE, "%s is not encrypted: thaw compact --encrypt", image);
	if (code > 0)
		code = thaw_image_compact(image, THAW_COMPACT_ENCRYPT, NULL, &summary, &error);
	if (code)
		return cli_fail_change(image, NULL, &error, code);
	printf("%s has another key, in the same slots\n", image);
	return 0;
}

static int key(const struct cli_options *options, int count, char **operands)
{
	const char *image = operands[0], *what = count > 1 ? operands[1] : "list";

	if (count > 2 && strcmp(what, "remove"))
		return cli_fail(EXIT_USAGE, "'%s' is one argument too many; see thaw key --help",
				operands[2]);
	if (!strcmp(what, "list"))
		return list(options, image);
	if (!strcmp(what, "add"))
		return add(options, image);
	if (!strcmp(what, "remove"))
		return take_away(image, count > 2 ? operands[2] : NULL);
	if (!strcmp(what, "rotate"))
		return rotate(image);
	return cli_fail(EXIT_USAGE, "what shall be done? list, add, remove or rotate, not '%s'",
			what);
}

static const struct cli_option key_options[] = {
	{"passphrase", 0, NULL, CLI_FLAG, CLI_FIELD(passphrase), "add: a passphrase, asked for"},
	{"file", 0, "FILE", CLI_TEXT, CLI_FIELD(key_file),
	 "add: the key in FILE, which is made if it is not there"},
	{"name", 0, "TEXT", CLI_TEXT, CLI_FIELD(name), "add: whose it is; anybody can read it"},
	CLI_JSON,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_key = {
	.name = "key",
	.synopsis = "[options] IMAGE [list|add|remove SLOT|rotate]",
	.summary = "what opens an encrypted image: list, add, remove, renew",
	.description =
		"An encrypted image (--encrypt) has a key of its own, which up to 8 others open: each has a slot in its header.\n"
		"The first one is yours (THAW_KEY, --key, ~/.config/thaw/key). add puts yours in another slot, or the key in a\n"
		"file, or a passphrase; of these one has to be at hand that opens it already: THAW_IMAGE_KEY says a key, or the\n"
		"file it is in, and a passphrase is asked for at the terminal. remove takes a slot out of the file, for good;\n"
		"who has a copy of the file from before, or has read the image's own key, still has it: rotate writes the image\n"
		"anew with another one, as thaw compact does. What opens each slot must be at hand for that. The old bytes are\n"
		"the file system's then: on a disk that copies or journals, and in backups, they may last.\n"
		"The image must not be in use. If both blocks of its header (8 KiB) are lost, all of it is lost: keep a copy.",
	.examples =
		"  thaw key app.thaw                       what opens it?\n"
		"  thaw key --file ./spare app.thaw add    the key in that file, too\n"
		"  thaw key app.thaw remove 0              your key does not any more\n"
		"  thaw key app.thaw rotate                a new one for the image, in the same slots\n"
		"  THAW_IMAGE_KEY=./spare thaw log app.thaw\n",
	.options = key_options,
	.operands_min = 1,
	.operands_max = 3,
	.run = key,
};
