/* SPDX-License-Identifier: MIT */
/*
 * fuzz_image.c - fuzz target: the input is an image file. Whatever it says, everything that reads an
 * image and everything that goes on to write to it returns, within bounds.
 *
 * Random changes would end at the first checksum. So image_fix() makes every checksum right before an
 * image is used: nodes from the leaves up, along whatever references claim; pages; state blobs; the
 * working set; records; slots. It also writes the few constants that no reader gets past (magics, a
 * node's place), and a record's identity. Eight bytes in block 0 that mean nothing in an image
 * (struct control) say which of that not to do, and how the image is used: so that an input is a file
 * that the thaw command understands too.
 *
 * Beside crashes, one thing is demanded: an image that verifies still does after it was written to.
 * Who makes an image can put anything into it, but not a generation that a later commit destroys.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <string.h>

#include "../by_path.h"
#include "image/format.h"
#include "fuzz.h"
#include "image/store.h"

#define MAX_BYTES (96u << 10)
#define NODES_MAX 3000u	    /* to fix, counted each time one is reached */
#define PLACES_MAX 2000u    /* to change */
#define GENERATIONS_OPEN 3u /* of those that an image lists, at most */

enum {
	KEEP_CHECKSUMS = 1, /* all of them as they are */
	KEEP_CONSTANTS = 2, /* magics, versions, identities, lengths */
	KEEP_NODES = 4,	    /* the head of each node */
	DAMAGE_ONE = 8,	    /* one reference has a wrong checksum, and what is above it is right */
	KEYED = 32,	    /* it has a key, and each checksum is the MAC that belongs there */
	LOG_TOO = 64,	    /* checksums and the chain of the log's entries are right */
	STRETCH = 16, /* the end of the file lies far behind: a writer will want to shorten it */
};

struct control {
	uint8_t keep;
	uint8_t retain;
	uint8_t open; /* which generation to write to: 0 the newest, 1 portable, 2 fresh, else the oldest */
	uint8_t pages; /* to commit, beside two; the highest bit: small ones go to a log */
	uint32_t seed;
};
#define PAGES_LOGGED 0x80u
#define CONTROL_AT 4088u
#define IMAGE_LEAST (2 * SPACE_BLOCK)
#define STRETCHED_BY (40ull << 20)
#define LOG (10 * SPACE_BLOCK)

/* ---- Checksums */

struct fix {
	uint8_t *bytes;
	uint64_t size;
	unsigned keep, left;
	unsigned damage; /* counts down to the sum that is to be wrong */
	uint64_t
		stretch; /* what lies at this offset or behind it is going to lie far behind; 0: nothing */
	uint32_t page_bytes;
	const struct checksum_key *key;
	uint64_t log; /* where that of the record lies in the input */
};

static bool lies(const struct fix *fix, uint64_t offset, uint64_t bytes)
{
	return offset <= fix->size && bytes <= fix->size - offset;
}

static int give_key(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *error)
{
	(void)arg, (void)make, (void)error;
	memset(key, 7, THAW_KEY_BYTES);
	return 0;
}

/* One for all images of this process. */
static const struct checksum_key *fuzz_key(struct key_mark *mark)
{
	static const struct checksum_key *key;
	static struct key_mark marked;
	struct thaw_error error;

	if (!key) {
		thaw_use_key(&(struct thaw_key_source){.get = give_key});
		if (keys_make("fuzz", &marked, &error) || keys_find("fuzz", &marked, &key, &error))
			fuzz_fail("no key: %s", error.text);
	}
	*mark = marked;
	return key;
}

static void sum_with(struct fix *fix, const struct checksum_key *key, enum checksum_kind kind,
		     void *to, uint64_t offset, uint64_t bytes)
{
	if (lies(fix, offset, bytes)) {
		XXH128_hash_t hash = checksum_of(key, kind, fix->bytes + offset, bytes);

		memcpy(to, (uint64_t[]){hash.low64 + (fix->damage == 1), hash.high64}, 16);
		fix->damage -= !!fix->damage;
	}
}

static void sum(struct fix *fix, enum checksum_kind kind, void *to, uint64_t offset, uint64_t bytes)
{
	sum_with(fix, fix->key, kind, to, offset, bytes);
}

/* Of slots and notes, which no key covers. */
static void sum_plain(struct fix *fix, void *to, uint64_t offset, uint64_t bytes)
{
	sum_with(fix, NULL, 0, to, offset, bytes);
}

/* Where it is going to lie. What was asked before is beyond `size`, and is not moved twice. */
static uint64_t moved(const struct fix *fix, uint64_t offset)
{
	return fix->stretch && offset >= fix->stretch && offset < fix->size ? offset + STRETCHED_BY
									    : offset;
}

