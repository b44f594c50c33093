// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_mirror.c - a copy that is made of takes alone is, after each of them, the image at that instant: the newest generation,
 * all others that it listed, and the names, whatever was committed, failed, moved or given up meanwhile, and however late
 * the take was read. What a take calls free is overwritten in the copy, and what is read too late is told to be stale.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>

#include "image/mirror.h"
#include "image_model.h"
#include "sys.h"

#define NUMBERS 4096u
#define LOG (256u << 10)
#define HISTORIES 12u
#define STEPS 90u
#define TAKES 50u

#define say(format, ...) fprintf(stderr, "# " format "\n", ##__VA_ARGS__)

int __wrap_sys_injected(enum sys_call call);

/* The next but `skip` call of this kind fails. */
static struct failure {
	enum sys_call call;
	int error, skip;
} failure;

/* Of a thread that commits beside another one that takes: each call gives that one time to come in between. */
static _Thread_local bool hesitates;

int __wrap_sys_injected(enum sys_call call)
{
	if (hesitates)
		usleep(random_below(3) * 50);
	if (!failure.error || call != failure.call || failure.skip--)
		return 0;
	call = failure.error;
	failure.error = 0;
	return (int)call;
}

static pthread_mutex_t made_lock = PTHREAD_MUTEX_INITIALIZER;
static struct model *made[NUMBERS]; /* by generation */

static void made_add(const struct model *model)
{
	pthread_mutex_lock(&made_lock);
	if (model->number >= NUMBERS)
		abort();
	if (!made[model->number])
		made[model->number] = malloc(sizeof(*model));
	*made[model->number] = *model;
	pthread_mutex_unlock(&made_lock);
}

/* Told to a mirror before whoever made it could say so here. */
static const struct model *made_wait(uint64_t number)
{
	const struct model *model = NULL;

	while (!model) {
		pthread_mutex_lock(&made_lock);
		model = number < NUMBERS ? made[number] : NULL;
		pthread_mutex_unlock(&made_lock);
		if (!model)
			usleep(100);
	}
	return model;
}

static void made_clear(void)
{
	for (unsigned i = 0; i < NUMBERS; i++) {
		free(made[i]);
		made[i] = NULL;
	}
}

/* ---- the copy */

struct copy {
	char path[256], opened[280];
	int fd;
	struct thaw_take *take;
	size_t run;  /* what is read next: of the dirty ones */
	uint64_t at; /* block in it */
	uint8_t *
		blocks; /* all that was read, in their order: nothing is put into the copy before all is there */
	uint64_t read;
	struct model model; /* at the instant */
	struct thaw_name names[64];
	unsigned name_count;
	bool encrypted;
};

static void copy_begin(struct copy *copy)
{
	*copy = (struct copy){0};
	snprintf(copy->path, sizeof(copy->path), "%s/copy.thaw", model_directory);
	snprintf(copy->opened, sizeof(copy->opened), "%s/opened.thaw", model_directory);
	copy->fd = open(copy->path, O_RDWR | O_CREAT | O_TRUNC, 0600);
}

static int copy_take(struct copy *copy, struct thaw_mirror *mirror, struct thaw_error *error)
{
	int code = thaw_mirror_take(mirror, &copy->take, error);

	copy->encrypted = mirror->image->identity.enciphered;
	copy->run = copy->at = copy->read = 0;
	copy->blocks = code ? NULL
			    : malloc(thaw_mirror_info(copy->take)->dirty_blocks * SPACE_BLOCK);
	return code;
}

/* Some of it. 1: all is read; 0: not yet; -errno. */
static int copy_read(struct copy *copy, uint64_t blocks)
{
	const struct thaw_take_info *info = thaw_mirror_info(copy->take);

	while (copy->run < info->dirty_count && blocks) {
		const struct thaw_mirror_run *run = &info->dirty[copy->run];
		uint64_t part = run->count - copy->at < blocks ? run->count - copy->at : blocks;
		int code = thaw_mirror_read(copy->take, (run->first + copy->at) * SPACE_BLOCK,
					    copy->blocks + copy->read * SPACE_BLOCK,
					    part * SPACE_BLOCK);

		if (code)
			return code;
		copy->read += part;
		copy->at += part;
		blocks -= part;
		if (copy->at == run->count) {
			copy->run++;
			copy->at = 0;
		}
	}
	return copy->run == info->dirty_count;
}

