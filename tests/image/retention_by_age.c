// SPDX-License-Identifier: GPL-2.0-only
/*
 * retention_by_age.c - of a long history the newest generations stay, and a thinner selection of the
 * older ones: exactly those that the rules say, whatever the clock does, combined with names, portable
 * generations, branches, rollbacks and fresh starts; and what goes gives all of its space back.
 *
 * What has to be listed is said anew here, in the plainest way: by looking at every pair.
 */
#include "kselftest_harness.h"

#include "image_model.h"

#define STEPS 1500
#define NAMES 6
#define SECOND 1000000000ull
#define MINUTE (60 * SECOND)
#define HOUR (60 * MINUTE)

struct known { /* every generation there ever was */
	uint64_t number, parent, portable, time_ns;
	uint32_t kind;
};

static struct known ever[2 * STEPS];
static unsigned ever_count;
static struct history history; /* what has to be listed */
static struct thaw_name names[NAMES];
static unsigned name_count;
static struct model model; /* the working heap, and what it was when it was last durable */
static struct model durable;
static struct thaw_error error, fallback;

/* ---- What has to be */

static const struct known *known(uint64_t number)
{
	for (unsigned i = ever_count; i-- > 0;)
		if (ever[i].number == number)
			return &ever[i];
	return NULL;
}

static uint64_t time_of(unsigned listed)
{
	return known(history.kept[listed].number)->time_ns;
}

/* No newer one is of its period, and the newer ones are of less periods than the rule wants. */
static bool rule_keeps(const struct thaw_thinning *rule, unsigned i)
{
	uint64_t mine = time_of(i) / rule->period_ns;
	unsigned periods = 0;

	for (unsigned j = i + 1; j < history.count; j++) {
		uint64_t period = time_of(j) / rule->period_ns;
		bool again = false;

		if (period == mine)
			return false;
		for (unsigned k = j + 1; k < history.count; k++)
			again |= time_of(k) / rule->period_ns == period;
		periods += !again;
	}
	return periods < rule->count;
}

static bool has_name(uint64_t number)
{
	for (unsigned i = 0; i < name_count; i++)
		if (names[i].generation == number)
			return true;
	return false;
}

static bool has_to_stay(const struct image_options *options, unsigned i)
{
	uint64_t number = history.kept[i].number;

	if (history.count - i <= options->retain || has_name(number) ||
	    number == history.kept[history.count - 1].portable)
		return true;
	for (unsigned rule = 0; rule < options->thinning_count; rule++)
		if (rule_keeps(&options->thinning[rule], i))
			return true;
	return false;
}

static void history_drop(const struct image_options *options)
{
	bool stays[MODEL_KEPT];
	unsigned stay = 0;

	for (unsigned i = 0; i < history.count; i++)
		stays[i] = has_to_stay(options, i);
	for (unsigned i = 0; i < history.count; i++)
		if (stays[i])
			history.kept[stay++] = history.kept[i];
	history.count = stay;
}

static void history_made(uint64_t parent)
{
	ever[ever_count++] = (struct known){.number = model.number,
					    .parent = parent,
					    .portable = model.portable,
					    .time_ns = model_time_ns,
					    .kind = model.kind};
	history_add(&history, &model);
}

/*
 * The same from all that ever was, without what was listed before: with rules that never change,
 * dropping some now makes no difference to what the rules say later.
 */
static bool rules_keep_of_all(const struct image_options *options, uint64_t number)
{
	for (unsigned i = ever_count; i-- > 0 && ever_count - i <= options->retain;)
		if (ever[i].number == number)
			return true;
	for (unsigned rule = 0; rule < options->thinning_count; rule++) {
		uint64_t periods[MODEL_KEPT];
		unsigned found = 0;

		for (unsigned i = ever_count; i-- > 0 && found < options->thinning[rule].count;) {
			uint64_t period = ever[i].time_ns / options->thinning[rule].period_ns;
			bool again = false;

			for (unsigned n = 0; n < found; n++)
				again |= periods[n] == period;
			if (again)
				continue;
			if (ever[i].number == number)
				return true;
			periods[found++] = period;
		}
	}
	return false;
}