/* Never recurses deeper than there are levels, and not more often than `left` says. */
static void fix_node(struct fix *fix, uint64_t offset, unsigned level, uint64_t first)
{
	union disk_any *node;

	if (!fix->left || offset % 8 || offset < STORE_HEADER_BYTES ||
	    !lies(fix, offset, index_node_bytes(level)))
		return;
	fix->left--;
	node = (void *)(fix->bytes + offset);
	if (!(fix->keep & KEEP_NODES)) {
		node->node.magic = FORMAT_NODE_MAGIC;
		node->node.level = (uint8_t)level;
		memset(node->node.zero, 0, sizeof(node->node.zero));
		node->node.first_page = first;
	}
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (level) {
			struct disk_child *child = &node->inner.children[i];

			if (!child->offset)
				continue;
			fix_node(fix, child->offset, level - 1, first + i * index_span(level - 1));
			sum(fix, CHECKSUM_NODE, child->checksum, child->offset,
			    index_node_bytes(level - 1));
			child->offset = moved(fix, child->offset);
		} else if (node->leaf.entries[i].encoding == EXTENT_RAW) {
			struct disk_entry *entry = &node->leaf.entries[i];

			sum(fix, CHECKSUM_PAGE, entry->checksum,
			    (uint64_t)entry->offset * FORMAT_UNIT, fix->page_bytes);
			entry->offset =
				moved(fix, (uint64_t)entry->offset * FORMAT_UNIT) / FORMAT_UNIT;
		}
	}
}

static void fix_generation(struct fix *fix, struct disk_generation *generation)
{
	unsigned levels = generation->root_levels;

	if (levels && levels <= INDEX_LEVELS_MAX) {
		fix_node(fix, generation->root_offset, levels - 1, 0);
		sum(fix, CHECKSUM_NODE, generation->root_checksum, generation->root_offset,
		    index_node_bytes(levels - 1));
		generation->root_offset = moved(fix, generation->root_offset);
	}
	if (generation->state_bytes) {
		sum(fix, CHECKSUM_STATE, generation->state_checksum, generation->state_offset,
		    generation->state_bytes);
		generation->state_offset = moved(fix, generation->state_offset);
	}
}

static void fix_record(struct fix *fix, struct disk_slot *slot)
{
	struct disk_record *record;
	uint32_t generations, names;
	uint64_t checked;

	if (slot->record_offset % 8 || slot->record_offset < STORE_HEADER_BYTES ||
	    !lies(fix, slot->record_offset, sizeof(*record)))
		return;
	record = (void *)(fix->bytes + slot->record_offset);
	generations = record->generations; /* a node may lie over it */
	names = record->names;
	checked = sizeof(*record) + (uint64_t)generations * sizeof(record->generation[0]) +
		  (uint64_t)names * sizeof(struct disk_name);
	if (!lies(fix, slot->record_offset, checked + 16))
		return;
	if (!(fix->keep & KEEP_CONSTANTS)) {
		record->magic = FORMAT_RECORD_MAGIC;
		record->sequence = slot->sequence;
		record->generation_bytes = sizeof(record->generation[0]);
		record->name_bytes = sizeof(struct disk_name);
		record->page_bytes = slot->page_bytes;
		memcpy(record->uuid, slot->uuid, sizeof(record->uuid));
		memcpy(record->engine, slot->engine, sizeof(record->engine));
		memcpy(record->key_salt, slot->key_salt, sizeof(record->key_salt));
		memcpy(record->key_check, slot->key_check, sizeof(record->key_check));
		slot->record_bytes = checked + 16;
	}
	for (unsigned i = 0; i < generations; i++)
		fix_generation(fix, &record->generation[i]);
	if (record->working_set_bytes) {
		sum(fix, CHECKSUM_WORKING_SET, record->working_set_checksum,
		    record->working_set_offset, record->working_set_bytes);
		record->working_set_offset = moved(fix, record->working_set_offset);
	}
	fix->log = record->log_offset;
	record->log_offset = moved(fix, record->log_offset);
	sum(fix, CHECKSUM_RECORD_END, (uint8_t *)record + checked, slot->record_offset, checked);
}

/* What an entry has as a whole; of what changed, the result is not known here. */
static void fix_log_pages(struct fix *fix, struct disk_log_entry *entry, uint64_t offset)
{
	uint64_t at = offset + sizeof(*entry) + (entry->state_bytes + 7ull) / 8 * 8;

	if (entry->state_encoding == FORMAT_LOG_WHOLE)
		sum(fix, CHECKSUM_STATE, entry->generation.state_checksum, offset + sizeof(*entry),
		    entry->state_bytes);
	while (at % 8 == 0 && at + sizeof(struct disk_log_page) <= offset + entry->bytes - 16) {
		struct disk_log_page *page = (void *)(fix->bytes + at);

		at += sizeof(*page);
		if (page->encoding == FORMAT_LOG_WHOLE)
			sum(fix, CHECKSUM_PAGE, page->checksum, at, fix->page_bytes);
		at += (page->bytes + 7ull) / 8 * 8;
	}
}