static void copy_write(struct copy *copy, const struct thaw_mirror_run *run, const uint8_t *bytes)
{
	if (sys_pwrite(copy->fd, bytes, run->count * SPACE_BLOCK, run->first * SPACE_BLOCK))
		abort();
}

/* What was read goes to its places, and garbage to where the take says that nothing is. */
static void copy_put(struct copy *copy)
{
	const struct thaw_take_info *info = thaw_mirror_info(copy->take);
	const uint8_t *from = copy->blocks;

	for (size_t i = 0; i < info->freed_count; i++)
		for (size_t j = 0; j < info->dirty_count; j++)
			if (info->freed[i].first < info->dirty[j].first + info->dirty[j].count &&
			    info->dirty[j].first < info->freed[i].first + info->freed[i].count)
				abort();
	for (size_t i = 0; i < info->freed_count; i++) {
		uint8_t *garbage = malloc(info->freed[i].count * SPACE_BLOCK);

		memset(garbage, 0xdb, info->freed[i].count * SPACE_BLOCK);
		copy_write(copy, &info->freed[i], garbage);
		free(garbage);
	}
	for (size_t i = 0; i < info->dirty_count; i++) {
		copy_write(copy, &info->dirty[i], from);
		from += info->dirty[i].count * SPACE_BLOCK;
	}
	if (ftruncate(copy->fd, (off_t)info->file_bytes))
		abort();
}

static void copy_done(struct copy *copy, bool confirmed)
{
	thaw_mirror_done(copy->take, confirmed);
	free(copy->blocks);
	copy->take = NULL;
	copy->blocks = NULL;
}

static void copy_end(struct copy *copy)
{
	if (copy->take)
		copy_done(copy, false);
	close(copy->fd);
}

static int copy_file(const char *from, const char *to)
{
	char command[640];

	snprintf(command, sizeof(command), "cp --sparse=never '%s' '%s'", from, to);
	return system(command);
}

static bool names_same(const struct copy *copy, const struct record *record)
{
	return copy->name_count == record->name_count &&
	       (!record->name_count ||
		!memcmp(copy->names, record->names, record->name_count * sizeof(*copy->names)));
}

/* Every generation that the record lists. */
static bool listed_right(const char *path, struct thaw_error *error)
{
	struct model_seen seen[MODEL_PAGES] = {0};
	struct thaw_generation *log;
	int count = path_log(path, &log, error), right = 0;

	for (int i = 0; i < count; i++) {
		struct image_options options = {
			.path = path, .read_only = true, .generation = log[i].number};
		struct thaw_error fallback;
		struct image *image;

		if (image_open(&options, &image, &fallback, error))
			break;
		right += !fallback.code &&
			 model_compare_seen(image, made_wait(log[i].number), seen, error) == SAME;
		image_close(image);
	}
	if (count >= 0)
		free(log);
	return right == count;
}

/*
 * What whoever has nothing but the copy finds: all that is listed, and, once it is opened to go on from it, the newest one,
 * also if that is in the log alone.
 */
static bool copy_is(struct copy *copy, uint64_t newest, struct thaw_error *error)
{
	struct image_options options = model_options();
	const struct thaw_verify_ops ops = {.damage = model_print_damage};
	struct thaw_verify_summary summary;
	struct thaw_error fallback;
	struct image *image;
	bool right;

	if (copy_file(copy->path, copy->opened))
		return false;
	if (newest && thaw_image_verify(copy->opened, &ops, &summary, error)) {
		say("verify: %s", error->text);
		return false;
	}
	if (!listed_right(copy->opened, error)) {
		say("a listed one is wrong: %s", error->text);
		return false;
	}
	options.path = copy->opened;
	options.create = false;
	options.encrypted = copy->encrypted;
	if (image_open(&options, &image, &fallback, error)) {
		say("open: %s", error->text);
		return false;
	}
	right = !fallback.code && image_opened(image)->number == newest &&
		(!newest || model_compare(image, made_wait(newest), error) == SAME);
	if (!right)
		say("opened %llu, wanted %llu: %s", (unsigned long long)image_opened(image)->number,
		    (unsigned long long)newest, fallback.text);
	if (right && copy->name_count != UINT32_MAX && !names_same(copy, &image->record)) {
		say("other names");
		right = false;
	}
	image_close(image);
	return right;
}