static bool history_is_of_all(const struct image_options *options)
{
	unsigned kept = 0, listed = 0;

	for (unsigned i = 0; i < ever_count; i++)
		kept += rules_keep_of_all(options, ever[i].number);
	for (unsigned i = 0; i < history.count; i++)
		listed += rules_keep_of_all(options, history.kept[i].number);
	return kept == listed;
}

/* ---- What is */

static uint64_t nearest_listed(uint64_t number)
{
	while (number && !history_find(&history, number))
		number = known(number)->parent;
	return number;
}

static bool generation_right(const struct thaw_generation *is)
{
	const struct known *should = known(is->number);

	return should && history_find(&history, is->number) && is->kind == should->kind &&
	       is->portable == should->portable && is->parent == should->parent &&
	       is->time_ns == should->time_ns && is->ancestor == nearest_listed(should->parent);
}

static bool names_right(void)
{
	struct thaw_name *found;
	int count = path_names(model_path, &found, &error);
	bool right = count == (int)name_count;

	for (int i = 0; right && i < count; i++) {
		bool same = false;

		for (unsigned n = 0; n < name_count; n++)
			same |= !strcmp(found[i].name, names[n].name) &&
				found[i].generation == names[n].generation;
		right = same;
	}
	if (count >= 0)
		free(found);
	return right;
}

static bool listed_right(void)
{
	struct thaw_generation *log;
	int count = path_log(model_path, &log, &error);
	bool right = count == (int)history.count && names_right();

	for (int i = 0; right && i < count; i++)
		right = log[i].number == history.kept[i].number && generation_right(&log[i]);
	if (!right) {
		fprintf(stderr, "# %d are listed, %u should be: %s\n# listed:", count,
			history.count, error.text);
		for (int i = 0; i < count; i++)
			fprintf(stderr, " %lu(%lu)", log[i].number, log[i].ancestor);
		fprintf(stderr, "\n# should:");
		for (unsigned i = 0; i < history.count; i++)
			fprintf(stderr, " %lu(%lu)", history.kept[i].number,
				nearest_listed(known(history.kept[i].number)->parent));
		fprintf(stderr, "\n");
	}
	if (count >= 0)
		free(log);
	return right;
}

/* ---- Steps */

static void start(const char *name)
{
	model_setup(name);
	history.count = ever_count = name_count = 0;
	memset(&model, 0, sizeof(model));
	durable = model;
	model_time_ns = 1000000 * HOUR;
}

static void model_change(void)
{
	for (unsigned changes = random_below(10) ? random_below(12) : random_below(300);
	     changes--;) {
		unsigned i = random_below(random_below(2) ? 40 : MODEL_PAGES);

		model.version[i] = random_below(8) ? (uint32_t)random_next() : 0;
	}
	model.state = (uint32_t)random_below(100000);
	model.kind = random_below(3) ? THAW_KIND_BOUND : THAW_KIND_PORTABLE;
}

static int name_give(struct commit *commit, const char *name, uint64_t generation)
{
	struct thaw_name *named = NULL;
	int code = commit_name(commit, name, &generation, &error);

	for (unsigned i = 0; i < name_count; i++)
		if (!strcmp(names[i].name, name))
			named = &names[i];
	if (code || (!named && name_count == NAMES))
		return code ? code : -E2BIG;
	if (!named) {
		named = &names[name_count++];
		strcpy(named->name, name);
	}
	named->generation = generation; /* COMMIT_ITSELF: corrected once it has a number */
	return 0;
}

static void name_forget(unsigned i)
{
	names[i] = names[--name_count];
}