/* Entries, as long as there are any, as those that follow the record. */
static void fix_log(struct fix *fix, const struct disk_slot *slot)
{
	uint64_t at = fix->log, before[2] = {0};

	for (unsigned position = 0;; position++) {
		struct disk_log_entry *entry = (void *)(fix->bytes + at);
		uint64_t bytes;

		if (at % 8 || !lies(fix, at, sizeof(*entry)) || entry->magic != FORMAT_LOG_MAGIC)
			return;
		bytes = entry->bytes;
		if (bytes % 8 || bytes < sizeof(*entry) + 16 || !lies(fix, at, bytes))
			return;
		memcpy(entry->seed, slot->record_checksum, sizeof(entry->seed));
		memcpy(entry->before, before, sizeof(before));
		memcpy(entry->uuid, slot->uuid, sizeof(entry->uuid));
		entry->position = position;
		if (fix->left)
			fix->left--, fix_log_pages(fix, entry, at);
		sum(fix, CHECKSUM_LOG, fix->bytes + at + bytes - 16, at, bytes - 16);
		memcpy(before, fix->bytes + at + bytes - 16, sizeof(before));
		at += (bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	}
}

/* Returns where the file is to be stretched. */
static uint64_t image_fix(uint8_t *bytes, size_t size, const struct control *control)
{
	struct fix fix = {.bytes = bytes, .size = size, .keep = control->keep, .left = NODES_MAX};
	struct key_mark mark = {0};

	if (fix.keep & DAMAGE_ONE)
		fix.damage = 1 + (control->seed >> 16) % 200;
	if (fix.keep & KEEP_CHECKSUMS)
		return 0;
	if (fix.keep & KEYED)
		fix.key = fuzz_key(&mark);
	if (fix.keep & STRETCH)
		fix.stretch =
			IMAGE_LEAST + (control->seed >> 8) % (size / SPACE_BLOCK) * SPACE_BLOCK;
	for (unsigned i = 0; i < 2; i++) {
		struct disk_header *header = (void *)(bytes + i * SPACE_BLOCK);
		struct disk_slot *slot = &header->slot;

		if (!(fix.keep & KEEP_CONSTANTS)) {
			memcpy(slot->magic, FORMAT_MAGIC, sizeof(slot->magic));
			slot->format = FORMAT_VERSION;
			memcpy(slot->key_salt, mark.salt, sizeof(slot->key_salt));
			memcpy(slot->key_check, mark.check, sizeof(slot->key_check));
		}
		fix.page_bytes = slot->page_bytes;
		fix.log = 1; /* none is there */
		fix_record(&fix, slot);
		sum(&fix, CHECKSUM_RECORD, slot->record_checksum, slot->record_offset,
		    slot->record_bytes);
		if ((fix.keep & LOG_TOO) &&
		    slot->sequence > ((struct disk_slot *)(bytes + !i * SPACE_BLOCK))->sequence)
			fix_log(&fix, slot);
		slot->record_offset = moved(&fix, slot->record_offset);
		sum_plain(&fix, slot->checksum, i * SPACE_BLOCK,
			  offsetof(struct disk_slot, checksum));
		sum_plain(&fix, header->note.checksum,
			  i * SPACE_BLOCK + offsetof(struct disk_header, note),
			  offsetof(struct disk_note, checksum));
	}
	return fix.stretch;
}

/* ---- Use */

static int no_progress(void *arg, uint64_t done, uint64_t total)
{
	(void)arg;
	return done > total; /* never */
}

static struct thaw_damage first_damage;

static void count_damage(void *arg, const struct thaw_damage *damage)
{
	uint64_t *told = arg;

	if (!(*told)++)
		first_damage = *damage;
}

static int verify(const char *path)
{
	uint64_t told = 0;
	const struct thaw_verify_ops ops = {no_progress, count_damage, &told};
	struct thaw_verify_summary summary;
	struct thaw_error error;
	int code = thaw_image_verify(path, &ops, &summary, &error);

	if (told != summary.damages)
		fuzz_fail("verify told of %llu damages and counted %llu", (unsigned long long)told,
			  (unsigned long long)summary.damages);
	return code;
}

static void image_inspect(const char *path)
{
	struct thaw_generation *log;
	struct thaw_image_info info;
	struct thaw_name *names;
	struct thaw_error error;
	uint64_t generation;
	int count;

	path_info(path, true, &info, &error);
	count = path_log(path, &log, &error);
	if (count >= 0)
		free(log);
	count = path_names(path, &names, &error);
	for (int i = 0; i < count; i++)
		if (path_find(path, names[i].name, &generation, &error) ||
		    generation != names[i].generation)
			fuzz_fail("the name '%s' is listed and cannot be found", names[i].name);
	if (count >= 0)
		free(names);
	path_find(path, "1", &generation, &error);
	path_find(path, "no such name", &generation, &error);
}

static void image_lookups(struct image *image, uint64_t seed)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	struct thaw_error error;
	uint64_t *pages, generation;
	size_t state_bytes;
	void *state;
	int count;

	for (unsigned i = 0; i < 12; i++) /* near, around the end of each level, far */
		image_lookup(image, i < 4 ? i * 16 : 1ull << (4 * (i - 3)), extents, &error);
	for (unsigned i = 0; i < 8; i++)
		image_lookup(image, fuzz_below(&seed, 1ull << fuzz_below(&seed, 60)) & ~15ull,
			     extents, &error);
	if (!image_read_state(image, &state, &state_bytes, &error))
		free(state);
	count = image_read_working_set(image, &pages, &generation, &error);
	for (int i = 0; i < count && i < 64; i++)
		image_lookup(image, pages[i] & ~15ull, extents, &error);
	if (count >= 0)
		free(pages);
}