/* ---- a history */

FIXTURE(mirror)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct thaw_mirror *mirror;
	struct model model;
	struct copy copy;
	unsigned compress;
	bool encrypted;
};

static int give(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)make, (void)why;
	memcpy(key, arg, THAW_KEY_BYTES);
	return 0;
}

static void copy_names(struct copy *copy, const struct image *image)
{
	copy->name_count = image->record.name_count;
	if (copy->name_count)
		memcpy(copy->names, image->record.names, copy->name_count * sizeof(*copy->names));
}

FIXTURE_SETUP(mirror)
{
	static uint8_t key[THAW_KEY_BYTES] = "thirty-two bytes of a user's key";

	thaw_use_key(&(struct thaw_key_source){.get = give, .arg = key, .name = "a test"});
	setenv("THAW_INJECT", "",
	       1); /* what failed may leave blocks taken: tests/inject/checks.c */
	model_setup("mirror");
	copy_begin(&self->copy);
}
FIXTURE_TEARDOWN(mirror)
{
	failure.error = 0;
	copy_end(&self->copy);
	if (self->mirror)
		mirror_close(self->mirror);
	image_close(self->image);
	made_clear();
	model_teardown();
}

static int open_image(FIXTURE_DATA(mirror) * self)
{
	struct image_options options = model_options();
	int code;

	options.compress = self->compress;
	options.encrypted = self->encrypted;
	code = image_open(&options, &self->image, &self->fallback, &self->error);

	if (code)
		self->image = NULL;
	return code;
}

/* As with THAW_LOG, but that entries are soon too many. */
static void wants_log(struct image *image)
{
	image_log_wanted(image);
	image->log.bytes = LOG;
	image->log.bytes_large = 0;
	image->log.fold_ns = UINT64_MAX;
}

/* Pages [first, first + count) of the model have changed; into the log if that takes them. */
static int commit_pages(struct image *image, struct model *model, unsigned first, unsigned count,
			struct thaw_error *error)
{
	struct thaw_generation generation = {.heap_bytes = 65536, .reason = THAW_REASON_REQUEST};
	static uint8_t state[9000];
	struct model next = *model;
	struct commit *commit;
	int code;

	next.state++;
	code = commit_begin(image, &commit, error);
	if (code)
		return code;
	for (unsigned i = first; !code && i < first + count; i++) {
		next.version[i] = random_below(12) ? next.version[i] + 1 : 0;
		code = next.version[i] ? model_store(commit, &next, i, error)
				       : commit_drop(commit, model_page(i), 1, error);
	}
	model_fill_state(state, next.state);
	if (!code)
		code = image->log.wanted ? commit_log(commit, &generation, state,
						      model_state_bytes(next.state), error)
					 : 1;
	if (code > 0)
		code = commit_finish(commit, &generation, state, model_state_bytes(next.state),
				     error);
	if (code) {
		commit_abort(commit);
		return code;
	}
	next.number = next.portable = generation.number;
	*model = next;
	made_add(model);
	return 0;
}

static void fail_somewhere(void)
{
	static const enum sys_call calls[] = {SYS_CALL_WRITE, SYS_CALL_FDATASYNC, SYS_CALL_READ};

	failure = (struct failure){.call = calls[random_below(3)],
				   .error = random_below(2) ? -EIO : -ENOSPC,
				   .skip = (int)random_below(5)};
}

static void change_names(FIXTURE_DATA(mirror) * self)
{
	static const char *const names[] = {"one", "two", "three"};
	uint64_t newest = 0;

	if (random_below(2))
		image_tag(self->image, names[random_below(3)], &newest, 0, &self->error);
	else
		image_untag(self->image, names[random_below(3)], &self->error);
}

