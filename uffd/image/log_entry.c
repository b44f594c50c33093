/* SPDX-License-Identifier: MIT */
/*
 * log_entry.c - an entry of the log: encoding one from what is staged, and reading one that may be torn, old,
 * another image's, or made to do harm. Any thread; no state, no I/O.
 *
 * A patch is a list of runs of words that are others now. Programs change pointers and counters, and most of a
 * page stays: a patch of a few runs is one hundredth of a page.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "cipher.h"
#include "format.h"
#include "log.h"
#include "store.h"

#define WORD sizeof(uint64_t)
#define CHECKSUM_BYTES sizeof(((struct disk_log_entry *)NULL)->seed)

static size_t words_up(size_t bytes)
{
	return (bytes + WORD - 1) / WORD * WORD;
}

/* ---- Patches */

size_t patch_make(const void *before, const void *after, size_t count, void *to, size_t room)
{
	const uint8_t *old = before, *new = after;
	size_t words = count / WORD, used = 0;

	for (size_t at = 0; at < words;) {
		struct disk_log_run run = {.at = (uint32_t)at};
		size_t end;

		if (!memcmp(old + at * WORD, new + at *WORD, WORD)) {
			at++;
			continue;
		}
		/* A single word between two that changed is cheaper than another run. */
		for (end = at + 1; end < words; end++)
			if (!memcmp(old + end * WORD, new + end *WORD, WORD) &&
			    (end + 1 == words ||
			     !memcmp(old + (end + 1) * WORD, new + (end + 1) * WORD, WORD)))
				break;
		run.count = (uint32_t)(end - at);
		if (used + sizeof(run) + run.count * WORD >= room)
			return 0;
		memcpy((uint8_t *)to + used, &run, sizeof(run));
		memcpy((uint8_t *)to + used + sizeof(run), new + at *WORD, run.count * WORD);
		used += sizeof(run) + run.count * WORD;
		at = end;
	}
	return used;
}

bool patch_apply(const void *patch, size_t bytes, void *target, size_t count)
{
	const uint8_t *from = patch;

	while (bytes) {
		struct disk_log_run run;

		if (bytes < sizeof(run))
			return false;
		memcpy(&run, from, sizeof(run));
		from += sizeof(run);
		bytes -= sizeof(run);
		if (!run.count || run.at > count / WORD || run.count > count / WORD - run.at ||
		    run.count > bytes / WORD)
			return false;
		memcpy((uint8_t *)target + run.at * WORD, from, run.count * WORD);
		from += run.count * WORD;
		bytes -= run.count * WORD;
	}
	return true;
}

int log_state_copy(struct log_state *to, const void *state, size_t bytes)
{
	*to = (struct log_state){calloc(1, words_up(bytes) + WORD), bytes, true};
	if (!to->bytes)
		return -ENOMEM;
	if (bytes)
		memcpy(to->bytes, state, bytes);
	return 0;
}

/* ---- Encoding */

struct building {
	uint8_t *to;
	size_t used, room;
};

/* NULL: there is no room. */
static void *build_take(struct building *building, size_t bytes)
{
	void *at = building->to + building->used;

	bytes = words_up(bytes);
	if (bytes > building->room - building->used)
		return NULL;
	building->used += bytes;
	return at;
}

static bool build_bytes(struct building *building, const void *bytes, size_t count)
{
	uint8_t *to = build_take(building, count);

	if (!to)
		return false;
	memcpy(to, bytes, count);
	memset(to + count, 0, words_up(count) - count);
	return true;
}

static bool build_state(struct building *building, struct disk_log_entry *entry, const void *state,
			size_t bytes, const struct log_state *before)
{
	size_t words = words_up(bytes), room = building->room - building->used, patch;

	if (bytes && before->known && before->count == bytes) {
		patch = patch_make(before->bytes, state, words, building->to + building->used,
				   room < words ? room : words);
		if (patch || !memcmp(before->bytes, state, bytes)) {
			entry->state_encoding = FORMAT_LOG_PATCH;
			entry->state_bytes = (uint32_t)patch;
			building->used += patch;
			return true;
		}
	}
	entry->state_encoding = FORMAT_LOG_WHOLE;
	entry->state_bytes = (uint32_t)bytes;
	return build_bytes(building, state, bytes);
}