static void image_read_one(const char *path, uint64_t generation, bool portable, uint64_t seed)
{
	const struct image_options options = {
		.path = path, .read_only = true, .generation = generation, .portable = portable};
	struct thaw_error error, fallback;
	struct image *image;

	if (image_open(&options, &image, &fallback, &error))
		return;
	image_lookups(image, seed);
	image_close(image);
}

static void image_view(const char *path, uint64_t generation, uint64_t seed, bool sound)
{
	struct thaw_error error;
	struct thaw_view *view;
	char bytes[5000];
	size_t state;
	int code = path_view(path, generation, &view, &error);

	for (uint64_t at = 0; !code && at < 1 << 18; at += 1 << 12) {
		int read = thaw_view_read(view, at, bytes, 1 << 12, &error);

		if (read == THAW_EDAMAGED && sound)
			fuzz_fail("it verified, and cannot be read: %s", error.text);
	}
	if (code) {
		if (sound && code == THAW_EDAMAGED)
			fuzz_fail("it verified, and cannot be opened: %s", error.text);
		return;
	}
	thaw_view_state(view, &state);
	for (unsigned i = 0; i < 6; i++)
		thaw_view_read(view, fuzz_below(&seed, 1ull << fuzz_below(&seed, 64)), bytes,
			       fuzz_below(&seed, sizeof(bytes)), &error);
	thaw_view_close(view);
}

static void image_read(const char *path, const struct control *control, bool sound)
{
	struct thaw_generation *log;
	struct thaw_error error;
	int count = path_log(path, &log, &error);

	image_read_one(path, 0, false, control->seed);
	image_read_one(path, 0, true, control->seed);
	image_read_one(path, 1 + control->seed % 16, false, control->seed);
	image_view(path, 0, control->seed, sound);
	for (int i = 0; i < count && i < (int)GENERATIONS_OPEN; i++) {
		image_read_one(path, log[count - 1 - i].number, false, control->seed + i);
		image_view(path, log[count - 1 - i].number, control->seed + i, sound);
	}
	if (count >= 0)
		free(log);
}

/* Some pages, most of them near those that the image has; every third one zero. */
static int image_commit(struct image *image, uint64_t *seed, unsigned pages, bool abort_it,
			bool log)
{
	struct thaw_generation generation = {.reason = THAW_REASON_REQUEST,
					     .heap_bytes = 1ull << 18,
					     .kind = fuzz_below(seed, 2) ? THAW_KIND_BOUND
									 : THAW_KIND_PORTABLE};
	uint32_t page_bytes = image->identity.page_bytes;
	uint64_t *page = calloc(1, page_bytes), set[2] = {16, 1 << 20};
	struct thaw_error error;
	struct commit *commit;
	bool stored;
	int code;

	if (log) {
		image_log_wanted(image);
		image->log.bytes = LOG;
		image->log.fold_ns = UINT64_MAX;
		generation.kind = image_newest(image)->kind;
		pages %= 4;
	}
	code = page ? commit_begin(image, &commit, &error) : -ENOMEM;

	for (unsigned i = 0; !code && i < pages; i++) {
		page[0] = i % 3 ? fuzz_next(seed) : 0;
		code = commit_page(commit,
				   fuzz_below(seed, 8) ? fuzz_below(seed, 48)
						       : fuzz_below(seed, INDEX_PAGES_MAX),
				   page, &stored, &error);
	}
	if (log && !code)
		code = commit_drop(commit, fuzz_below(seed, 48), fuzz_below(seed, 9), &error);
	if (page && commit && !code && !log && fuzz_below(seed, 2))
		code = commit_working_set(commit, set, 2, image_opened(image)->number, &error);
	if (page && commit && !code && !log && fuzz_below(seed, 2))
		code = commit_name(commit, "fuzz", &(uint64_t){COMMIT_ITSELF}, &error);
	if (!code && !abort_it) {
		uint64_t state_bytes = 8 * fuzz_below(seed, 200);

		code = log ? commit_log(commit, &generation, page, state_bytes, &error) : 1;
		if (code > 0)
			code = commit_finish(commit, &generation, page, state_bytes, &error);
	}
	if (page && commit && (code || abort_it))
		commit_abort(commit);
	free(page);
	return code;
}

/* 0 if all that was tried went well. */
static int image_write(const char *path, const struct control *control)
{
	const struct thaw_thinning thinning[] = {{3, 1000000000}, {2, 60000000000}};
	struct thaw_image_info info;
	struct image_options options = {.path = path,
					.retain = control->retain % 16,
					.thinning = thinning,
					.thinning_count = control->retain >> 7 ? 2 : 0,
					.retain_all = control->retain == 0x7f,
					.portable = control->open == 1,
					.fresh = control->open == 2};
	struct thaw_error error, fallback;
	uint64_t seed = control->seed;
	struct thaw_generation *log;
	struct image *image;
	int code, count;

	code = path_info(path, false, &info, &error);
	if (code)
		return code;
	options.engine = info.engine;
	options.page_bytes = info.page_bytes;
	options.keyed = info.keyed;
	count = path_log(path, &log, &error);
	if (count > 0 && control->open > 2)
		options.generation = log[control->open % count].number;
	if (count >= 0)
		free(log);
	code = image_open(&options, &image, &fallback, &error);
	if (code)
		return code;
	image_lookups(image, seed);
	image_failed(image, 0);
	for (unsigned i = 0; i < 3 && !code; i++)
		code = image_commit(image, &seed, 2 + control->pages % 32, i == 1,
				    control->pages & PAGES_LOGGED);
	image_lookups(image, seed);
	image_close(image);
	if (fallback.code) /* what was damaged may still be */
		code = fallback.code;
	return code;
}