/* One step: it may fail, and then the model stays as it is. */
static void step(FIXTURE_DATA(mirror) * self)
{
	unsigned first = random_below(400), dice = random_below(20);

	if (dice < 3)
		fail_somewhere();
	if (dice == 4)
		wants_log(self->image);
	if (dice == 5)
		model_abort_somewhere(&self->model, self->image);
	else if (dice == 6)
		change_names(self);
	else if (dice == 7)
		image_fold(self->image, &self->error);
	else if (dice == 8)
		image_failed(self->image, random_next() % 3);
	else if (dice == 9 && self->model.number)
		thaw_mirror_dirty(self->mirror, random_below(300), 1 + random_below(100));
	else if (dice < 13)
		commit_pages(self->image, &self->model, first, 1 + random_below(200), &self->error);
	else
		commit_pages(self->image, &self->model, first, 1 + random_below(4), &self->error);
	failure.error = 0;
}

/* A commit of which half is in the file. */
static int half_commit(FIXTURE_DATA(mirror) * self, struct commit **commit)
{
	struct model other = self->model;
	int code = commit_begin(self->image, commit, &self->error);

	for (unsigned i = 0; !code && i < MODEL_PAGES; i += 1 + random_below(8)) {
		other.version[i] += 1000;
		code = model_store(*commit, &other, i, &self->error);
	}
	return code;
}

/* From the take on: commits go on, then a part is read, and so on. -ESTALE: too late. */
static int read_slowly(FIXTURE_DATA(mirror) * self)
{
	int code;

	do {
		for (unsigned i = random_below(6); i--;)
			step(self);
		code = copy_read(&self->copy, 1 + random_below(300));
	} while (!code);
	return code < 0 ? code : thaw_mirror_check(self->copy.take);
}

static unsigned copies, stales;

/* One take, and what becomes of it. */
static bool one_take(FIXTURE_DATA(mirror) * self)
{
	struct copy *copy = &self->copy;
	struct commit *commit = NULL;
	uint64_t newest = self->model.number;
	bool lost;
	int code;

	if (random_below(6) == 0 && half_commit(self, &commit))
		return false;
	code = copy_take(copy, self->mirror, &self->error);
	if (code)
		say("take: %s", self->error.text);
	if (code)
		return false;
	copy_names(copy, self->image);
	if (thaw_mirror_info(copy->take)->news.generation != newest) {
		say("of generation %llu",
		    (unsigned long long)thaw_mirror_info(copy->take)->news.generation);
		return false;
	}
	if (commit)
		commit_abort(commit);
	code = read_slowly(self);
	if (code && code != -ESTALE)
		say("read: %d", code);
	if (code && code != -ESTALE)
		return false;
	stales += code == -ESTALE;
	/* What is not confirmed comes again, whether it has got into the copy or not. */
	lost = random_below(4) == 0;
	if (!code && (!lost || random_below(2))) {
		copy_put(copy);
		if (!copy_is(copy, newest, &self->error))
			return false;
		copies++;
	}
	copy_done(copy, !code && !lost);
	return true;
}

static bool history(FIXTURE_DATA(mirror) * self)
{
	while (self->model.number < STEPS) {
		for (unsigned i = random_below(8); i--;)
			step(self);
		if (random_below(12) == 0) { /* its program ends, and goes on */
			mirror_close(self->mirror);
			self->mirror = NULL;
			image_close(self->image);
			if (open_image(self))
				return false;
			if (random_below(2) && image_settle(self->image, &self->error))
				return false;
			if (mirror_open(self->image, 0, &self->mirror, &self->error))
				return false;
		}
		if (!one_take(self))
			return false;
	}
	return true;
}

