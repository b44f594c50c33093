// SPDX-License-Identifier: GPL-2.0-only
/*
 * image_encrypted.c - images whose contents are enciphered: who reads the file finds nothing of them in it, and who changes
 * it makes no other contents. For each thing that is not found, a twin in the clear says that it would be.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "encrypted.h"
#include "image/extent_codec.h"
#include "image/poly1305.h"

#define MARKER "MARKER of contents "

/* ---- Nothing of the contents is in the file */

/* A program's life: pages, state, names, a log with whole pages and patches, a working set. All of it tells of markers. */
static void live(struct image *image, struct __test_metadata *_metadata)
{
	struct thaw_error error;
	uint8_t page[PAGE], state[3000];
	uint64_t generation = 0, set[64];
	bool stored;

	image_log_wanted(image);
	image->log.fold_ns = UINT64_MAX;
	for (unsigned round = 0; round < 24; round++) {
		struct thaw_generation made = {.time_ns = 1,
					       .heap_bytes = 16u << 20,
					       .reason = THAW_REASON_TIMER,
					       .portable = 0};
		struct commit *commit;
		int code;

		ASSERT_EQ(0, commit_begin(image, &commit, &error));
		for (unsigned i = 0; i < (round ? 8 : 500); i++) {
			memset(page, 'a' + (round + i) % 20, sizeof(page));
			for (unsigned at = 0; at + 64 <= PAGE; at += 512)
				snprintf((char *)page + at, 64, MARKER "page %u", i % 7);
			snprintf((char *)page + 64 * (round % 16), 64, MARKER "round %u", round);
			ASSERT_EQ(0, commit_page(commit, i * 3, page, &stored, &error));
		}
		memset(state, 'S', sizeof(state));
		snprintf((char *)state + 100 * (round % 20), 64, MARKER "state %u", round);
		for (unsigned i = 0; i < 64; i++)
			memcpy(&set[i], "worksetM", 8);
		if (round == 12)
			ASSERT_EQ(0, commit_working_set(commit, set, 64, 1, &error));
		code = commit_log(commit, &made, state, sizeof(state), &error);
		if (code == 1)
			code = commit_finish(commit, &made, state, sizeof(state), &error);
		ASSERT_EQ(0, code) TH_LOG("%s", error.text);
		generation = 0;
		if (round == 8)
			ASSERT_EQ(0, image_tag(image, "MARKER-of-a-name", &generation, 0, &error));
	}
	/* And the last ones stay in the log alone. */
	EXPECT_NE(0, image->log.chain.position);
}

static const char *const never_seen[] = {
	"MARKER",   "of contents", "aaaaaaaaaaaa", "SSSSSSSSSSSS",     "worksetM",
	"thwrecrd", "Tnod",	   "thaw-log",	   "MARKER-of-a-name",
};
#define NEVER_SEEN (sizeof(never_seen) / sizeof(*never_seen))

/* Which of them are in the file, as bits. */
static unsigned seen_in(const char *path)
{
	struct bytes file = file_bytes(path);
	unsigned seen = 0;

	for (unsigned i = 0; i < NEVER_SEEN; i++)
		seen |= (unsigned)!!memmem(file.at, file.count, never_seen[i],
					   strlen(never_seen[i]))
			<< i;
	free(file.at);
	return seen;
}

/* How many blocks of the file are equal to another one, zeros apart. */
static unsigned equal_blocks(const char *path)
{
	struct bytes file = file_bytes(path);
	unsigned equal = 0;

	for (size_t a = 2 * PAGE; a + PAGE <= file.count; a += PAGE)
		for (size_t b = 2 * PAGE; b < a; b += PAGE)
			if (file.at[a] && !memcmp(file.at + a, file.at + b, PAGE)) {
				equal++;
				break;
			}
	free(file.at);
	return equal;
}

static void lives(bool encrypted, const char *name, struct __test_metadata *_metadata)
{
	struct image_options options = encrypted ? encrypted_options() : model_options();
	struct thaw_error error, fallback;
	struct image *image;

	snprintf(model_path, sizeof(model_path), "%.120s/%s", model_directory, name);
	options.compress = strcmp(name, "short.thaw") ? THAW_COMPRESS_NONE : THAW_COMPRESS_LZ4;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error)) TH_LOG("%s", error.text);
	live(image, _metadata);
	image_close(image);
}