static int history_change(const char *path, const struct control *control)
{
	struct thaw_generation *log, made;
	struct thaw_error error;
	int count = path_log(path, &log, &error), code;

	if (count <= 0) {
		if (!count)
			free(log);
		return count;
	}
	code = thaw_image_rollback(path, log[control->seed % (unsigned)count].number, &made,
				   &error);
	if (!code)
		code = thaw_image_tag(path, "oldest", log[0].number, THAW_TAG_MOVE, &error);
	if (!code)
		code = thaw_image_tag(path, "fuzz", made.number, THAW_TAG_MOVE, &error);
	if (!code)
		code = thaw_image_untag(path, "oldest", &error);
	free(log);
	return code;
}

/* ---- Copies, and pictures */

struct seen {
	uint64_t next, runs;
};

static int see_run(void *arg, const struct thaw_page_run *run)
{
	struct seen *seen = arg;

	if (!run->pages || run->first != seen->next)
		fuzz_fail("run %llu of pages begins at %llu, not at %llu, and has %llu",
			  (unsigned long long)seen->runs, (unsigned long long)run->first,
			  (unsigned long long)seen->next, (unsigned long long)run->pages);
	seen->next = run->first + run->pages;
	seen->runs++;
	return 0;
}

static int see_change(void *arg, const struct thaw_page_change *change)
{
	struct seen *seen = arg;

	if (!change->pages || change->first < seen->next)
		fuzz_fail("pages %llu+%llu changed, after those up to %llu",
			  (unsigned long long)change->first, (unsigned long long)change->pages,
			  (unsigned long long)seen->next);
	seen->next = change->first + change->pages;
	return 0;
}

static void image_picture(const char *path, const struct control *control)
{
	struct thaw_generation *log;
	struct thaw_error error;
	struct seen seen = {0};
	int count = path_log(path, &log, &error);

	path_pages(path, 0, see_run, &seen, &error);
	for (int i = 0; i < count && i < (int)GENERATIONS_OPEN; i++) {
		seen = (struct seen){0};
		path_pages(path, log[i].number, see_run, &seen, &error);
		seen = (struct seen){0};
		path_diff(path, log[i].number, log[control->seed % (unsigned)count].number,
			  see_change, &seen, &error);
	}
	if (count >= 0)
		free(log);
}

static void copy_check(const char *copy, const char *how, int code, bool must,
		       const struct thaw_error *error)
{
	if (code && code != -EFBIG && must)
		fuzz_fail("it verified, and %s failed: %s", how, error->text);
	if (!code && must && verify(copy))
		fuzz_fail("%s made an image that does not verify: %s", how, first_damage.what);
	remove(copy);
}

static void image_copies(const char *path, const struct control *control, bool sound)
{
	struct thaw_error error;
	struct thaw_generation *log;
	int count = path_log(path, &log, &error), code;
	char copy[128];

	if (count >= 0)
		free(log);
	snprintf(copy, sizeof(copy), "%s", fuzz_path("copy"));
	code = thaw_image_repair(path, copy, NULL, NULL, &error);
	if (!code && verify(copy))
		fuzz_fail("what was repaired does not verify: %s", first_damage.what);
	copy_check(copy, "repair", code, sound && count > 0, &error);
	if (control->seed & 4) {
		code = thaw_image_clone(path, copy, 0, NULL, NULL, &error);
		copy_check(copy, "clone", code, sound && count > 0, &error);
	}
	code = thaw_image_compact(path, control->seed & 8 ? THAW_COMPACT_NEWEST : 0, NULL, NULL,
				  &error);
	if (sound && count > 0 && code && code != -EFBIG)
		fuzz_fail("it verified, and compaction failed: %s", error.text);
	if (sound && !code && verify(path))
		fuzz_fail("it verified, and does not when compacted: %s", first_damage.what);
}

static _Noreturn void damage_fail(const char *after)
{
	fuzz_fail("it verified, and does not after %s: generation %llu, page %llu, offset %llu: %s",
		  after, (unsigned long long)first_damage.generation,
		  (unsigned long long)first_damage.first_page,
		  (unsigned long long)first_damage.offset, first_damage.what);
}

