/* SPDX-License-Identifier: MIT */
/*
 * upgrade.c - thaw upgrade, and thaw run --upgrade: new code for the state of a program that is in an image.
 */
#include <stdlib.h>

#include "areas.h"

static const char *const kinds[] = {"unchanged", "changed", "added", "removed", "not there"};

static void changes_free(struct guest_changes *changes)
{
	for (unsigned i = 0; i < changes->count; i++) {
		free(changes->list[i].name);
		free(changes->list[i].hooks);
		free(changes->list[i].state);
	}
	free(changes->list);
}

/* ---- What would change ---- */

static void plan_json(const struct guest_changes *changes, int code, const struct thaw_error *error)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_open(&json, "modules", '[');
	for (unsigned i = 0; i < changes->count; i++) {
		const struct guest_change *change = &changes->list[i];

		json_open(&json, NULL, '{');
		json_text(&json, "name", change->name);
		json_text(&json, "change", kinds[change->kind]);
		if (change->hooks)
			json_text(&json, "hooks", change->hooks);
		if (change->state)
			json_text(&json, "state", change->state);
		json_number(&json, "timers", change->timers);
		json_number(&json, "listeners", change->listeners);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_number(&json, "unchanged", changes->unchanged);
	if (code < 0)
		json_text(&json, "refused", error->text);
	json_close(&json, '}');
	putchar('\n');
}

static const char *escaped(const char *text)
{
	static char line[1024];

	thaw_escape(text, line, sizeof(line));
	return line;
}

static void plan_print(const struct guest_changes *changes)
{
	struct table table;

	table_init(&table, "lll");
	for (unsigned i = 0; i < changes->count; i++) {
		const struct guest_change *change = &changes->list[i];
		char *line = NULL;
		size_t bytes;
		FILE *to = open_memstream(&line, &bytes);

		if (!to)
			continue;
		if (change->kind == GUEST_CHANGED || change->kind == GUEST_REMOVED)
			fprintf(to, "hooks: %s; ", change->hooks ? change->hooks : "none");
		if (change->kind == GUEST_CHANGED || change->kind == GUEST_REMOVED)
			fprintf(to, "state: %s", change->state ? change->state : "none");
		if (change->timers)
			fprintf(to, "; ends %u timer%s", change->timers,
				change->timers == 1 ? "" : "s");
		if (change->listeners)
			fprintf(to, "; ends %u listener%s", change->listeners,
				change->listeners == 1 ? "" : "s");
		fclose(to);
		table_cell(&table, kinds[change->kind]);
		table_cell(&table, escaped(change->name));
		table_cell(&table, escaped(line ? line : ""));
		free(line);
	}
	table_print(&table, stdout);
	printf("%u unchanged\n", changes->unchanged);
}

/* ---- What came of it ---- */

static void result_json(const struct thaw_result *result, uint64_t before,
			const struct guest_changes *changes)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_number(&json, "generation", result->generation.number);
	json_number(&json, "from", before);
	for (unsigned kind = GUEST_CHANGED; kind <= GUEST_REMOVED; kind++) {
		json_open(&json, kinds[kind], '[');
		for (unsigned i = 0; i < changes->count; i++)
			if (changes->list[i].kind == kind)
				json_text(&json, NULL, changes->list[i].name);
		json_close(&json, ']');
	}
	json_close(&json, '}');
	putchar('\n');
}

static void tell_modules(FILE *to, const struct guest_changes *changes)
{
	const char *separator = "";

	for (unsigned kind = GUEST_CHANGED; kind <= GUEST_REMOVED; kind++) {
		unsigned told = 0, count = 0;

		for (unsigned i = 0; i < changes->count; i++)
			count += changes->list[i].kind == kind;
		for (unsigned i = 0; i < changes->count && told < 3; i++) {
			if (changes->list[i].kind != kind)
				continue;
			fprintf(to, "%s%s", separator, escaped(changes->list[i].name));
			separator = ", ";
			told++;
		}
		if (count > told)
			fprintf(to, " and %u more", count - told);
		if (count)
			fprintf(to, " %s", kinds[kind]);
	}
}

/* On stdout for who asked for an upgrade only; of a program that goes on it is a note. */
static void tell_result(const struct cli_options *options, const char *image, uint64_t before,
			const struct thaw_result *result, const struct guest_changes *changes)
{
	FILE *to = options->upgrade ? stderr : stdout;

	if (options->json && !options->upgrade) {
		result_json(result, before, changes);
		return;
	}
	if (options->quiet && options->upgrade)
		return;
	if (options->upgrade)
		fputs("thaw: ", to);
	fprintf(to, "generation %llu is upgraded: ", (unsigned long long)result->generation.number);
	tell_modules(to, changes);
	fprintf(to, "; %llu stays (thaw rollback %s before-upgrade)\n", (unsigned long long)before,
		escaped(image));
}

static void tell_nothing(const struct cli_options *options, uint64_t before)
{
	if (options->upgrade)
		return;
	if (options->json) {
		printf("{\"generation\":%llu,\"changed\":[]}\n", (unsigned long long)before);
		return;
	}
	printf("nothing has changed since generation %llu", (unsigned long long)before);
	if (options->check && !options->dry_run)
		printf(", and %s throws nothing in it", escaped(options->check));
	putchar('\n');
}

