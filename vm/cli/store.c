/* SPDX-License-Identifier: MIT */
/*
 * store.c - object stores on the command line: what --image s3://..., --replicate and their like mean, and what a store holds
 * (thaw log), and whether it can be used (thaw check).
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "areas.h"
#include "base/failure.h"
#include "control/client.h"
#include "process/describe.h"
#include "store.h"
#include "store/place.h"
#include "store/record.h"

#define RECORDS_SHOWN 10u
/* So often, unless somebody waits: who takes a store over comes in between two records. */
#define EVERY_NS 100000000u

bool cli_is_place(const char *word)
{
	return !strncmp(word, "s3://", 5);
}

int cli_fail_store(const struct thaw_error *error, int code)
{
	int exit_code = code == -EEXIST ? EXIT_USAGE : runtime_exit_code(runtime_store_code(code));

	return cli_fail(exit_code, "%s", error->text[0] ? error->text : thaw_strerror(code));
}

/* ---- A program with a store */

static void tell(void *arg, const char *line)
{
	const struct cli_store *store = arg;

	if (!store->options->quiet)
		cli_fail(0, "%s", line);
}

/* Is it the command that the image holds? It is not without one, and an image that cannot be read says why when it is opened. */
static int check_command(const struct cli_store *store, struct thaw_image *image,
			 uint64_t generation, const char *path, struct thaw_error *error)
{
	struct description description;
	struct thaw_error why;
	bool same;

	if (!store->count || description_read(image, generation, path, &description, &why))
		return 0;
	same = description.state.argument_count == store->count;
	for (int i = 0; same && i < store->count; i++)
		same = !strcmp(description.state.arguments[i], store->words[i]);
	description_free(&description);
	return same ? 0
		    : failure(error, THAW_EENGINE,
			      "%s has another command than this one (thaw exec --image %s alone goes on with it, --fresh starts this one in its place)",
			      store->options->image, store->options->image);
}

/* Before anybody is fenced: what would be refused once it is opened. */
static int check(void *arg, const char *path, struct thaw_error *error)
{
	const struct cli_store *store = arg;
	const char *place = store->options->image, *at = store->options->at;
	struct thaw_image *image;
	uint64_t generation = 0;
	int code = thaw_image_open(path, &image, error);

	if (code)
		return code;
	if (image_is_process(image) != store->process)
		code = failure(error, THAW_EENGINE,
			       "%s has an image of thaw %s, which alone goes on from it", place,
			       store->process ? "run" : "exec");
	else if (at)
		code = thaw_image_find(image, at, &generation, error);
	if (!code && store->process && !store->options->fresh)
		code = check_command(store, image, generation, path, error);
	thaw_image_close(image);
	return code;
}

/* What needs a store, or another one. 0, or EXIT_USAGE after printing why. */
static int usage(const struct cli_options *options, bool lives, bool *durable)
{
	const char *word = options->durable ? options->durable : "local";
	const char *needs = options->replicate_every_ns != CLI_REPLICATE_DEFAULT
				    ? "--replicate-every"
			    : options->durable		  ? "--durable"
			    : options->durable_timeout_ns ? "--durable-timeout"
			    : options->replace		  ? "--replace"
							  : NULL;

	*durable = !strcmp(word, "remote");
	if (!*durable && strcmp(word, "local"))
		return cli_fail(EXIT_USAGE, "--durable is local or remote, not '%s'", word);
	if (options->replicate && !cli_is_place(options->replicate))
		return cli_fail(EXIT_USAGE, "--replicate wants s3://BUCKET/PREFIX, not '%s'",
				options->replicate);
	if (lives && options->replicate && strcmp(options->replicate, options->image) != 0)
		return cli_fail(
			EXIT_USAGE,
			"an image that lives in %s is replicated there: --replicate cannot name another",
			options->image);
	if (lives && options->replace)
		return cli_fail(
			EXIT_USAGE,
			"--replace gives a store the state of a local image: name that with --image, and the store with --replicate");
	if (options->cache && !lives)
		return cli_fail(EXIT_USAGE,
				"--cache is for --image s3://...: a local image is its own file");
	if (needs && !lives && !options->replicate)
		return cli_fail(
			EXIT_USAGE,
			"%s is for a program with a store: name that with --replicate, or --image s3://...",
			needs);
	if (options->durable_timeout_ns && !*durable)
		return cli_fail(EXIT_USAGE,
				"--durable-timeout is for --durable remote, which was not given");
	return 0;
}