/* To the generation that is made, to an older one, or taken from one. */
static int names_change(struct commit *commit)
{
	char name[8];
	unsigned i;
	int code;

	snprintf(name, sizeof(name), "name-%u", random_below(NAMES));
	switch (random_below(3)) {
	case 0:
		return name_give(commit, name, COMMIT_ITSELF);
	case 1:
		return history.count ? name_give(commit, name,
						 history.kept[random_below(history.count)].number)
				     : 0;
	default:
		if (!name_count)
			return 0;
		i = random_below(name_count);
		code = commit_name(commit, names[i].name, NULL, &error);
		name_forget(i);
		return code;
	}
}

/* Only what changed, and a few pages that did not. */
static int step_commit(struct image *image, const struct image_options *options, bool named)
{
	struct commit *commit;
	int code = commit_begin(image, &commit, &error);

	if (code)
		return code;
	for (unsigned i = 0; !code && i < MODEL_PAGES; i++)
		if (model.version[i] != durable.version[i] || !random_below(100))
			code = model_store(commit, &model, i, &error);
	for (unsigned i = random_below(3); !code && named && i--;)
		code = names_change(commit);
	if (!code)
		code = model_finish(commit, &model, &error);
	if (code) {
		commit_abort(commit);
		return code;
	}
	for (unsigned i = 0; i < name_count; i++)
		if (names[i].generation == COMMIT_ITSELF)
			names[i].generation = model.number;
	history_made(durable.number);
	history_drop(options);
	durable = model;
	return 0;
}

/* What that generation had is what goes on; 0: an empty heap. */
static void model_return(uint64_t number)
{
	const struct model *found = history_find(&history, number);

	memset(&model, 0, sizeof(model));
	if (found)
		model = *found;
	durable = model;
}

static int step_open(struct image_options *options, struct image **image, uint64_t generation,
		     bool fresh)
{
	int code;

	options->generation = generation;
	options->fresh = fresh;
	code = image_open(options, image, &fallback, &error);
	if (!generation && !fresh && history.count)
		generation = history.kept[history.count - 1].number;
	if (code || fallback.code || image_opened(*image)->number != generation)
		return code ? code : THAW_EDAMAGED;
	model_return(generation);
	return 0;
}

/* By what needs no heap, while nobody has the image open. */
static int step_history(void)
{
	uint64_t number = history.kept[random_below(history.count)].number;
	struct thaw_generation made;
	char name[8];
	unsigned i = 0;
	int code;

	snprintf(name, sizeof(name), "name-%u", random_below(NAMES));
	while (i < name_count && strcmp(names[i].name, name))
		i++;
	if (random_below(2)) {
		code = thaw_image_rollback(model_path, number, &made, &error);
		if (code)
			return code;
		model = *history_find(&history, number);
		model.number = made.number;
		if (model.kind == THAW_KIND_PORTABLE)
			model.portable = made.number;
		model_time_ns = made.time_ns;
		history_made(number);
		return made.parent == number ? 0 : THAW_EDAMAGED;
	}
	if (i < name_count && random_below(2)) {
		name_forget(i);
		return thaw_image_untag(model_path, name, &error);
	}
	code = thaw_image_tag(model_path, name, number, THAW_TAG_MOVE, &error);
	if (i == name_count)
		strcpy(names[name_count++].name, name);
	names[i].generation = number;
	return code;
}

static void clock_go_on(void)
{
	switch (random_below(40)) {
	case 0:
		model_time_ns -= random_below(300) * MINUTE;
		break;
	case 1:
		model_time_ns += random_below(300) * MINUTE;
		break;
	case 2:
		model_time_ns = 1000000 * HOUR + random_below(300) * MINUTE;
		break;
	case 3:
		if (!random_below(10)) /* one who cannot tell the time at all */
			model_time_ns = random_below(2) ? 0 : UINT64_MAX;
		break;
	default:
		if (model_time_ns > UINT64_MAX / 2)
			model_time_ns = 1000000 * HOUR;
		model_time_ns += random_below(40) * SECOND;
	}
}