static void one(const uint8_t *input, size_t size)
{
	char path[128];
	struct control control;
	uint64_t stretch;
	uint8_t *bytes;
	int sound;

	if (size < IMAGE_LEAST)
		return;
	memcpy(&control, input + CONTROL_AT, sizeof(control));
	bytes = malloc(size);
	if (!bytes)
		fuzz_fail("no memory");
	memcpy(bytes, input, size);
	stretch = image_fix(bytes, size, &control);
	snprintf(path, sizeof(path), "%s", fuzz_path("image"));
	if (!stretch || stretch > size)
		stretch = size;
	fuzz_write_file(path, bytes, stretch);
	if (stretch < size)
		fuzz_write_more(path, bytes + stretch, size - stretch, stretch + STRETCHED_BY);
	free(bytes);

	image_inspect(path);
	image_picture(path, &control);
	sound = verify(path);
	image_read(path, &control, !sound);
	if (!image_write(path, &control) && !sound && verify(path))
		damage_fail("commits");
	sound = verify(path);
	if (!history_change(path, &control) && !sound && verify(path))
		damage_fail("a rollback and names");
	sound = verify(path);
	if (control.seed & 1)
		image_copies(path, &control, !sound);
	if (control.seed & 2)
		return;
	image_inspect(path);
	image_picture(path, &control);
	image_read(path, &control, !verify(path));
}

/* ---- The first inputs */

struct recipe {
	uint32_t page_bytes;
	unsigned commits, pages, retain;
	uint64_t spread; /* pages lie below this */
	bool history;	 /* names, a branch, a note of failure */
	unsigned logged; /* so many more, in a log */
};

static size_t seed(unsigned number, uint8_t *bytes)
{
	static const struct recipe recipes[] = {
		{4096, 0, 0, 0, 0, false, 0},	{4096, 1, 2, 0, 16, false, 0},
		{4096, 3, 3, 8, 32, false, 0},	{4096, 4, 2, 2, 1 << 20, true, 0},
		{8192, 2, 2, 0, 300, true, 0},	{4096, 3, 1, 4, INDEX_PAGES_MAX, true, 0},
		{16384, 2, 1, 1, 16, false, 0}, {4096, 6, 1, 6, 64, true, 0},
		{4096, 3, 3, 8, 32, true, 0},	{4096, 1, 2, 0, 16, false, 3},
		{4096, 2, 3, 2, 32, true, 3},	{4096, 2, 2, 2, 32, false, 2},
	};
	const struct recipe *recipe = &recipes[number];
	char path[128];
	struct image_options options = {.path = path, .create = true, .engine = "fuzz"};
	struct thaw_error error;
	struct image *image;
	uint64_t state = number;
	/* The last one is made without a key, too, and gets it when it is used. */
	struct control control = {.keep = number == 8	 ? KEYED
					  : number == 11 ? KEYED | LOG_TOO
					  : number > 8	 ? LOG_TOO
					  : number % 3	 ? 0
							 : STRETCH,
				  .pages = number > 8 ? PAGES_LOGGED : 0,
				  .seed = 0x201 * number};
	uint64_t first;
	size_t size;

	if (number >= sizeof(recipes) / sizeof(recipes[0]))
		return 0;
	snprintf(path, sizeof(path), "%s", fuzz_path("seed"));
	options.page_bytes = recipe->page_bytes;
	options.retain = recipe->retain;
	remove(path);
	for (unsigned i = 0; i <= recipe->commits; i++) {
		if (image_open(&options, &image, NULL, &error))
			fuzz_fail("seed %u: %s", number, error.text);
		if (i < recipe->commits && image_commit(image, &state, recipe->pages, false, false))
			fuzz_fail("seed %u: a commit failed", number);
		for (unsigned j = 0; i == recipe->commits && recipe->logged && j <= recipe->logged;
		     j++)
			if (image_commit(image, &state, 2, false, true))
				fuzz_fail("seed %u: a small commit failed", number);
		if (i == recipe->commits && recipe->logged && !log_pending(image))
			fuzz_fail("seed %u: nothing is in the log", number);
		if (i == recipe->commits && recipe->history)
			image_failed(image, 0);
		image_close(image);
		if (i == 1 && recipe->history && thaw_image_tag(path, "first", 0, 0, &error))
			fuzz_fail("seed %u: %s", number, error.text);
		if (i == 2 && recipe->history) {
			control.open = 3;
			if (path_find(path, "first", &first, &error) ||
			    thaw_image_rollback(path, first, NULL, &error))
				fuzz_fail("seed %u: %s", number, error.text);
		}
	}
	size = fuzz_read_file(path, bytes, MAX_BYTES);
	memcpy(bytes + CONTROL_AT, &control, sizeof(control));
	return size;
}

/* ---- Changes */

enum kind {
	SLOT,
	NOTE,
	RECORD,
	GENERATION,
	NAME,
	NODE,
	INNER,
	LEAF,
	BYTES,
	LOG_ENTRY,
	LOG_PAGE,
	KINDS
};

struct place { /* of a structure whose fields may be changed */
	uint64_t offset;
	uint32_t bytes;
	enum kind kind;
};

struct places {
	const uint8_t *bytes;
	uint64_t size;
	unsigned count;
	struct place list[PLACES_MAX];
};

static bool place_add(struct places *places, uint64_t offset, uint64_t bytes, enum kind kind)
{
	if (places->count == PLACES_MAX || offset % 8 || offset > places->size ||
	    bytes > places->size - offset || bytes < 8)
		return false;
	places->list[places->count++] = (struct place){offset, (uint32_t)bytes, kind};
	return true;
}