/* An image that lives in a store: found there, taken over, and a file here. */
static int open_place(const struct cli_options *options, const char *program,
		      struct runtime_options *how, struct cli_store *store)
{
	const struct place_options place = {
		.place = options->image,
		.cache = options->cache,
		.program = program,
		.deadline_ns = clock_monotonic_ns() + options->store_timeout_ns,
		.check = check,
		.tell = tell,
		.arg = store,
	};
	struct thaw_error error = {0};
	int code = place_open(&place, &store->place, &error);

	if (code && !(code == -ENOENT && store->place)) {
		store->place = NULL;
		return cli_fail_store(&error, code);
	}
	store->store.lives = store->place;
	how->image = place_path(store->place);
	if (code == -ENOENT && how->must_exist)
		return cli_fail_store(&error, code);
	return 0;
}

int cli_store_open(const struct cli_options *options, const char *program,
		   struct runtime_options *how, struct cli_store *store)
{
	bool lives = options->image && cli_is_place(options->image), durable;
	int code = usage(options, lives, &durable);

	*store = (struct cli_store){.options = options,
				    .process = how->guest && how->guest->process,
				    .count = how->argument_count,
				    .words = how->arguments};
	if (code || (!lives && !options->replicate))
		return code;
	store->store = (struct runtime_store){
		.place = lives ? options->image : options->replicate,
		.program = program,
		.every_ns = options->replicate_every_ns != CLI_REPLICATE_DEFAULT
				    ? options->replicate_every_ns
			    : durable ? 0
				      : EVERY_NS,
		.durable = durable,
		.replace = options->replace,
		.wait_ns = options->store_timeout_ns,
		.outage_ns = options->durable_timeout_ns,
	};
	how->store = &store->store;
	return lives ? open_place(options, program, how, store) : 0;
}

int cli_store_close(struct cli_store *store, int code)
{
	place_close(store->place);
	store->place = NULL;
	return code;
}

int cli_whole(const char *image, bool changes)
{
	struct thaw_error error = {0};

	if (place_is_incomplete(image, &error) <= 0 || (changes && control_is_there(image)))
		return 0;
	return cli_fail(EXIT_NO_INPUT, "%s", error.text);
}

/* ---- thaw log s3://... */

struct listed {
	struct store_record records[RECORDS_SHOWN]; /* the newest first */
	unsigned count;
	uint64_t objects, bytes; /* that the newest needs */
};

static int count_objects(const struct store_index *index, struct listed *listed)
{
	struct store_level level = {0};
	int code = index_merge(index, &level);

	for (uint32_t i = 0; !code && i < level.object_count; i++)
		listed->bytes += level.objects[i].bytes;
	listed->objects = level.object_count;
	level_free(&level);
	return code;
}

static int note_record(void *arg, const struct store_record *record)
{
	struct listed *listed = arg;

	listed->records[listed->count++] = *record;
	return listed->count == RECORDS_SHOWN;
}

/* Those that are still there: but for seals, older ones go. */
static int read_records(struct s3 *s3, uint64_t deadline, struct listed *listed,
			struct thaw_error *error)
{
	struct store_index index = {0};
	int code = record_each(s3, RECORDS_SHOWN, deadline, note_record, listed, error);

	if (code < 0 || !listed->count)
		return code < 0 ? code : 0;
	code = record_index(s3, &listed->records[0], NULL, deadline, &index, error);
	if (!code)
		code = count_objects(&index, listed);
	index_free(&index);
	return code;
}

static const char *kind_of(const struct store_record *record)
{
	return record->kind == STORE_SEAL ? "epoch begins" : "generation";
}

