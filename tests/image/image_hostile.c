// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image that was made to do harm: fields of slots, records and nodes take values that like to
 * hurt, and every checksum above them is right again. Whatever it says, opening it, looking pages
 * up, reading its state, verifying, inspecting, copying and committing return, and none asks for much
 * memory. The seed is printed; THAW_SEED=... repeats a run.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <time.h>

#include "image/format.h"
#include "image_model.h"

#define SECONDS 4
#define MEMORY (256u << 20)
#define NODES_MAX 4096u
#define COMMITS 3
#define MADE_DAMAGE 2

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1 /* their shadow memory is beyond any limit */
#else
#define SANITIZED 0
#endif

static uint8_t *whole, *bytes; /* the image as it was made, and as it is now */
static size_t whole_bytes;

static struct place { /* a node, and where its reference lies; children before parents */
	uint64_t at, reference;
	unsigned level;
} places[NODES_MAX];
static unsigned place_count;

static struct progress { /* shared with the parent, which tells what a dead child was doing */
	uint64_t seed, rounds, opened;
	const char *doing;
} * progress;

static void places_find(uint64_t at, uint64_t reference, unsigned level)
{
	const struct disk_inner *inner = (const void *)(whole + at);

	for (unsigned i = 0; level && i < FORMAT_FANOUT; i++)
		if (inner->children[i].offset)
			places_find(inner->children[i].offset,
				    at + offsetof(struct disk_inner, children[i].checksum),
				    level - 1);
	if (place_count < NODES_MAX)
		places[place_count++] = (struct place){at, reference, level};
}

static void checksum(uint64_t to, uint64_t at, size_t length)
{
	XXH128_hash_t hash = XXH3_128bits(bytes + at, length);

	memcpy(bytes + to, &hash, sizeof(hash));
}

static size_t node_bytes(unsigned level)
{
	return level ? sizeof(struct disk_inner) : sizeof(struct disk_leaf);
}

static const struct disk_slot *slot_of(const uint8_t *image, unsigned number)
{
	return (const void *)(image + number * 4096);
}

static uint64_t hurting_value(uint64_t old)
{
	const uint64_t node = places[random_below(place_count)].at;
	const uint64_t values[] = {0,
				   1,
				   old + 1,
				   old - 1,
				   old * 2,
				   old ^ 1ull << random_below(64),
				   8,
				   4096,
				   8192,
				   node,
				   node + 8,
				   whole_bytes,
				   whole_bytes - 8,
				   whole_bytes + 4096,
				   1ull << random_below(64),
				   ~0ull << random_below(64),
				   ~0ull - 8 * random_below(1024),
				   -(uint64_t)8 * (1 + random_below(256)),
				   INT64_MAX - random_below(4096),
				   random_next()};

	return values[random_below(sizeof(values) / sizeof(values[0]))];
}

static void mutate(uint64_t at, size_t length)
{
	static const unsigned sizes[] = {8, 8, 8, 4, 2, 1};
	unsigned size = sizes[random_below(6)];
	uint64_t old = 0, value;

	at += random_below((unsigned)(length / size)) * size;
	memcpy(&old, bytes + at, size);
	value = hurting_value(old);
	memcpy(bytes + at, &value, size);
}

/* One to four fields, then every checksum from the nodes up. Slots may name each other's records. */
static void image_mutate(void)
{
	memcpy(bytes, whole, whole_bytes);
	for (unsigned i = 1 + random_below(4); i--;) {
		const struct disk_slot *slot = slot_of(whole, random_below(2));
		const struct place *place = &places[random_below(place_count)];

		switch (random_below(6)) {
		case 0:
			mutate((uint64_t)((const uint8_t *)slot - whole) +
				       offsetof(struct disk_slot, sequence),
			       40);
			break;
		case 1:
			mutate((uint64_t)((const uint8_t *)slot - whole),
			       sizeof(struct disk_slot) - 16);
			break;
		case 2:
		case 3:
			mutate(slot->record_offset, slot->record_bytes);
			break;
		default:
			mutate(place->at, node_bytes(place->level));
		}
	}
	for (unsigned i = 0; i < place_count; i++)
		checksum(places[i].reference, places[i].at, node_bytes(places[i].level));
	for (unsigned i = 0; i < 2; i++) {
		const struct disk_slot *now = slot_of(bytes, i);

		if (now->record_offset < whole_bytes &&
		    now->record_bytes <= whole_bytes - now->record_offset)
			checksum(i * 4096 + offsetof(struct disk_slot, record_checksum),
				 now->record_offset, now->record_bytes);
		checksum(i * 4096 + offsetof(struct disk_slot, checksum), i * 4096,
			 offsetof(struct disk_slot, checksum));
	}
}