int cli_upgrade(struct runtime *runtime, const struct cli_options *options, const char *image)
{
	const struct runtime_upgrade how = {
		.how = {.check = options->check,
			.dry_run = options->dry_run,
			.force = options->force},
		.time_limit_ns = options->time_limit_ns,
	};
	uint64_t before = thaw_opened(runtime_heap(runtime))->number;
	struct guest_changes changes;
	struct thaw_result result;
	struct thaw_error error;
	int code = runtime_upgrade(runtime, &how, &changes, &result, &error);

	if (options->dry_run && code <= 0 && changes.list) {
		if (options->json)
			plan_json(&changes, code, &error);
		else
			plan_print(&changes);
	}
	if (code == GUEST_UNCHANGED)
		tell_nothing(options, before);
	else if (!code && !options->dry_run)
		tell_result(options, image, before, &result, &changes);
	changes_free(&changes);
	if (code >= 0)
		return 0;
	code = runtime_abandon(runtime, runtime_upgrade_exit_code(code));
	return cli_fail(code, "no upgrade: %s; the program is as it was in generation %llu",
			error.text, (unsigned long long)before);
}

int cli_upgrade_process(void)
{
	return cli_fail(
		EXIT_USAGE,
		"the code of a process cannot be replaced from outside: the program can load new code itself "
		"(thaw help exec), or be started anew with thaw exec --fresh");
}

static bool is_process(const char *path)
{
	struct thaw_image *image;
	bool process;

	if (thaw_image_open(path, &image, NULL))
		return false;
	process = image_is_process(image);
	thaw_image_close(image);
	return process;
}

/* What is in the image's log alone has no name, and could not be kept. Why that cannot be, the open will say. */
void cli_upgrade_prepare(const char *image)
{
	struct thaw_error error = {0};
	unsigned tries = 0;

	while (cli_again(thaw_image_settle(image, &error), &tries))
		;
}

static int upgrade(const struct cli_options *options, int count, char **operands)
{
	struct runtime_options how = cli_runtime_options(options);
	struct thaw_error error = {0};
	struct runtime *runtime;
	int code;

	how.image = operands[0];
	how.script = count > 1 ? operands[1] : NULL;
	how.must_exist = how.upgrades = how.holds_output = true;
	code = cli_commit(options, &how);
	if (!code)
		code = cli_at(options, &how);
	if (!code && is_process(operands[0]))
		code = cli_upgrade_process();
	if (code)
		return code;
	cli_upgrade_prepare(how.image);
	code = runtime_open(&how, &runtime, &error);
	if (code)
		return code == THAW_EINUSE
			       ? cli_fail_change(
					 operands[0],
					 "or have it upgraded as it runs (thaw ctl IMAGE upgrade)",
					 &error, code)
			       : cli_fail_error(&error, code);
	code = cli_upgrade(runtime, options, operands[0]);
	if (!code)
		code = runtime_abandon(runtime, 0);
	runtime_close(runtime);
	return code;
}

static const struct cli_option upgrade_options[] = {
	{"dry-run", 'n', NULL, CLI_FLAG, CLI_FIELD(dry_run),
	 "run nothing, change nothing: tell which modules would be replaced, and who has hooks"},
	CLI_UPGRADE,
	CLI_AT("upgrade"),
	CLI_RETAIN,
	CLI_TRUST,
	CLI_COMMIT,
	CLI_JSON,
	CLI_VERBOSE,
	CLI_IMAGE_KEY,
	CLI_HELP,
	{0},
};

const struct cli_command command_upgrade = {
	.name = "upgrade",
	.synopsis = "[options] IMAGE [FILE.js]",
	.summary = "new code for the state of a program",
	.description =
		"Loads the modules of the program in IMAGE whose files have changed into its heap: one new generation, from\n"
		"which thaw run goes on. FILE.js is its main module, if that lies elsewhere now. A program\n"
		"that runs is upgraded by thaw ctl IMAGE upgrade, or stopped first.\n"
		"An old module hands over by import.meta.hot.dispose(data => ...), a new one takes over from\n"
		"import.meta.hot.data, or by 'export function upgrade(old)', where old has all top-level variables of the old\n"
		"module. Modules that did not change keep all they have, and see what the new ones export. Timers and\n"
		"listeners of a module that is replaced end; calls that are under way end on the old code.\n"
		"If anything is thrown, or takes too long, nothing has happened (exit code 78). The generation before the upgrade\n"
		"is kept under the name before-upgrade.",
	.examples =
		"  thaw upgrade --dry-run app.thaw         what would change\n"
		"  thaw upgrade app.thaw; thaw run app.js  the new code if it works, else the old one\n"
		"  thaw upgrade --check smoke.js app.thaw  only if smoke.js does not throw in it\n"
		"  thaw rollback app.thaw before-upgrade   back to the code and the state before\n",
	.options = upgrade_options,
	.operands_min = 1,
	.operands_max = 2,
	.run = upgrade,
};