TEST_F(mirror, a_copy_made_of_takes_is_the_image_at_each_of_them)
{
	copies = stales = 0;
	for (unsigned i = 0; i < HISTORIES; i++) {
		random_state = 88172645463325252ull + i * 0x9e3779b97f4a7c15ull;
		self->compress = i % 2 ? THAW_COMPRESS_LZ4 : 0;
		self->encrypted = i % 4 > 1;
		ASSERT_EQ(0, open_image(self));
		ASSERT_EQ(0, mirror_open(self->image, 0, &self->mirror, &self->error));
		if (i % 3)
			wants_log(self->image);
		ASSERT_TRUE(history(self)) TH_LOG("history %u: %s", i, self->error.text);
		copy_end(&self->copy);
		mirror_close(self->mirror);
		image_close(self->image);
		self->mirror = NULL;
		self->image = NULL;
		self->model = (struct model){0};
		made_clear();
		unlink(model_path);
		copy_begin(&self->copy);
	}
	TH_LOG("%u copies, %u stale", copies, stales);
	ASSERT_EQ(0, stales); /* there is room for so little */
	ASSERT_LT(HISTORIES * 5, copies);
}

/* ---- beside a thread that commits */

static _Atomic int budget; /* commits that it may make; negative: it ends */

static void *commit_always(void *arg)
{
	FIXTURE_DATA(mirror) *self = arg;

	hesitates = true;
	while (budget >= 0) {
		if (!budget) {
			usleep(50);
			continue;
		}
		if (commit_pages(self->image, &self->model, random_below(400),
				 1 + random_below(budget % 8 ? 3 : 150), &self->error))
			abort();
		budget--;
	}
	return NULL;
}

TEST_F(mirror, takes_come_at_any_moment_of_a_commit)
{
	struct thaw_error error;
	pthread_t thread;

	self->copy.name_count = UINT32_MAX;
	ASSERT_EQ(0, open_image(self));
	ASSERT_EQ(0, mirror_open(self->image, 64 << 20, &self->mirror, &self->error));
	wants_log(self->image);
	budget = 1;
	ASSERT_EQ(0, pthread_create(&thread, NULL, commit_always, self));
	for (unsigned i = 0; i < TAKES; i++) {
		uint64_t newest;

		budget += 12;
		usleep(random_below(2000));
		ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &error)) TH_LOG("%s", error.text);
		newest = thaw_mirror_info(self->copy.take)->news.generation;
		while (!copy_read(&self->copy, 1 + random_below(200)))
			usleep(random_below(200));
		ASSERT_EQ(0, thaw_mirror_check(self->copy.take));
		copy_put(&self->copy);
		copy_done(&self->copy, true);
		ASSERT_TRUE(copy_is(&self->copy, newest, &error))
		TH_LOG("take %u: %s", i, error.text);
	}
	budget = -1;
	ASSERT_EQ(0, pthread_join(thread, NULL));
}

/* ---- what else is told */

static int open_both(FIXTURE_DATA(mirror) * self, uint64_t hold_bytes)
{
	int code = open_image(self);

	return code ? code : mirror_open(self->image, hold_bytes, &self->mirror, &self->error);
}