static void image_put_to(const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

	if (fd < 0 || pwrite(fd, bytes, whole_bytes, 0) != (ssize_t)whole_bytes || close(fd))
		abort();
}

static void image_put(void)
{
	image_put_to(model_path);
}

static int image_use(bool writes)
{
	struct image_options options = model_options();
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error, fallback;
	struct model model = {.state = 1};
	struct image *image;
	size_t state_bytes;
	void *state;
	int code;

	options.read_only = !writes;
	options.generation = random_below(4) ? 0 : 1 + random_below(COMMITS);
	progress->doing = "open";
	code = image_open(&options, &image, &fallback, &error);
	if (code)
		return code;
	progress->opened++;
	progress->doing = "lookup";
	for (unsigned i = 0; i < 40 && code != -ENOMEM; i++) {
		uint64_t page = i < 32 ? model_page(random_below(MODEL_PAGES))
				       : 1ull << random_below(60);

		code = image_lookup(image, page & ~15ull, extents, &error);
	}
	progress->doing = "read the state";
	if (code != -ENOMEM)
		code = image_read_state(image, &state, &state_bytes, &error);
	if (!code)
		free(state);
	progress->doing = "commit";
	for (unsigned i = 0; writes && i < 2 && code != -ENOMEM; i++) {
		model.version[random_below(MODEL_PAGES)] = i + 1;
		code = model_commit(image, &model, &error);
	}
	image_close(image);
	return code;
}

static int image_tools(void)
{
	struct thaw_verify_summary summary;
	struct thaw_generation *log;
	struct thaw_image_info info;
	struct thaw_error error;
	int code;

	progress->doing = "verify";
	code = thaw_image_verify(model_path, NULL, &summary, &error);
	progress->doing = "info";
	if (code != -ENOMEM)
		code = path_info(model_path, true, &info, &error);
	progress->doing = "log";
	if (code != -ENOMEM)
		code = path_log(model_path, &log, &error);
	if (code >= 0)
		free(log);
	return code;
}

/* What is made of it is whole, whatever it was made of. */
static int copy_check(int code, const char *path)
{
	struct thaw_error error;

	if (!code && thaw_image_verify(path, NULL, NULL, &error)) {
		fprintf(stderr, "# %s\n", error.text);
		code = MADE_DAMAGE;
	}
	return code;
}

static int image_copies(void)
{
	char copy[sizeof(model_path) + 8], saved[sizeof(model_path) + 8];
	struct thaw_error error;
	int code;

	snprintf(copy, sizeof(copy), "%s.copy", model_path);
	snprintf(saved, sizeof(saved), "%s.saved", model_path);
	progress->doing = "clone"; /* damage and all */
	code = thaw_image_clone(model_path, copy, random_below(2) * random_below(COMMITS + 1), NULL,
				NULL, &error);
	if (code != -ENOMEM) {
		progress->doing = "repair";
		code = copy_check(thaw_image_repair(model_path, saved, NULL, NULL, &error), saved);
	}
	if (code != -ENOMEM && code != MADE_DAMAGE) {
		progress->doing = "compact";
		image_put_to(copy);
		code = copy_check(thaw_image_compact(copy, random_below(2), NULL, NULL, &error),
				  copy);
	}
	unlink(copy);
	unlink(saved);
	return code;
}