/* ---- Examples */

/* Seconds at which generations are made, oldest first; then which of them are listed at the end. */
TEST(what_the_rules_mean)
{
	static const struct thaw_thinning minutes[] = {{3, MINUTE}},
					  both[] = {{2, MINUTE}, {2, HOUR}};
	static const struct {
		unsigned retain;
		const struct thaw_thinning *rules;
		unsigned rule_count;
		int made[12], listed[12];
	} cases[] = {
		{2, minutes, 0, {1, 2, 3, 4, -1}, {3, 4, -1}},
		/* Of each of the last three minutes the newest; the last two anyway. */
		{2, minutes, 1, {0, 30, 60, 90, 120, 150, 180, 210, -1}, {90, 150, 180, 210, -1}},
		/* Minutes without any do not count. */
		{1, minutes, 1, {0, 3600, 3630, 7200, 9000, -1}, {3630, 7200, 9000, -1}},
		{1, both, 2, {0, 3500, 3599, 3700, 3710, 3770, -1}, {3599, 3710, 3770, -1}},
		/* The clock is set back: a minute that is there already is no further one. */
		{1, minutes, 1, {0, 70, 10, 80, 20, -1}, {80, 20, -1}},
		{2, minutes, 1, {300, 10, 70, 130, 190, -1}, {70, 130, 190, -1}},
		{1, minutes, 1, {1, 2, 3, 4, 5, -1}, {5, -1}},
	};
	struct image_options options = model_options();
	struct image *image;

	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		unsigned count = 0;

		start("examples");
		options.retain = cases[i].retain;
		options.thinning = cases[i].rules;
		options.thinning_count = cases[i].rule_count;
		ASSERT_EQ(0, step_open(&options, &image, 0, false));
		for (const int *second = cases[i].made; *second >= 0; second++) {
			model_change();
			model.kind = THAW_KIND_BOUND;
			model_time_ns = 1000000 * HOUR + (uint64_t)*second * SECOND;
			ASSERT_EQ(0, step_commit(image, &options, false)) TH_LOG("%s", error.text);
			EXPECT_TRUE(listed_right()) TH_LOG("case %u, second %d", i, *second);
		}
		while (cases[i].listed[count] >= 0)
			count++;
		ASSERT_EQ(count, history.count) TH_LOG("case %u", i);
		for (unsigned n = 0; n < count; n++)
			EXPECT_EQ(1000000 * HOUR + (uint64_t)cases[i].listed[n] * SECOND,
				  time_of(n))
		TH_LOG("case %u", i);
		EXPECT_TRUE(space_is_exact(image));
		image_close(image);
		EXPECT_EQ((int)count, history_compare(&history));
		model_teardown();
	}
}

/* Before anything is opened, created or dropped. */
TEST(rules_that_cannot_be_are_refused)
{
	struct thaw_thinning rules[THAW_THINNING_MAX + 1];
	struct image_options options = model_options();
	struct image *image;

	for (unsigned i = 0; i <= THAW_THINNING_MAX; i++)
		rules[i] = (struct thaw_thinning){1, MINUTE};
	start("refused");
	options.thinning = rules;
	options.thinning_count = THAW_THINNING_MAX + 1;
	EXPECT_EQ(-EINVAL, image_open(&options, &image, &fallback, &error));
	options.thinning_count = 2;
	rules[0].count = 600;
	rules[1].count = 401;
	EXPECT_EQ(-EINVAL, image_open(&options, &image, &fallback, &error));
	rules[1].count = UINT32_MAX - 599; /* their sum wraps */
	EXPECT_EQ(-EINVAL, image_open(&options, &image, &fallback, &error));
	rules[1] = (struct thaw_thinning){1, 0};
	EXPECT_EQ(-EINVAL, image_open(&options, &image, &fallback, &error));
	EXPECT_EQ(-1, access(model_path, F_OK));
	rules[1] = (struct thaw_thinning){400, 1};
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	image_close(image);
	model_teardown();
}