TEST_F(encrypted, nothing_of_the_contents_is_in_the_file)
{
	unsigned all = (1u << NEVER_SEEN) - 1;
	struct thaw_generation *log;
	char path[sizeof(model_path)];

	lives(false, "clear.thaw", _metadata);
	EXPECT_EQ(all, seen_in(model_path));
	EXPECT_NE(0, equal_blocks(model_path));
	lives(true, "hidden.thaw", _metadata);
	memcpy(path, model_path, sizeof(path));
	EXPECT_EQ(0, seen_in(path));
	EXPECT_EQ(0, equal_blocks(path));
	/* What is compressed before, neither. */
	lives(true, "short.thaw", _metadata);
	EXPECT_EQ(0, seen_in(model_path));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
	/* Nor after it has become longer and shorter, and its log was folded. */
	ASSERT_EQ(0, thaw_image_settle(path, &self->error)) TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, seen_in(path));
	ASSERT_EQ(0, thaw_image_verify(path, NULL, NULL, &self->error));
	ASSERT_LT(0, path_log(path, &log, &self->error));
	free(log);
	ASSERT_EQ(0, thaw_image_compact(path, 0, NULL, NULL, &self->error));
	EXPECT_EQ(0, seen_in(path));
	EXPECT_EQ(0, thaw_image_verify(path, NULL, NULL, &self->error));
}