static void print_records(const char *place, const struct listed *listed)
{
	const struct store_record *newest = listed->records;
	struct table table;
	char text[256], engine[256];

	table_init(&table, "rlrrrrl");
	for (const char *const *title = (const char *const[]){"record", "what", "generation", "age",
							      "bytes", "epoch", "by", NULL};
	     *title; title++)
		table_cell(&table, *title);
	for (unsigned i = listed->count; i--;) {
		const struct store_record *record = &listed->records[i];

		table_cell(&table, format_number(record->number).s);
		table_cell(&table, kind_of(record));
		table_cell(&table, format_number(record->generation).s);
		table_cell(&table, format_age(record->time_ns).s);
		table_cell(&table, format_bytes(record->bytes).s);
		table_cell(&table, format_number(record->epoch_number).s);
		snprintf(text, sizeof(text), "%s on %s (process %" PRIu64 ")", record->program,
			 record->host, record->pid);
		table_cell(&table, text);
	}
	table_print(&table, stdout);
	thaw_escape(newest->engine, engine,
		    sizeof(engine)); /* whoever may write to the store chose it */
	printf("\n%s: generation %" PRIu64 " of engine '%s', %s; %s in %s %s\n", place,
	       newest->generation, engine,
	       newest->flags & STORE_ENDED ? "its program has finished" : "can be continued",
	       format_bytes(listed->bytes).s, format_count(listed->objects).s,
	       listed->objects == 1 ? "object" : "objects");
}