static bool build_page(struct building *building, const struct log_page *page, uint32_t page_bytes)
{
	struct disk_log_page *head = build_take(building, sizeof(*head));
	size_t room = building->room - building->used, patch = 0;

	if (!head)
		return false;
	*head = (struct disk_log_page){.page = page->page, .encoding = FORMAT_LOG_ZERO};
	if (page->next.encoding == EXTENT_ABSENT)
		head->encoding = FORMAT_LOG_ABSENT;
	if (page->next.encoding != EXTENT_RAW)
		return true;
	head->checksum[0] = page->next.checksum.low64;
	head->checksum[1] = page->next.checksum.high64;
	if (page->known && page->bytes) {
		patch = patch_make(page->bytes, page->next_bytes, page_bytes,
				   building->to + building->used,
				   room < page_bytes ? room : page_bytes);
		if (patch || !memcmp(page->bytes, page->next_bytes, page_bytes)) {
			head->encoding = FORMAT_LOG_PATCH;
			head->bytes = (uint32_t)patch;
			building->used += patch;
			return true;
		}
	}
	head->encoding = FORMAT_LOG_WHOLE;
	head->bytes = page_bytes;
	return build_bytes(building, page->next_bytes, page_bytes);
}

/* What is behind `to` is enciphered. */
static void seal(const struct checksum_key *key, XXH128_hash_t checksum, size_t bytes,
		 struct disk_sealed *to)
{
	*to = (struct disk_sealed){
		.magic = FORMAT_SEALED_LOG_MAGIC,
		.bytes = bytes,
		.checksum = {checksum.low64, checksum.high64},
	};
	cipher(key, CHECKSUM_LOG, checksum, 0, to + 1, to + 1, bytes, 0);
}