TEST_F(mirror, a_take_that_is_read_too_late_is_stale_and_comes_again)
{
	uint64_t newest;

	ASSERT_EQ(0, open_both(self, 0));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	self->image->held_most = 64 << 10;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(0, copy_read(&self->copy, 100));
	for (unsigned i = 0; i < 8; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(-ESTALE, thaw_mirror_check(self->copy.take));
	ASSERT_EQ(-ESTALE, copy_read(&self->copy, 100));
	copy_done(&self->copy, true); /* which it is not, for that */

	newest = self->model.number;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	copy_names(&self->copy, self->image);
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
	copy_done(&self->copy, true);

	/* With room for it, it waits. */
	self->mirror->hold_bytes = 64 << 20;
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	newest = self->model.number;
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	for (unsigned i = 0; i < 8; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
	copy_done(&self->copy, true);
	/* And what was held back for it is free again. */
	for (unsigned i = 0; i < 2; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 1, &self->error));
	ASSERT_EQ(0, ranges_bytes(&self->image->held));
}

TEST_F(mirror, news_are_generations_and_names)
{
	struct thaw_mirror_news news;
	struct pollfd poll_;
	uint64_t newest = 0, value;

	ASSERT_EQ(0, open_both(self, 0));
	poll_ = (struct pollfd){.fd = thaw_mirror_fd(self->mirror), .events = POLLIN};
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, 0, 0, &news));
	ASSERT_EQ(0, news.generation);
	ASSERT_EQ(0, poll(&poll_, 1, 0));
	wants_log(self->image);
	for (unsigned i = 1; i <= 4; i++) { /* the last ones in the log alone */
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 3, &self->error));
		ASSERT_EQ(1, thaw_mirror_wait(self->mirror, i - 1, -1, &news));
		ASSERT_EQ(i, news.changes);
		ASSERT_EQ(self->model.number, news.generation);
	}
	ASSERT_EQ(1, poll(&poll_, 1, 0));
	ASSERT_EQ(8, read(poll_.fd, &value, 8));
	ASSERT_TRUE(image_log_began(self->image));
	ASSERT_EQ(0, image_fold(self->image, &self->error));
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, news.changes, 1, NULL));
	ASSERT_EQ(0, poll(&poll_, 1, 0));
	ASSERT_EQ(0, image_tag(self->image, "name", &newest, 0, &self->error));
	ASSERT_EQ(1, thaw_mirror_wait(self->mirror, news.changes, -1, &news));
	ASSERT_EQ(5, news.changes);
	ASSERT_EQ(self->model.number, news.generation);
	thaw_mirror_wake(self->mirror);
	ASSERT_EQ(-EINTR, thaw_mirror_wait(self->mirror, news.changes, -1, NULL));
	ASSERT_EQ(0, thaw_mirror_wait(self->mirror, news.changes, 0, NULL));

	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(5, thaw_mirror_info(self->copy.take)->news.changes);
	ASSERT_EQ(self->image->identity.sequence, thaw_mirror_info(self->copy.take)->news.commit);
	ASSERT_STREQ(ENGINE, thaw_mirror_info(self->copy.take)->engine);
	ASSERT_EQ(PAGE, thaw_mirror_info(self->copy.take)->page_bytes);
	{
		struct thaw_take *other;

		ASSERT_EQ(-EBUSY, thaw_mirror_take(self->mirror, &other, &self->error));
	}
}

/* What is in the copy already is not taken; but what was written since it was compared is. */
TEST_F(mirror, what_the_copy_has_is_not_taken)
{
	struct thaw_take *take;
	uint64_t first, blocks;

	ASSERT_EQ(0, open_image(self));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(0, mirror_open(self->image, 0, &self->mirror, &self->error));
	blocks = model_file_bytes() / SPACE_BLOCK;
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 2, &self->error));
	ASSERT_EQ(0, thaw_mirror_clean(self->mirror, 0, blocks + 100));
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_LT(2, thaw_mirror_info(take)->dirty_blocks);
	ASSERT_GT(20, thaw_mirror_info(take)->dirty_blocks);
	ASSERT_EQ(-EBUSY, thaw_mirror_clean(self->mirror, 0, 1));
	thaw_mirror_done(take, true);

	/* All that is nothing's is told to be free by now, and is not taken for being named. */
	first = blocks - 50;
	ASSERT_EQ(0, thaw_mirror_dirty(self->mirror, first, 1000));
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty[0].count);
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty_count);
	ASSERT_EQ(first, thaw_mirror_info(take)->dirty[1].first);
	thaw_mirror_done(take, true);
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	ASSERT_EQ(2, thaw_mirror_info(take)->dirty_blocks);
	thaw_mirror_done(take, true);
}