static void print_records_json(const char *place, const struct listed *listed)
{
	const struct store_record *newest = listed->records;
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "place", place);
	json_number(&json, "generation", newest->generation);
	json_text(&json, "engine", newest->engine);
	json_number(&json, "fileBytes", newest->file_bytes);
	json_number(&json, "bytesStored", listed->bytes);
	json_number(&json, "objectsStored", listed->objects);
	json_bool(&json, "finished", newest->flags & STORE_ENDED);
	json_open(&json, "records", '[');
	for (unsigned i = listed->count; i--;) {
		const struct store_record *record = &listed->records[i];

		json_open(&json, NULL, '{');
		json_number(&json, "record", record->number);
		json_text(&json, "kind", record->kind == STORE_SEAL ? "seal" : "generation");
		json_number(&json, "generation", record->generation);
		json_number(&json, "timeNs", record->time_ns);
		json_number(&json, "bytes", record->bytes);
		json_number(&json, "epoch", record->epoch_number);
		json_text(&json, "program", record->program);
		json_text(&json, "host", record->host);
		json_number(&json, "pid", record->pid);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

int store_log(const struct cli_options *options, const char *place)
{
	uint64_t deadline = clock_monotonic_ns() + options->store_timeout_ns;
	struct thaw_error error = {0};
	struct listed *listed = calloc(1, sizeof(*listed));
	struct s3 *s3 = NULL;
	int code = listed ? s3_open(place, NULL, &s3, &error) : -ENOMEM;

	if (!code)
		code = read_records(s3, deadline, listed, &error);
	s3_close(s3);
	if (code)
		code = cli_fail_store(&error, code);
	else if (!listed->count)
		code = cli_fail(EXIT_NO_INPUT, "%s: nothing is stored there", place);
	else
		(options->json ? print_records_json : print_records)(place, listed);
	free(listed);
	return code;
}

/* ---- thaw check s3://... */

#define STEPS 5u

struct step {
	const char *name, *needs; /* the permission, as AWS calls it */
	int code;		  /* 1: it was not tried */
	uint64_t ns;
	struct thaw_error error;
};

struct probe {
	struct s3 *s3;
	uint64_t deadline_ns;
	char key[64];
	struct step steps[STEPS];
};

static const char probe_text[] = "thaw check: this may be deleted\n";

static int list(struct probe *probe, struct thaw_error *error)
{
	struct s3_request request = {
		.verb = S3_LIST, .key = "log/", .at_most = 1, .deadline_ns = probe->deadline_ns};
	int code = s3_do(probe->s3, &request, error);

	s3_release(&request);
	return code;
}

static int put(struct probe *probe, struct thaw_error *error)
{
	return s3_put(probe->s3, probe->key, probe_text, sizeof(probe_text), S3_NEW,
		      probe->deadline_ns, error);
}

static int get(struct probe *probe, struct thaw_error *error)
{
	size_t count;
	void *bytes;
	int code = s3_get(probe->s3, probe->key, 1024, probe->deadline_ns, &bytes, &count, error);

	if (code)
		return code;
	if (count != sizeof(probe_text) || memcmp(bytes, probe_text, count) != 0) {
		error->code = code = -EPROTO;
		snprintf(error->text, sizeof(error->text),
			 "%s: what was put there comes back as something else",
			 s3_place(probe->s3));
	}
	free(bytes);
	return code;
}

static int conditions(struct probe *probe, struct thaw_error *error)
{
	return s3_check_new(probe->s3, probe->key, probe->deadline_ns, error);
}

static int delete (struct probe *probe, struct thaw_error *error)
{
	const char *key = probe->key;

	return s3_delete(probe->s3, &key, 1, probe->deadline_ns, error);
}

/* Each as far as what it needs went well. Returns the code of the first that failed. */
static int try_steps(struct probe *probe)
{
	static const struct {
		const char *name, *needs;
		int (*try)(struct probe *probe, struct thaw_error *error);
	} all[STEPS] = {
		{"list objects", "s3:ListBucket", list},
		{"create one, if there is none", "s3:PutObject", put},
		{"read it", "s3:GetObject", get},
		{"two cannot create the same", "s3:PutObject", conditions},
		{"delete it", "s3:DeleteObject", delete},
	};
	bool there = false;
	int code = 0;

	for (unsigned i = 0; i < STEPS; i++) {
		struct step *step = &probe->steps[i];
		uint64_t began = clock_monotonic_ns();

		*step = (struct step){.name = all[i].name, .needs = all[i].needs, .code = 1};
		if (i > 1 && !there)
			continue;
		step->code = all[i].try(probe, &step->error);
		step->ns = clock_monotonic_ns() - began;
		there = there || (i == 1 && !step->code);
		code = code ? code : step->code;
		if (step->code == -ETIMEDOUT || step->code == -ENODEV)
			break; /* so would be all that follows */
	}
	return code;
}

static void print_steps(const struct probe *probe)
{
	struct table table;

	table_init(&table, "lllrl");
	table_cell(&table, "store");
	table_cell(&table, "permission");
	table_cell(&table, "works");
	table_cell(&table, "time");
	table_cell(&table, "why not");
	for (unsigned i = 0; i < STEPS && probe->steps[i].name; i++) {
		const struct step *step = &probe->steps[i];

		table_cell(&table, step->name);
		table_cell(&table, step->needs);
		table_cell(&table, !step->code ? "yes" : step->code > 0 ? "?" : "no");
		table_cell(&table, step->code > 0 ? "" : format_duration(step->ns).s);
		table_cell(&table, step->code > 0 ? "not tried" : step->error.text);
	}
	table_print(&table, stdout);
}

static void print_steps_json(const struct probe *probe, const char *place, int code)
{
	struct json json = {.to = stdout};

	json_open(&json, NULL, '{');
	json_text(&json, "place", place);
	json_bool(&json, "ok", !code);
	json_open(&json, "steps", '[');
	for (unsigned i = 0; i < STEPS && probe->steps[i].name; i++) {
		const struct step *step = &probe->steps[i];

		json_open(&json, NULL, '{');
		json_text(&json, "name", step->name);
		json_text(&json, "permission", step->needs);
		json_bool(&json, "tried", step->code <= 0);
		json_bool(&json, "works", !step->code);
		json_number(&json, "ns", step->ns);
		if (step->code < 0)
			json_text(&json, "error", step->error.text);
		json_close(&json, '}');
	}
	json_close(&json, ']');
	json_close(&json, '}');
	putchar('\n');
}

static int probe_open(struct probe *probe, const char *place, uint64_t timeout_ns,
		      struct thaw_error *error)
{
	uint64_t random[2];

	if (getrandom(random, sizeof(random), 0) != sizeof(random))
		return -EIO;
	snprintf(probe->key, sizeof(probe->key), "check/%016" PRIx64 "%016" PRIx64, random[0],
		 random[1]);
	probe->deadline_ns = clock_monotonic_ns() + timeout_ns;
	return s3_open(place, NULL, &probe->s3, error);
}

int store_check(const struct cli_options *options, const char *place)
{
	struct probe *probe = calloc(1, sizeof(*probe));
	struct thaw_error error = {0};
	int code = probe ? probe_open(probe, place, options->store_timeout_ns, &error) : -ENOMEM;

	if (code) {
		free(probe);
		return cli_fail_store(&error, code);
	}
	code = try_steps(probe);
	for (unsigned i = 0; i < STEPS && !error.code; i++)
		if (probe->steps[i].code < 0)
			error = probe->steps[i].error;
	if (options->json)
		print_steps_json(probe, s3_place(probe->s3), code);
	else
		print_steps(probe);
	if (!code && !options->json)
		printf("\nok: %s can have images\n", s3_place(probe->s3));
	s3_close(probe->s3);
	free(probe);
	return code ? cli_fail_store(&error, code) : 0;
}