/* ---- Everything at once */

FIXTURE(histories)
{
	struct image *image;
};
FIXTURE_VARIANT(histories)
{
	unsigned retain; /* 0: other rules at each opening */
	unsigned rule_count;
	struct thaw_thinning rules[3];
};
FIXTURE_VARIANT_ADD(histories, newest_only){2, 0, {{0}}};
FIXTURE_VARIANT_ADD(histories, minutes){1, 1, {{5, MINUTE}}};
FIXTURE_VARIANT_ADD(histories, minutes_and_hours){4, 2, {{5, MINUTE}, {6, HOUR}}};
FIXTURE_VARIANT_ADD(histories, overlapping){3, 3, {{4, SECOND}, {9, 7 * MINUTE}, {3, 24 * HOUR}}};
FIXTURE_VARIANT_ADD(histories, nanoseconds){1, 2, {{7, 1}, {2, UINT64_MAX}}};
FIXTURE_VARIANT_ADD(histories, changing){0, 3, {{6, MINUTE}, {3, 5 * MINUTE}, {4, HOUR}}};
FIXTURE_SETUP(histories)
{
	start("histories");
}
FIXTURE_TEARDOWN(histories)
{
	model_teardown();
}

TEST_F_TIMEOUT(histories, keep_what_the_rules_say, 300)
{
	struct image_options options = model_options();
	struct thaw_image_info info;
	uint64_t retained = 0;
	unsigned branches = 0;

	options.retain = variant->retain ? variant->retain : 3;
	options.thinning = variant->rules;
	options.thinning_count = variant->rule_count;
	random_state += options.retain * 31 + options.thinning_count;
	ASSERT_EQ(0, step_open(&options, &self->image, 0, false));
	for (int step = 0; step < STEPS; step++) {
		unsigned what = random_below(40);

		clock_go_on();
		if (what > 3 || !history.count) {
			model_change();
			ASSERT_EQ(0, step_commit(self->image, &options, what < 16))
			TH_LOG("step %d: %s", step, error.text);
			if (variant->retain && step % 50 == 0)
				ASSERT_TRUE(history_is_of_all(&options));
		} else if (what == 0) {
			model_abort_somewhere(&model, self->image);
		} else {
			uint64_t other = 0;

			image_close(self->image);
			if (what == 2) {
				ASSERT_EQ(0, step_history()) TH_LOG("%s", error.text);
				ASSERT_TRUE(listed_right());
			}
			if (what == 3 && history.count)
				other = history.kept[random_below(history.count)].number;
			branches += other != 0;
			if (!variant->retain) {
				options.retain = 1 + random_below(6);
				options.thinning_count = random_below(4);
			}
			ASSERT_EQ(0, step_open(&options, &self->image, other,
					       what == 1 && !random_below(4)))
			TH_LOG("step %d: %s", step, error.text);
		}
		ASSERT_TRUE(listed_right()) TH_LOG("step %d", step);
		if (step % 4 == 0)
			ASSERT_TRUE(space_is_exact(self->image)) TH_LOG("step %d", step);
		if (step % 25 == 0) {
			ASSERT_EQ((int)history.count, history_compare(&history));
			ASSERT_EQ(0, path_info(model_path, true, &info, &error));
			if (info.retained_bytes > retained)
				retained = info.retained_bytes;
			ASSERT_LE(info.file_bytes, 2 * retained + (8u << 20));
		}
		if (step % 100 == 0)
			ASSERT_EQ(0, model_verify());
	}
	ASSERT_EQ((int)history.count, history_compare(&history));
	ASSERT_EQ(0, model_verify());
	TH_LOG("%u generations, %u of them listed, %u branches", ever_count, history.count,
	       branches);
	ASSERT_GT(branches, 10);
	image_close(self->image);
}

TEST_HARNESS_MAIN