TEST_F(mirror, what_others_do_to_the_file_is_told)
{
	struct thaw_take *take;
	char block[SPACE_BLOCK] = "";
	int fd;

	ASSERT_EQ(0, open_both(self, 0));
	ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, 400, &self->error));
	ASSERT_EQ(0, thaw_mirror_take(self->mirror, &take, &self->error));
	fd = open(model_path, O_RDWR);
	ASSERT_EQ(0, ftruncate(fd, 3 * SPACE_BLOCK));
	ASSERT_EQ(THAW_EOVERWRITTEN, thaw_mirror_read(take, 100 * SPACE_BLOCK, block, 100));
	thaw_mirror_done(take, false);
	ASSERT_EQ(SPACE_BLOCK, pwrite(fd, block, SPACE_BLOCK, 0));
	ASSERT_EQ(SPACE_BLOCK, pwrite(fd, block, SPACE_BLOCK, SPACE_BLOCK));
	close(fd);
	ASSERT_EQ(THAW_EOVERWRITTEN, thaw_mirror_take(self->mirror, &take, &self->error));
}

TEST_F(mirror, an_image_at_rest_is_copied_as_it_is)
{
	ASSERT_EQ(0, open_image(self));
	wants_log(self->image);
	for (unsigned i = 0; i < 5; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 7 * i, i ? 3 : 400,
					  &self->error));
	ASSERT_EQ(THAW_EINUSE, thaw_mirror_open_file(model_path, &self->mirror, &self->error));
	image_close(self->image);
	self->image = NULL;
	ASSERT_EQ(0, thaw_mirror_open_file(model_path, &self->mirror, &self->error));
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	ASSERT_EQ(self->model.number, thaw_mirror_info(self->copy.take)->news.generation);
	ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
	copy_put(&self->copy);
	ASSERT_TRUE(copy_is(&self->copy, self->model.number, &self->error));
	copy_done(&self->copy, true);
}

/* A file that is too long for what is in it: pages are moved to its front, and its end is cut off. */
TEST_F(mirror, pages_that_move_are_taken)
{
	uint64_t longest = 0;

	model_page_bytes = PAGE_MOST;
	ASSERT_EQ(0, open_both(self, 256 << 20));
	for (unsigned i = 0; i < 2; i++)
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 0, MODEL_PAGES, &self->error));
	self->image->retention.newest = 1;
	for (unsigned i = 0; i < 12; i++) {
		struct thaw_generation generation = {.heap_bytes = 65536};
		struct commit *commit;
		uint64_t newest;

		longest = model_file_bytes() > longest ? model_file_bytes() : longest;
		ASSERT_EQ(0, commit_begin(self->image, &commit, &self->error));
		for (unsigned n = i ? MODEL_PAGES : 4; n < MODEL_PAGES - 3; n++) {
			self->model.version[n] = 0;
			ASSERT_EQ(0, commit_drop(commit, model_page(n), 1, &self->error));
		}
		self->model.version[0]++;
		self->model.state = 3;
		ASSERT_EQ(0, model_store(commit, &self->model, 0, &self->error));
		ASSERT_EQ(0, commit_finish(commit, &generation, NULL, 0, &self->error));
		self->model.number = newest = generation.number;
		made_add(&self->model);
		if (i % 3)
			continue;
		ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
		ASSERT_EQ(0, commit_pages(self->image, &self->model, 1, 2, &self->error));
		ASSERT_EQ(1, copy_read(&self->copy, UINT64_MAX));
		copy_put(&self->copy);
		ASSERT_TRUE(copy_is(&self->copy, newest, &self->error));
		copy_done(&self->copy, true);
	}
	ASSERT_GT(longest / 2, model_file_bytes());
}

/* ---- what a restore reads first */

/* A file that has nothing but these blocks, and garbage for the others. */
static uint64_t sparse_make(struct copy *copy, const struct thaw_mirror_run *runs, int count)
{
	uint64_t bytes = thaw_mirror_info(copy->take)->file_bytes, total = 0;
	uint8_t *all = malloc(bytes + SPACE_BLOCK);

	memset(all, 0xdb, bytes);
	for (int i = 0; i < count; i++) {
		if (thaw_mirror_read(copy->take, runs[i].first * SPACE_BLOCK,
				     all + runs[i].first * SPACE_BLOCK,
				     runs[i].count * SPACE_BLOCK))
			abort();
		total += runs[i].count;
	}
	if (ftruncate(copy->fd, 0) || sys_pwrite(copy->fd, all, bytes, 0))
		abort();
	free(all);
	return total;
}