static void places_of_node(struct places *places, uint64_t offset, unsigned level)
{
	const union disk_any *node;
	uint64_t at = offset + sizeof(node->node);

	if (level >= INDEX_LEVELS_MAX || !place_add(places, offset, index_node_bytes(level), NODE))
		return;
	node = (const void *)(places->bytes + offset);
	for (unsigned i = 0; i < FORMAT_FANOUT; i++) {
		if (!level) {
			place_add(places, at + i * sizeof(struct disk_entry),
				  sizeof(struct disk_entry), LEAF);
		} else if (place_add(places, at + i * sizeof(struct disk_child),
				     sizeof(struct disk_child), INNER) &&
			   node->inner.children[i].offset) {
			places_of_node(places, node->inner.children[i].offset, level - 1);
		}
	}
}

static void places_of_log(struct places *places, uint64_t at)
{
	while (at <= places->size && places->size - at > sizeof(struct disk_log_entry)) {
		const struct disk_log_entry *entry = (const void *)(places->bytes + at);
		uint64_t page = at + sizeof(*entry) + (entry->state_bytes + 7ull) / 8 * 8;

		if (at % 8 || entry->magic != FORMAT_LOG_MAGIC ||
		    entry->bytes > places->size - at || entry->bytes < sizeof(*entry) ||
		    !place_add(places, at, sizeof(*entry), LOG_ENTRY))
			return;
		place_add(places, at + offsetof(struct disk_log_entry, generation),
			  sizeof(struct disk_generation), GENERATION);
		place_add(places, at + sizeof(*entry), entry->state_bytes & ~7u, BYTES);
		while (place_add(places, page, sizeof(struct disk_log_page), LOG_PAGE)) {
			const struct disk_log_page *head = (const void *)(places->bytes + page);

			page += sizeof(*head);
			place_add(places, page, head->bytes & ~7u, BYTES);
			page += (head->bytes + 7ull) / 8 * 8;
			if (page + sizeof(*head) > at + entry->bytes - 16)
				break;
		}
		at += (entry->bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	}
}

static void places_of_record(struct places *places, uint64_t offset)
{
	const struct disk_record *record;
	uint64_t at = offset + sizeof(*record);

	if (!place_add(places, offset, sizeof(*record), RECORD))
		return;
	record = (const void *)(places->bytes + offset);
	if (record->log_bytes)
		places_of_log(places, record->log_offset);
	if (record->working_set_bytes)
		place_add(places, record->working_set_offset, record->working_set_bytes, BYTES);
	for (unsigned i = 0; i < record->generations; i++, at += sizeof(struct disk_generation)) {
		const struct disk_generation *generation = (const void *)(places->bytes + at);

		if (!place_add(places, at, sizeof(*generation), GENERATION))
			return;
		if (generation->root_levels)
			places_of_node(places, generation->root_offset,
				       generation->root_levels - 1);
		if (generation->state_bytes)
			place_add(places, generation->state_offset, generation->state_bytes & ~7ull,
				  BYTES);
	}
	for (unsigned i = 0; i < record->names; i++, at += sizeof(struct disk_name))
		if (!place_add(places, at, sizeof(struct disk_name), NAME))
			return;
}

static void places_find(struct places *places)
{
	for (unsigned i = 0; i < 2; i++) {
		const struct disk_slot *slot = (const void *)(places->bytes + i * SPACE_BLOCK);

		place_add(places, i * SPACE_BLOCK, offsetof(struct disk_slot, zero), SLOT);
		place_add(places, i * SPACE_BLOCK + FORMAT_SLOT_BYTES, 24, NOTE);
		places_of_record(places, slot->record_offset);
	}
}

static uint64_t hurting_value(const struct places *places, uint64_t *random, uint64_t old)
{
	const struct place *place = &places->list[fuzz_below(random, places->count)];
	const uint64_t size = places->size;
	const uint64_t values[] = {0,
				   1,
				   2,
				   old + 1,
				   old - 1,
				   old * 2,
				   old ^ 1ull << fuzz_below(random, 64),
				   4096,
				   8192,
				   place->offset,
				   place->offset + 8,
				   place->offset / FORMAT_UNIT,
				   (place->offset & ~4095ull) / FORMAT_UNIT,
				   (place->offset & ~4095ull) / FORMAT_UNIT | old >> 48 << 48,
				   (old & ~(1ull << 56 >> 1)) + fuzz_below(random, 4),
				   2ull << 56 | fuzz_below(random, 8),
				   size,
				   size - 8,
				   size + 4096,
				   1ull << fuzz_below(random, 64),
				   ~0ull << fuzz_below(random, 64),
				   -(uint64_t)8 * (1 + fuzz_below(random, 256)),
				   INT64_MAX - fuzz_below(random, 4096),
				   fuzz_below(random, 16),
				   fuzz_next(random)};

	return values[fuzz_below(random, sizeof(values) / sizeof(values[0]))];
}

static void field_hurt(const struct places *places, uint8_t *bytes, const struct place *place,
		       uint64_t *random)
{
	static const unsigned sizes[] = {8, 8, 8, 8, 4, 4, 2, 1};
	unsigned length = sizes[fuzz_below(random, 8)];
	uint64_t at = place->offset + fuzz_below(random, place->bytes / length) * length;
	uint64_t old = 0, value;

	memcpy(&old, bytes + at, length);
	value = hurting_value(places, random, old);
	memcpy(bytes + at, &value, length);
}

/* One of the same kind over another: references go where others went, generations come twice. */
static void place_copy(const struct places *places, uint8_t *bytes, const struct place *to,
		       uint64_t *random)
{
	for (unsigned tries = 0; tries < 16; tries++) {
		const struct place *from = &places->list[fuzz_below(random, places->count)];

		if (from->kind == to->kind && from->offset != to->offset) {
			memmove(bytes + to->offset, bytes + from->offset,
				from->bytes < to->bytes ? from->bytes : to->bytes);
			return;
		}
	}
}

/* Another number of generations or names: what follows them moves. */
static void record_resize(const struct places *places, uint8_t *bytes, uint64_t *random)
{
	for (unsigned i = 0; i < places->count; i++) {
		struct disk_record *record = (void *)(bytes + places->list[i].offset);

		if (places->list[i].kind != RECORD || fuzz_below(random, 2))
			continue;
		if (fuzz_below(random, 2))
			record->generations += fuzz_below(random, 2) ? 1 : -1;
		else
			record->names += fuzz_below(random, 2) ? 1 : -1;
	}
}

/* A leaf that says to be of a generation that is still to come, and its pages with it. */
static void leaf_from_the_future(const struct places *places, uint8_t *bytes, uint64_t *random)
{
	const struct disk_slot *slot = (const void *)(bytes + SPACE_BLOCK * fuzz_below(random, 2));
	uint64_t number = slot->sequence + fuzz_below(random, 4);

	for (unsigned tries = 0; tries < 64; tries++) {
		const struct place *place = &places->list[fuzz_below(random, places->count)];
		struct disk_leaf *leaf = (void *)(bytes + place->offset);

		if (place->kind != NODE || place->bytes != sizeof(*leaf))
			continue;
		leaf->node.generation = number;
		for (unsigned i = 0; i < FORMAT_FANOUT; i++)
			if (leaf->entries[i].birth)
				leaf->entries[i].birth = number;
		return;
	}
}

/* libFuzzer's own, with what it has learnt of compared values; not there without it. */
__attribute__((weak)) size_t LLVMFuzzerMutate(uint8_t *bytes, size_t size, size_t max);

static size_t mutate(uint8_t *bytes, size_t size, size_t max, uint64_t random)
{
	static struct places places;
	struct control *control = (void *)(bytes + CONTROL_AT);
	unsigned changes = 1 + (unsigned)fuzz_below(&random, 4);

	if (size < IMAGE_LEAST) /* not one of ours */
		return LLVMFuzzerMutate ? LLVMFuzzerMutate(bytes, size, max) : size;
	places = (struct places){.bytes = bytes, .size = size};
	places_find(&places);
	while (changes--) {
		const struct place *place;
		enum kind kind = (enum kind)fuzz_below(&random, KINDS);

		/* Of every kind as often: there are more entries than anything else. */
		for (unsigned tries = 0; tries < 32; tries++) {
			place = &places.list[fuzz_below(&random, places.count)];
			if (place->kind == kind)
				break;
		}
		switch (fuzz_below(&random, 16)) {
		case 0:
		case 1:
			place_copy(&places, bytes, place, &random);
			break;
		case 2:
			record_resize(&places, bytes, &random);
			break;
		case 3:
			control->retain = (uint8_t)fuzz_next(&random);
			control->open = (uint8_t)fuzz_below(&random, 6);
			control->pages = (uint8_t)fuzz_next(&random);
			control->seed = (uint32_t)fuzz_next(&random);
			break;
		case 4:
			control->keep = fuzz_below(&random, 3)
						? STRETCH * (uint8_t)fuzz_below(&random, 2) +
							  KEYED * (uint8_t)fuzz_below(&random, 2) +
							  LOG_TOO
						: (uint8_t)fuzz_below(&random, 128);
			break;
		case 5:
			leaf_from_the_future(&places, bytes, &random);
			break;
		case 6:
			if (LLVMFuzzerMutate)
				LLVMFuzzerMutate(bytes + place->offset, place->bytes, place->bytes);
			break;
		default:
			field_hurt(&places, bytes, place, &random);
		}
	}
	if (!fuzz_below(&random, 32)) {
		size_t wanted = size + 4096 * (fuzz_below(&random, 5)) - 8192;

		wanted = wanted > max ? max & ~(size_t)4095 : wanted;
		if (wanted > size)
			memset(bytes + size, 0, wanted - size);
		return wanted < IMAGE_LEAST ? size : wanted;
	}
	return size;
}

const struct fuzz_target fuzz_image = {
	.name = "image",
	.max_bytes = MAX_BYTES,
	.file_limit = 64u << 20,
	.memory_limit = 256u << 20,
	.one = one,
	.mutate = mutate,
	.seed = seed,
};