TEST_F(encrypted, what_was_clear_is_hidden_and_the_other_way_round)
{
	unsigned all = (1u << NEVER_SEEN) - 1, log_magic = 1u << 7;
	char path[sizeof(model_path)], copy[256];
	struct thaw_image_info info;

	lives(false, "clear.thaw", _metadata);
	memcpy(path, model_path, sizeof(path));
	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	ASSERT_EQ(0, thaw_image_compact(path, THAW_COMPACT_ENCRYPT, NULL, NULL, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(0, seen_in(path));
	ASSERT_EQ(0, thaw_image_verify(path, NULL, NULL, &self->error));
	ASSERT_EQ(0, path_info(path, true, &info, &self->error));
	EXPECT_TRUE(info.keyed && info.encrypted);
	/* A copy is what it is of. */
	ASSERT_EQ(0, thaw_image_clone(path, copy, 0, NULL, NULL, &self->error));
	EXPECT_EQ(0, seen_in(copy));
	ASSERT_EQ(0, thaw_image_verify(copy, NULL, NULL, &self->error));
	ASSERT_EQ(0, thaw_image_compact(path, THAW_COMPACT_DECRYPT, NULL, NULL, &self->error));
	EXPECT_EQ(all & ~log_magic, seen_in(path));
	thaw_use_key(NULL);
	EXPECT_EQ(0, thaw_image_verify(path, NULL, NULL, &self->error));
	EXPECT_EQ(THAW_EKEY, thaw_image_verify(copy, NULL, NULL, &self->error));
}

/* ---- Everything that reads images reads these */

TEST_F(encrypted, is_read_named_gone_back_in_copied_and_mended)
{
	char original[sizeof(model_path)], copy[256];
	struct thaw_copy_summary summary;
	struct thaw_image *image;
	struct thaw_view *view;
	struct bytes damaged;
	uint64_t words[2][PAGE / 8];

	memcpy(original, model_path, sizeof(original));
	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	ASSERT_EQ(0, read_all(&self->model, &self->error)) TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, thaw_image_tag(model_path, "a", 0, 0, &self->error));
	ASSERT_EQ(0, thaw_image_clone(model_path, copy, 2, NULL, NULL, &self->error));
	ASSERT_EQ(0, thaw_image_verify(copy, NULL, NULL, &self->error));
	ASSERT_EQ(0, unlink(copy));
	ASSERT_EQ(0, thaw_image_open(model_path, &image, &self->error));
	ASSERT_EQ(0, thaw_view_open(image, 0, &view, &self->error));
	EXPECT_EQ(0, thaw_view_read(view, 3 * PAGE, words[0], PAGE, &self->error));
	model_fill(words[1], 3, self->model.version[3]);
	EXPECT_EQ(0, memcmp(words[0], words[1], PAGE));
	thaw_view_close(view);
	thaw_image_close(image);
	/* Its slots are lost, and the key slots are not: by the records that are found. */
	damaged = file_bytes(model_path);
	memset(damaged.at, 0, 512);
	memset(damaged.at + SPACE_BLOCK, 0, 512);
	file_write(model_path, &damaged);
	ASSERT_EQ(0, thaw_image_repair(model_path, copy, NULL, &summary, &self->error))
	TH_LOG("%s", self->error.text);
	EXPECT_EQ(4, summary.generations);
	EXPECT_EQ(1, summary.names);
	snprintf(model_path, sizeof(model_path), "%.180s", copy);
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	ASSERT_EQ(0, thaw_image_rollback(model_path, 2, NULL, &self->error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
	/* Of both header blocks, nothing is left: nothing can be deciphered. */
	memset(damaged.at, 0, 2 * SPACE_BLOCK);
	file_write(original, &damaged);
	unlink(copy);
	EXPECT_NE(0, thaw_image_repair(original, copy, NULL, &summary, &self->error));
	free(damaged.at);
}

TEST_F(encrypted, a_program_that_goes_on_finds_what_it_left)
{
	static const unsigned compress[] = {THAW_COMPRESS_NONE, THAW_COMPRESS_LZ4,
					    THAW_COMPRESS_ZSTD(1)};
	struct image_options options = encrypted_options();

	/* Small files, so that pages are moved; each time as another process would. */
	options.retain = 1;
	for (unsigned round = 0; round < 12; round++) {
		options.compress = compress[round % 3];
		ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
		EXPECT_EQ(SAME, model_compare(self->image, &self->model, &self->error));
		model_abort_somewhere(&self->model, self->image);
		for (unsigned i = round; i < MODEL_PAGES; i += 7)
			self->model.version[i] = round % 3 ? round : 0;
		self->model.state++;
		ASSERT_EQ(0, model_commit(self->image, &self->model, &self->error));
		image_close(self->image);
		self->image = NULL;
	}
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

/* ---- Who changes it */

/* Any one bit: what is read is what was stored, or it is refused. */
TEST_F(encrypted, a_changed_bit_is_damage_and_never_other_contents)
{
	unsigned refused = 0, tries = 200;

	for (unsigned i = 0; i < tries; i++) {
		/* Half of them where the records and nodes are. */
		size_t at = i % 2 ? random_below((unsigned)self->now.count)
				  : self->now.count - 1 - random_below(60000);
		uint8_t bit = (uint8_t)(1u << random_below(8));
		int fd = open(model_path, O_WRONLY | O_CLOEXEC);

		self->now.at[at] ^= bit;
		ASSERT_EQ(1, pwrite(fd, &self->now.at[at], 1, (off_t)at));
		refused += read_all(&self->model, &self->error) != 0;
		self->now.at[at] ^= bit;
		ASSERT_EQ(1, pwrite(fd, &self->now.at[at], 1, (off_t)at));
		close(fd);
	}
	TH_LOG("%u of %u refused", refused, tries);
	EXPECT_LT(tries / 8, refused);
	EXPECT_EQ(0, read_all(&self->model, &self->error));
}

TEST_F(encrypted, pages_that_are_exchanged_or_put_back_are_noticed)
{
	struct extent extents[IMAGE_LEAF_PAGES];
	struct image_options options = encrypted_options();
	uint8_t *one, *two, page[PAGE];

	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	ASSERT_EQ(0, image_lookup(self->image, 0, extents, &self->error));
	one = self->now.at + extents[3].offset;
	two = self->now.at + extents[5].offset;
	memcpy(page, one, PAGE);
	memcpy(one, two, PAGE);
	memcpy(two, page, PAGE);
	image_close(self->image);
	self->image = NULL;
	file_write(model_path, &self->now);
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, &self->error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_verify(model_path, NULL, NULL, &self->error));
}

/* Blocks exchanged, put back, zeroed, cut off; what is in the clear changed, with its checksum made right. */
static void change_somehow(struct bytes *bytes)
{
	uint8_t block[SPACE_BLOCK];
	size_t blocks = bytes->count / SPACE_BLOCK;
	uint8_t *one = bytes->at + (2 + random_below((unsigned)blocks - 2)) * SPACE_BLOCK;
	uint8_t *other = bytes->at + (2 + random_below((unsigned)blocks - 2)) * SPACE_BLOCK;
	struct disk_slot *slot = slot_at(bytes, random_below(2));
	struct disk_keys *keys = keys_at(bytes, random_below(2));
	struct disk_sealed *record = (struct disk_sealed *)(bytes->at + slot->record_offset);

	switch (random_below(9)) {
	case 0:
		memcpy(block, one, SPACE_BLOCK);
		memcpy(one, other, SPACE_BLOCK);
		memcpy(other, block, SPACE_BLOCK);
		break;
	case 1:
		memset(one, 0, SPACE_BLOCK);
		break;
	case 2:
		bytes->count -= random_below((unsigned)bytes->count / 2);
		break;
	case 3:
		record->bytes = random_next() >> random_below(64);
		break;
	case 4:
		record->checksum[random_below(2)] ^= 1ull << random_below(64);
		break;
	case 5:
		slot->record_bytes = random_below(200000) * 8ull;
		break;
	case 6:
		slot->sequence += 2;
		break;
	case 7:
		memset(slot, 0, sizeof(*slot));
		return;
	default:
		((uint8_t *)keys->slots)[random_below(400)] ^= (uint8_t)(1u << random_below(8));
		plain(keys->checksum, keys, offsetof(struct disk_keys, checksum));
	}
	plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
}

TEST_F(encrypted, whatever_is_done_to_the_file_every_call_returns_and_nothing_is_wrong)
{
	char image[sizeof(model_path)], copy[256];
	unsigned read = 0, repaired = 0, tries = 50;

	memcpy(image, model_path, sizeof(image));
	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	for (unsigned i = 0; i < tries; i++) {
		struct bytes bytes = {malloc(self->now.count), self->now.count};
		struct thaw_key_slot slots[THAW_KEY_SLOTS];

		memcpy(bytes.at, self->now.at, bytes.count);
		for (unsigned n = 1 + random_below(2); n; n--)
			change_somehow(&bytes);
		file_write(image, &bytes);
		free(bytes.at);
		read += !read_all(&self->model, &self->error);
		thaw_image_keys(image, slots, &self->error);
		thaw_image_verify(image, NULL, NULL, &self->error);
		if (!thaw_image_repair(image, copy, NULL, NULL, &self->error)) {
			repaired++;
			EXPECT_EQ(0, thaw_image_verify(copy, NULL, NULL, &self->error))
			TH_LOG("%s", self->error.text);
		}
		unlink(copy);
		thaw_image_compact(image, 0, NULL, NULL, &self->error);
		memcpy(model_path, image, sizeof(image));
		read_all(&self->model, &self->error);
	}
	TH_LOG("%u of %u could be read, %u repaired", read, tries, repaired);
	EXPECT_LT(tries / 20, read);
	EXPECT_LT(tries / 2, repaired);
}

/* What says that an image is enciphered can be taken away; then it is nothing at all. */
TEST_F(encrypted, slot_that_denies_it_opens_nothing)
{
	for (unsigned i = 0; i < 2; i++) {
		struct disk_slot *slot = slot_at(&self->now, i);

		slot->enciphered = 0;
		plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
	}
	file_write(model_path, &self->now);
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, &self->error));
	for (unsigned i = 0; i < 2; i++) {
		struct disk_slot *slot = slot_at(&self->now, i);

		memset(slot->key_salt, 0, 32);
		plain(slot->checksum, slot, offsetof(struct disk_slot, checksum));
	}
	file_write(model_path, &self->now);
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, &self->error));
}