/* Of pages [first, end) of the model: how many such a file has. */
static unsigned sparse_pages(const struct copy *copy, const struct model *model, unsigned first,
			     unsigned end)
{
	struct image_options options = {.path = copy->path, .read_only = true};
	struct thaw_error error, fallback;
	struct image *image;
	unsigned right = 0;
	size_t bytes;
	void *state;

	if (image_open(&options, &image, &fallback, &error) || fallback.code)
		return 0;
	if (image_read_state(image, &state, &bytes, &error) ||
	    bytes != model_state_bytes(model->state))
		return 0;
	free(state);
	for (; first < end; first++) {
		struct extent extents[IMAGE_LEAF_PAGES];
		uint64_t page = model_page(first), leaf = page - page % IMAGE_LEAF_PAGES;

		right += !image_lookup(image, leaf, extents, &error) &&
			 model_compare_page(image, &extents[page - leaf], page,
					    model->version[first]) == SAME;
	}
	image_close(image);
	return right;
}

static int store_set(FIXTURE_DATA(mirror) * self)
{
	uint64_t set[] = {set_entry(model_page(560), SET_MASK_ALL), set_entry(96, SET_MASK_ALL),
			  set_entry(10, 0x0f00)};
	struct thaw_generation generation = {.heap_bytes = 65536};
	struct commit *commit;
	int code = commit_begin(self->image, &commit, &self->error);

	if (code)
		return code;
	code = commit_working_set(commit, set, 3, self->model.number, &self->error);
	if (!code)
		code = commit_finish(commit, &generation, NULL, 0, &self->error);
	if (code)
		commit_abort(commit);
	self->model.number = generation.number;
	self->model.state = 0;
	return code;
}

TEST_F(mirror, what_a_restore_reads_first_is_enough_for_it)
{
	struct thaw_mirror_run *runs;
	uint64_t total;
	int count;

	ASSERT_EQ(0, open_both(self, 0));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		self->model.version[i] = 1;
	self->model.state = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	ASSERT_EQ(0, store_set(self)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	count = thaw_image_hot_blocks(self->copy.take, 1 << 30, &runs, &self->error);
	ASSERT_LT(2, count) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, runs[0].first);
	total = sparse_make(&self->copy, runs, count);
	free(runs);
	ASSERT_GT(80, total);
	ASSERT_EQ(16, sparse_pages(&self->copy, &self->model, 96, 112));
	ASSERT_EQ(4, sparse_pages(&self->copy, &self->model, 8, 12));
	ASSERT_EQ(1, sparse_pages(&self->copy, &self->model, 560, 561));
	ASSERT_GT(400, sparse_pages(&self->copy, &self->model, 0, MODEL_PAGES));

	/* As much as there is room for, in the order of use. */
	count = thaw_image_hot_blocks(self->copy.take, (total - 20) * SPACE_BLOCK, &runs,
				      &self->error);
	ASSERT_EQ(total - 20, sparse_make(&self->copy, runs, count));
	free(runs);
	ASSERT_EQ(1, sparse_pages(&self->copy, &self->model, 560, 561));
	ASSERT_EQ(0, sparse_pages(&self->copy, &self->model, 8, 12));
}

TEST_F(mirror, where_no_working_set_was_recorded_the_newest_pages_come_first)
{
	struct thaw_mirror_run *runs;
	uint64_t total;
	int count;

	ASSERT_EQ(0, open_both(self, 0));
	for (unsigned i = 0; i < MODEL_PAGES; i++)
		self->model.version[i] = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	for (unsigned i = 300; i < 310; i++)
		self->model.version[i] = 2;
	self->model.state = 1;
	ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
	ASSERT_EQ(0, copy_take(&self->copy, self->mirror, &self->error));
	count = thaw_image_hot_blocks(self->copy.take, 25 * SPACE_BLOCK, &runs, &self->error);
	ASSERT_LT(0, count);
	total = sparse_make(&self->copy, runs, count);
	free(runs);
	ASSERT_EQ(25, total);
	ASSERT_EQ(10, sparse_pages(&self->copy, &self->model, 300, 310));
}

TEST_HARNESS_MAIN