static uint64_t monotonic_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Exit 0: every call returned, and none was refused memory. */
static int child_main(uint64_t wanted)
{
	uint64_t seed = wanted;
	const struct rlimit memory = {MEMORY, MEMORY}, file = {64u << 20, 64u << 20};
	uint64_t end = monotonic_ms() + SECONDS * 1000;
	int code;

	if (!SANITIZED)
		setrlimit(RLIMIT_AS, &memory);
	setrlimit(RLIMIT_FSIZE, &file);
	signal(SIGXFSZ, SIG_IGN);
	for (; monotonic_ms() < end || progress->rounds < 20; seed++) {
		/* First, what has found something: page checksums that are wrong in a low bit alone. */
		static const uint64_t found[] = {0xc4c12ad5f7333dbc, 0x23977de532295d7e};

		if (progress->rounds < 2)
			seed = found[progress->rounds];
		else if (progress->rounds == 2)
			seed = wanted;
		progress->seed = random_state = seed;
		progress->rounds++;
		alarm(60);
		random_next();
		image_mutate();
		image_put();
		if (image_tools() == -ENOMEM || image_use(false) == -ENOMEM)
			return 1;
		code = image_copies();
		if (code == -ENOMEM || code == MADE_DAMAGE)
			return code == MADE_DAMAGE ? MADE_DAMAGE : 1;
		if (image_use(true) == -ENOMEM)
			return 1;
	}
	return 0;
}

static void image_make(void)
{
	struct image_options options = model_options();
	struct model model = {.state = 1};
	struct thaw_error error, fallback;
	struct image *image;
	int fd;

	if (image_open(&options, &image, &fallback, &error))
		abort();
	for (unsigned commit = 0; commit < COMMITS; commit++) {
		for (unsigned i = 0; i < MODEL_PAGES; i++)
			if (i % (commit * 20 + 2) == commit)
				model.version[i]++;
		model.state++;
		if (model_commit(image, &model, &error))
			abort();
	}
	image_close(image);
	whole_bytes = (size_t)model_file_bytes();
	whole = malloc(whole_bytes);
	bytes = malloc(whole_bytes);
	fd = open(model_path, O_RDONLY | O_CLOEXEC);
	if (!whole || !bytes || fd < 0 || pread(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
		abort();
	close(fd);
	for (unsigned i = 0; i < 2; i++) {
		const struct disk_slot *slot = slot_of(whole, i);
		const struct disk_record *record = (const void *)(whole + slot->record_offset);

		for (unsigned n = 0; n < record->generations; n++)
			places_find(record->generation[n].root_offset,
				    slot->record_offset + offsetof(struct disk_record,
								   generation[n].root_checksum),
				    record->generation[n].root_levels - 1);
	}
}

TEST(whatever_it_says_every_call_returns)
{
	const char *wanted = getenv("THAW_SEED");
	uint64_t seed = 0;
	int status;
	pid_t child;

	model_setup("hostile");
	image_make();
	if (wanted)
		seed = strtoull(wanted, NULL, 0);
	else if (getrandom(&seed, sizeof(seed), 0) != sizeof(seed))
		seed = 1;
	progress = mmap(NULL, sizeof(*progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
			-1, 0);
	ASSERT_NE(MAP_FAILED, progress);
	child = fork();
	if (!child)
		_exit(child_main(seed));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	TH_LOG("%lu images from THAW_SEED=%#lx on; %lu of %lu times one could be opened",
	       progress->rounds, seed, progress->opened, 2 * progress->rounds);
	EXPECT_EQ(0, status)
	{
		TH_LOG("%s %d in '%s' of THAW_SEED=%#lx: %s",
		       WIFSIGNALED(status) ? "signal" : "exit",
		       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
		       progress->doing, progress->seed,
		       WIFSIGNALED(status)		    ? strsignal(WTERMSIG(status))
		       : WEXITSTATUS(status) == MADE_DAMAGE ? "what it made is damaged"
							    : "out of memory");
	}
	EXPECT_LT(progress->rounds / 10, progress->opened);
	model_teardown();
}

TEST_HARNESS_MAIN