TEST_F(encrypted, an_image_in_the_clear_is_refused_where_it_must_be_none)
{
	struct image_options options = model_options();

	snprintf(model_path, sizeof(model_path), "%.150s/clear.thaw", model_directory);
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error));
	image_close(self->image);
	self->image = NULL;
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, &self->error));
	EXPECT_NE(NULL, strstr(self->error.text, "not encrypted"));
}

/* ---- The cipher itself */

TEST(cipher_is_the_same_by_both_libraries_and_in_parts)
{
	static uint8_t bytes[20000], one[20000], other[20000];
	uint8_t key[32], nonce[24];
	bool two;

	model_fill(bytes, 1, 1);
	model_fill(bytes + PAGE, 2, 1);
	memcpy(key, bytes + 100, sizeof(key));
	memcpy(nonce, bytes + 200, sizeof(nonce));
	two = poly1305_hurry();
	for (size_t count = 0; count < sizeof(bytes); count += 1 + count / 9) {
		uint64_t block = count % 5 ? count * 77 : 0;

		crypto_stream_xchacha20_xor_ic(one, bytes, count, nonce, block, key);
		xchacha20(other, bytes, count, nonce, block, key);
		ASSERT_EQ(0, memcmp(one, other, count)) TH_LOG("%zu bytes", count);
		for (size_t at = 0; at < count; at += 640)
			xchacha20(other + at, bytes + at, count - at < 640 ? count - at : 640,
				  nonce, block + at / 64, key);
		ASSERT_EQ(0, memcmp(one, other, count)) TH_LOG("%zu bytes in parts", count);
		nonce[count % 24]++;
	}
	/* Where a counter of 32 bits would go round. */
	crypto_stream_xchacha20_xor_ic(one, bytes, 1000, nonce, UINT32_MAX - 3ull, key);
	xchacha20(other, bytes, 1000, nonce, UINT32_MAX - 3ull, key);
	EXPECT_EQ(0, memcmp(one, other, 1000));
	if (!two)
		SKIP(return, "there is no libcrypto.so.3 here");
}