size_t log_encode(struct log_chain *chain, struct generation *generation, const void *state,
		  const struct log_state *before, const struct log_pages *pages, void *to,
		  size_t room)
{
	size_t front = cipher_is_on(chain->key) ? sizeof(struct disk_sealed) : 0;
	struct building building = {.to = to, .room = room / SPACE_BLOCK * SPACE_BLOCK};
	struct disk_log_entry *entry;
	XXH128_hash_t checksum;
	uint64_t *end;
	size_t bytes;

	building.to += front;
	building.room -= building.room ? front : 0;
	entry = build_take(&building, sizeof(*entry));
	if (!entry)
		return 0;
	*entry = (struct disk_log_entry){
		.magic = FORMAT_LOG_MAGIC,
		.number = generation->info.number,
		.pages = (uint32_t)pages->staged_count,
		.position = chain->position,
		.seed = {chain->seed.low64, chain->seed.high64},
		.before = {chain->before.low64, chain->before.high64},
	};
	memcpy(entry->uuid, chain->uuid, sizeof(entry->uuid));
	if (!build_state(&building, entry, state, generation->info.state_bytes, before))
		return 0;
	for (size_t i = 0; i < pages->staged_count; i++)
		if (!build_page(&building, pages->staged[i], pages->page_bytes))
			return 0;
	end = build_take(&building, CHECKSUM_BYTES);
	if (!end)
		return 0;
	bytes = (front + building.used + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
	entry->bytes = building.used;
	generation->info.bytes_written = bytes;
	generation->root = (struct root){0};
	/* As a record has it: the state's place, if there is one, is not 0. */
	generation->state_offset = generation->info.state_bytes ? sizeof(*entry) : 0;
	generation_encode(generation, &entry->generation);
	checksum = checksum_of(chain->key, CHECKSUM_LOG, entry, building.used - CHECKSUM_BYTES);
	end[0] = checksum.low64;
	end[1] = checksum.high64;
	memset(building.to + building.used, 0, bytes - front - building.used);
	if (front)
		seal(chain->key, checksum, building.used, to);
	chain->before = checksum;
	chain->position++;
	return bytes;
}

/* ---- Decoding */

static bool is_of_cycle(const struct log_chain *chain, const struct disk_log_entry *entry)
{
	return entry->magic == FORMAT_LOG_MAGIC && entry->seed[0] == chain->seed.low64 &&
	       entry->seed[1] == chain->seed.high64 &&
	       !memcmp(entry->uuid, chain->uuid, sizeof(entry->uuid));
}

static bool is_whole(const struct log_chain *chain, const struct disk_log_entry *entry,
		     size_t count)
{
	const uint64_t *end;

	if (entry->bytes > count || entry->bytes < sizeof(*entry) + CHECKSUM_BYTES ||
	    entry->bytes % WORD)
		return false;
	end = (const uint64_t *)((const uint8_t *)entry + entry->bytes - CHECKSUM_BYTES);
	return checksum_is(chain->key, CHECKSUM_LOG, entry, entry->bytes - CHECKSUM_BYTES,
			   (XXH128_hash_t){end[0], end[1]});
}

/* The entry where it can be read, and how many bytes may be its own. NULL: none begins there. */
static const struct disk_log_entry *unseal(const struct log_chain *chain, const void *bytes,
					   size_t *count)
{
	const struct disk_sealed *sealed = bytes;

	if (!cipher_is_on(chain->key))
		return *count < sizeof(struct disk_log_entry) ? NULL : bytes;
	if (*count < sizeof(*sealed) || sealed->magic != FORMAT_SEALED_LOG_MAGIC ||
	    sealed->bytes > *count - sizeof(*sealed) || sealed->bytes > chain->opened_bytes ||
	    sealed->bytes < sizeof(struct disk_log_entry))
		return NULL;
	*count = sealed->bytes;
	cipher(chain->key, CHECKSUM_LOG, (XXH128_hash_t){sealed->checksum[0], sealed->checksum[1]},
	       0, sealed + 1, chain->opened, sealed->bytes, 0);
	return (const void *)chain->opened;
}

/* The nonce is the checksum of what it was for. */
static bool seal_is_whole(const struct log_chain *chain, const struct disk_sealed *sealed,
			  const struct disk_log_entry *entry)
{
	return !cipher_is_on(chain->key) ||
	       (entry->bytes == sealed->bytes &&
		!memcmp((const uint8_t *)entry + entry->bytes - CHECKSUM_BYTES, sealed->checksum,
			CHECKSUM_BYTES));
}

size_t log_check(const struct log_chain *chain, const void *bytes, size_t count, const void **found)
{
	const struct disk_log_entry *entry = unseal(chain, bytes, &count);
	size_t front = cipher_is_on(chain->key) ? sizeof(struct disk_sealed) : 0;

	if (!entry || !is_of_cycle(chain, entry) || entry->position != chain->position ||
	    entry->before[0] != chain->before.low64 || entry->before[1] != chain->before.high64 ||
	    !is_whole(chain, entry, count) || !seal_is_whole(chain, bytes, entry))
		return 0;
	*found = entry;
	return (front + entry->bytes + SPACE_BLOCK - 1) / SPACE_BLOCK * SPACE_BLOCK;
}

uint64_t log_follows(const struct log_chain *chain, const void *bytes, size_t count)
{
	const struct disk_log_entry *entry = unseal(chain, bytes, &count);

	return entry && is_of_cycle(chain, entry) && entry->position > chain->position &&
			       is_whole(chain, entry, count) && seal_is_whole(chain, bytes, entry)
		       ? entry->number
		       : 0;
}

uint64_t log_number(const void *entry)
{
	return ((const struct disk_log_entry *)entry)->number;
}

static size_t pages_begin(const struct disk_log_entry *entry)
{
	return sizeof(*entry) + words_up(entry->state_bytes);
}

bool log_decode(struct log_chain *chain, const void *bytes, struct generation *generation)
{
	const struct disk_log_entry *entry = bytes;
	const uint64_t *end =
		(const uint64_t *)((const uint8_t *)entry + entry->bytes - CHECKSUM_BYTES);

	/* From here on only a hostile image can fail. */
	if (!generation_decode(&entry->generation, generation) ||
	    generation->info.number != entry->number || generation->root.levels ||
	    generation->info.state_bytes > LOG_STATE_MOST ||
	    entry->state_bytes > entry->bytes - sizeof(*entry) - CHECKSUM_BYTES ||
	    pages_begin(entry) > entry->bytes - CHECKSUM_BYTES)
		return false;
	chain->before = (XXH128_hash_t){end[0], end[1]};
	chain->position++;
	return true;
}

int log_decode_state(const struct checksum_key *key, const void *bytes,
		     const struct generation *generation, struct log_state *state)
{
	const struct disk_log_entry *entry = bytes;
	size_t count = generation->info.state_bytes;
	const void *stored = entry + 1;
	uint8_t *made = calloc(1, words_up(count) + WORD);
	bool whole;

	if (!made)
		return -ENOMEM;
	if (entry->state_encoding == FORMAT_LOG_WHOLE) {
		whole = entry->state_bytes == count;
		if (whole)
			memcpy(made, stored, count);
	} else {
		whole = entry->state_encoding == FORMAT_LOG_PATCH && state->known &&
			state->count == count;
		if (whole)
			memcpy(made, state->bytes, count);
		whole = whole && patch_apply(stored, entry->state_bytes, made, words_up(count));
	}
	if (!whole ||
	    (count && !checksum_is(key, CHECKSUM_STATE, made, count, generation->state_checksum))) {
		free(made);
		return THAW_EDAMAGED;
	}
	free(state->bytes);
	*state = (struct log_state){made, count, true};
	return 0;
}

int log_decode_page(const struct checksum_key *key, const void *bytes, size_t *at,
		    uint32_t page_bytes, int (*before)(void *arg, uint64_t page, void *bytes),
		    void *arg, struct log_change *change)
{
	const struct disk_log_entry *entry = bytes;
	size_t end = entry->bytes - CHECKSUM_BYTES;
	const struct disk_log_page *page;
	const uint8_t *stored;
	int code;

	if (!*at)
		*at = pages_begin(entry);
	if (*at == end)
		return 0;
	if (end - *at < sizeof(*page))
		return THAW_EDAMAGED;
	page = (const struct disk_log_page *)((const uint8_t *)entry + *at);
	stored = (const uint8_t *)(page + 1);
	*at += sizeof(*page);
	if (page->bytes > end - *at || words_up(page->bytes) > end - *at ||
	    page->page >= INDEX_PAGES_MAX)
		return THAW_EDAMAGED;
	*at += words_up(page->bytes);
	change->page = page->page;
	if (page->encoding == FORMAT_LOG_ABSENT) {
		change->extent = (struct extent){.encoding = EXTENT_ABSENT};
		return page->bytes ? THAW_EDAMAGED : 1;
	}
	change->extent = (struct extent){
		.encoding = page->encoding == FORMAT_LOG_ZERO ? EXTENT_ZERO : EXTENT_RAW,
		.birth = entry->number,
		.bytes = page->encoding == FORMAT_LOG_ZERO ? 0 : page_bytes,
	};
	if (page->encoding == FORMAT_LOG_ZERO)
		return page->bytes ? THAW_EDAMAGED : 1;
	change->extent.checksum = (XXH128_hash_t){page->checksum[0], page->checksum[1]};
	if (page->encoding == FORMAT_LOG_WHOLE) {
		if (page->bytes != page_bytes)
			return THAW_EDAMAGED;
		memcpy(change->bytes, stored, page_bytes);
	} else if (page->encoding == FORMAT_LOG_PATCH) {
		code = before(arg, page->page, change->bytes);
		if (code)
			return code;
		if (!patch_apply(stored, page->bytes, change->bytes, page_bytes))
			return THAW_EDAMAGED;
	} else {
		return THAW_EDAMAGED;
	}
	return extent_matches(key, &change->extent, change->bytes, page_bytes) ? 1 : THAW_EDAMAGED;
}