/* Of pages that tell the same words again, some that two levels encode in other bytes, and as many. */
static void words_fill(uint8_t *page, unsigned number)
{
	uint32_t dice = number * 2654435761u + 1;

	for (unsigned at = 0; at < PAGE; at += 8) {
		dice = dice * 1664525u + 1013904223u;
		snprintf((char *)page + at, 8, "%07u", (dice >> 20) % 97 * (dice >> 29));
	}
}

/* Copies of an image that go on with another level have the same pages of the same generations. */
TEST(no_key_stream_serves_for_what_two_levels_make_of_a_page)
{
	static struct checksum_key key = {.enciphers = true};
	struct extent_scratch scratch = {0};
	unsigned found = 0;

	memset(key.ciphers, 7, sizeof(key.ciphers));
	for (unsigned number = 0; number < 4000 && found < 3; number++) {
		static uint8_t page[PAGE], plain[2][PAGE], sealed[2][PAGE], back[PAGE];
		struct extent extent[2];
		const void *stored;
		unsigned same = 0;

		words_fill(page, number);
		for (unsigned i = 0; i < 2; i++) {
			const struct extent_codec codec = {EXTENT_ZSTD, i ? 3 : 2};

			extent[i] = (struct extent){.birth = 5};
			extent[i].checksum = checksum_of(&key, CHECKSUM_PAGE, page, PAGE);
			ASSERT_EQ(0, extent_encode(&scratch, &codec, NULL, number, &extent[i], page,
						   PAGE, plain[i], &stored));
			ASSERT_EQ(0, extent_encode(&scratch, &codec, &key, number, &extent[i], page,
						   PAGE, sealed[i], &stored));
			ASSERT_EQ(0, extent_decode(&scratch, &key, number, &extent[i], sealed[i],
						   back, PAGE));
			ASSERT_EQ(0, memcmp(back, page, PAGE));
		}
		if (extent[0].bytes != extent[1].bytes || extent[0].bytes == PAGE ||
		    !memcmp(plain[0], plain[1], extent[0].bytes))
			continue;
		found++;
		for (unsigned i = 0; i < extent[0].bytes; i++)
			same += (plain[0][i] ^ plain[1][i]) == (sealed[0][i] ^ sealed[1][i]);
		EXPECT_GT(extent[0].bytes / 2, same);
	}
	EXPECT_EQ(3, found);
	extent_scratch_free(&scratch);
}

/* ---- Other images are what they were */

TEST(an_image_of_the_format_before_is_read_and_written_on)
{
	struct image_options options = model_options();
	struct thaw_error error, fallback;
	struct model model = {.state = 1};
	struct image *image;
	struct bytes bytes;

	model_setup("before");
	options.path = model_path;
	options.page_bytes = PAGE;
	ASSERT_EQ(0, image_open(&options, &image, &fallback, &error));
	ASSERT_EQ(0, two_commits(image, &model, &error));
	image_close(image);
	bytes = file_bytes(model_path);
	for (unsigned i = 0; i < 2; i++) {
		slot_at(&bytes, i)->format = FORMAT_VERSION_LEAST;
		plain(slot_at(&bytes, i)->checksum, slot_at(&bytes, i),
		      offsetof(struct disk_slot, checksum));
	}
	file_write(model_path, &bytes);
	free(bytes.at);
	for (unsigned round = 0; round < 2; round++) {
		ASSERT_EQ(0, image_open(&options, &image, &fallback, &error))
		TH_LOG("%s", error.text);
		EXPECT_EQ(SAME, model_compare(image, &model, &error));
		ASSERT_EQ(0, two_commits(image, &model, &error));
		image_close(image);
	}
	model_teardown();
}

TEST_HARNESS_MAIN
