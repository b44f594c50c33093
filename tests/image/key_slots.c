// SPDX-License-Identifier: GPL-2.0-only
/*
 * key_slots.c - what opens an encrypted image: keys are added, removed and renewed, whatever kills who does it, and slots
 * that are torn, or made to do harm.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <signal.h>

#include "encrypted.h"

/* What passphrases cost, instead of being paid for. tests.mk has the linker do that. */
static struct {
	bool on, no_memory;
	unsigned tried;
	uint64_t work; /* bytes times passes */
} reckoned;

int __real_crypto_pwhash(unsigned char *out, unsigned long long bytes, const char *passphrase,
			 unsigned long long count, const unsigned char *salt,
			 unsigned long long passes, size_t memory, int algorithm);
int __wrap_crypto_pwhash(unsigned char *out, unsigned long long bytes, const char *passphrase,
			 unsigned long long count, const unsigned char *salt,
			 unsigned long long passes, size_t memory, int algorithm);
int __wrap_crypto_pwhash(unsigned char *out, unsigned long long bytes, const char *passphrase,
			 unsigned long long count, const unsigned char *salt,
			 unsigned long long passes, size_t memory, int algorithm)
{
	if (!reckoned.on)
		return __real_crypto_pwhash(out, bytes, passphrase, count, salt, passes, memory,
					    algorithm);
	reckoned.tried++;
	reckoned.work += passes * memory;
	memset(out, 0, bytes); /* another key */
	return reckoned.no_memory && memory > 64u << 20 ? -1 : 0;
}

/* ---- What opens it */

TEST_F(encrypted, is_refused_without_its_key_before_anything_is_read)
{
	struct thaw_error *error = &self->error;
	struct image_options options = model_options();
	struct thaw_image *image;
	char copy[256];

	snprintf(copy, sizeof(copy), "%s/copy", model_directory);
	for (unsigned i = 0; i < 2; i++) {
		use(i ? other_key : NULL, i ? NULL : other_key, NULL);
		EXPECT_EQ(THAW_EKEY, image_open(&options, &self->image, &self->fallback, error));
		EXPECT_NE(NULL, strstr(error->text, i ? "another key than mine" : "drawer"))
		TH_LOG("%s", error->text);
		EXPECT_EQ(THAW_EKEY, thaw_image_open(model_path, &image, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_verify(model_path, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_tag(model_path, "a", 0, 0, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_compact(model_path, 0, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY,
			  thaw_image_compact(model_path, THAW_COMPACT_DECRYPT, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_clone(model_path, copy, 0, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_repair(model_path, copy, NULL, NULL, error));
		EXPECT_EQ(THAW_EKEY, thaw_image_key_remove(model_path, 0, error));
		EXPECT_NE(0, access(copy, F_OK));
	}
	use(right_key, NULL, NULL);
	EXPECT_EQ(0, read_all(&self->model, error));
	/* A program that asks for nothing special opens it as well. */
	EXPECT_EQ(0, image_open(&options, &self->image, &self->fallback, error));
}

static int slot_add(enum thaw_key_kind kind, const void *bytes, size_t count,
		    struct thaw_error *error)
{
	const struct thaw_key_secret secret = {kind, bytes, count, "one of the tests"};

	return thaw_image_key_add(model_path, &secret, error);
}

TEST_F(encrypted, slots_are_added_and_removed_and_each_opens_it)
{
	struct thaw_key_slot slots[THAW_KEY_SLOTS];
	struct thaw_error *error = &self->error;
	struct bytes before, after;
	struct disk_keys keys;

	EXPECT_EQ(-EINVAL, thaw_image_key_remove(model_path, 0, error)); /* the last one */
	EXPECT_EQ(-EINVAL, thaw_image_key_remove(model_path, 3, error));
	EXPECT_EQ(1, slot_add(THAW_KEY_FILE, other_key, THAW_KEY_BYTES, error));
	EXPECT_EQ(2, slot_add(THAW_KEY_PASSPHRASE, "correct horse", 13, error))
	TH_LOG("%s", error->text);
	before = file_bytes(model_path);
	memcpy(&keys, before.at + 1024, sizeof(keys));
	use(NULL, other_key, NULL);
	EXPECT_EQ(0, read_all(&self->model, error)) TH_LOG("%s", error->text);
	use(NULL, NULL, "battery staple");
	at_hand.asked = 0;
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, error));
	EXPECT_EQ(3, at_hand.asked);
	use(NULL, NULL, "correct horse");
	EXPECT_EQ(0, read_all(&self->model, error));
	/* With that, the user's own is taken away, in both blocks. */
	EXPECT_EQ(0, thaw_image_key_remove(model_path, 0, error)) TH_LOG("%s", error->text);
	after = file_bytes(model_path);
	EXPECT_NE(NULL, memmem(before.at, before.count, keys.slots[0].wrapped, 48));
	EXPECT_EQ(NULL, memmem(after.at, after.count, keys.slots[0].wrapped, 48));
	EXPECT_EQ(NULL, memmem(after.at, after.count, keys.slots[0].salt, 16));
	free(before.at);
	free(after.at);
	use(right_key, NULL, NULL);
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, error));
	EXPECT_EQ(0, thaw_image_keys(model_path, slots, error));
	EXPECT_EQ(THAW_KEY_NONE, slots[0].kind);
	EXPECT_EQ(THAW_KEY_FILE, slots[1].kind);
	EXPECT_EQ(THAW_KEY_PASSPHRASE, slots[2].kind);
	EXPECT_EQ(0, strcmp("one of the tests", slots[2].name));
	use(NULL, other_key, NULL);
	for (unsigned i = 0; i < 6; i++)
		EXPECT_LE(0, slot_add(THAW_KEY_FILE, right_key, THAW_KEY_BYTES, error));
	EXPECT_EQ(-ENOSPC, slot_add(THAW_KEY_FILE, right_key, THAW_KEY_BYTES, error));
	EXPECT_EQ(0, read_all(&self->model, error));
}

TEST_F(encrypted, a_slot_that_was_removed_from_one_block_alone_is_removed_again)
{
	struct thaw_error *error = &self->error;
	struct bytes before, after;
	struct disk_keys keys;
	unsigned older;

	ASSERT_EQ(1, slot_add(THAW_KEY_FILE, other_key, THAW_KEY_BYTES, error));
	before = file_bytes(model_path);
	memcpy(&keys, keys_at(&before, 0), sizeof(keys));
	ASSERT_EQ(0, thaw_image_key_remove(model_path, 1, error));
	/* As if that had been killed between its two commits. */
	after = file_bytes(model_path);
	older = slot_at(&after, 0)->sequence > slot_at(&after, 1)->sequence;
	memcpy(keys_at(&after, older), &keys, sizeof(keys));
	file_write(model_path, &after);
	free(before.at);
	free(after.at);
	EXPECT_EQ(-EINVAL, thaw_image_key_remove(model_path, 2, error));
	ASSERT_EQ(0, thaw_image_key_remove(model_path, 1, error)) TH_LOG("%s", error->text);
	after = file_bytes(model_path);
	EXPECT_EQ(NULL, memmem(after.at, after.count, keys.slots[1].wrapped, 48));
	free(after.at);
	EXPECT_EQ(-EINVAL, thaw_image_key_remove(model_path, 1, error));
	EXPECT_EQ(0, read_all(&self->model, error));
}

TEST_F(encrypted, a_new_key_leaves_nothing_to_the_old_ones)
{
	struct thaw_error *error = &self->error;
	struct bytes before = self->now, after;
	unsigned same = 0;

	ASSERT_EQ(1, slot_add(THAW_KEY_PASSPHRASE, "correct horse", 13, error));
	/* What opens a slot is not at hand: nothing is done. */
	EXPECT_EQ(THAW_EKEY,
		  thaw_image_compact(model_path, THAW_COMPACT_ENCRYPT, NULL, NULL, error));
	EXPECT_NE(NULL, strstr(error->text, "slot 1")) TH_LOG("%s", error->text);
	use(right_key, NULL, "correct horse");
	ASSERT_EQ(0, thaw_image_compact(model_path, THAW_COMPACT_ENCRYPT, NULL, NULL, error))
	TH_LOG("%s", error->text);
	EXPECT_EQ(0, read_all(&self->model, error));
	after = file_bytes(model_path);
	EXPECT_NE(0, memcmp(slot_at(&before, 0)->key_salt, slot_at(&after, 0)->key_salt, 32));
	for (size_t at = 2 * PAGE; at + PAGE <= after.count; at += PAGE)
		same += !!memmem(before.at, before.count, after.at + at, 64);
	EXPECT_EQ(0, same);
	/* The old slots in the new file open nothing. */
	for (unsigned i = 0; i < 2; i++)
		memcpy(after.at + i * SPACE_BLOCK + 1024, before.at + i * SPACE_BLOCK + 1024,
		       sizeof(struct disk_keys));
	file_write(model_path, &after);
	use(right_key, NULL, NULL);
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, error));
	free(after.at);
	use(NULL, NULL, "correct horse");
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, error));
}

TEST_F(encrypted, what_it_was_before_does_not_stay_beside_it)
{
	struct bytes clear = {(uint8_t *)"what was in the clear", 21};
	char left[256], others[256];

	/* As thaw compact --encrypt leaves it that is killed before its last step. */
	snprintf(left, sizeof(left), "%s.tmp.4711.00c0ffee", model_path);
	snprintf(others, sizeof(others), "%s.tmp.kept", model_path);
	file_write(left, &clear);
	file_write(others, &clear);
	EXPECT_EQ(0, read_all(&self->model, &self->error));
	EXPECT_NE(0, access(left, F_OK));
	EXPECT_EQ(0, access(others, F_OK));
	unlink(others);
}

/* ---- Key slots that are torn, or made to do harm */

TEST_F(encrypted, torn_key_slots_are_those_of_the_other_block)
{
	struct thaw_error *error = &self->error;
	struct bytes after;

	ASSERT_EQ(1, slot_add(THAW_KEY_FILE, other_key, THAW_KEY_BYTES, error));
	after = file_bytes(model_path);
	for (unsigned i = 0; i < 2; i++)
		for (size_t cut = 0; cut < sizeof(struct disk_keys); cut += 512) {
			struct bytes torn = {malloc(after.count), after.count};

			/* Up to there the new ones, from there on what was there before. */
			memcpy(torn.at, after.at, after.count);
			memcpy((uint8_t *)keys_at(&torn, i) + cut,
			       (uint8_t *)keys_at(&self->now, i) + cut,
			       sizeof(struct disk_keys) - cut);
			file_write(model_path, &torn);
			free(torn.at);
			EXPECT_EQ(0, read_all(&self->model, error)) TH_LOG("%s", error->text);
			ASSERT_LE(0, slot_add(THAW_KEY_FILE, other_key, THAW_KEY_BYTES, error))
			TH_LOG("%s", error->text);
			EXPECT_EQ(0, read_all(&self->model, error));
		}
	keys_at(&after, 0)->slots[0].wrapped[5] ^= 1;
	file_write(model_path, &after);
	EXPECT_EQ(0, read_all(&self->model, error));
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, error));
	keys_at(&after, 1)->slots[0].wrapped[5] ^= 1;
	file_write(model_path, &after);
	EXPECT_EQ(THAW_EDAMAGED, read_all(&self->model, error));
	EXPECT_EQ(THAW_EDAMAGED, thaw_image_verify(model_path, NULL, NULL, error));
	free(after.at);
}

TEST_F(encrypted, a_slot_that_asks_for_too_much_is_never_tried)
{
	for (unsigned i = 0; i < 2; i++) {
		struct disk_keys *keys = keys_at(&self->now, i);

		for (unsigned slot = 0; slot < FORMAT_KEY_SLOTS; slot++) {
			keys->slots[slot].kind = THAW_KEY_PASSPHRASE;
			keys->slots[slot].passes = slot % 2 ? 3 : UINT64_MAX >> slot;
			keys->slots[slot].memory = slot % 2 ? 100ull << 30 : 8192;
		}
		plain(keys->checksum, keys, offsetof(struct disk_keys, checksum));
	}
	file_write(model_path, &self->now);
	use(right_key, NULL, "anything");
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, &self->error));
}

static void slots_cost(struct bytes *image, uint64_t passes, uint64_t memory)
{
	for (unsigned i = 0; i < 2; i++) {
		struct disk_keys *keys = keys_at(image, i);

		for (unsigned slot = 0; slot < FORMAT_KEY_SLOTS; slot++) {
			keys->slots[slot].kind = THAW_KEY_PASSPHRASE;
			keys->slots[slot].passes = passes;
			keys->slots[slot].memory = memory;
		}
		plain(keys->checksum, keys, offsetof(struct disk_keys, checksum));
	}
	file_write(model_path, image);
}

TEST_F(encrypted, slots_together_cost_no_more_than_one_may)
{
	struct thaw_error *error = &self->error;

	use(right_key, NULL, "anything");
	reckoned.on = true;
	slots_cost(&self->now, 16, 1ull << 30);
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, error));
	EXPECT_EQ(at_hand.asked, reckoned.tried);
	EXPECT_EQ(at_hand.asked * KEY_WORK_MOST, reckoned.work);
	EXPECT_NE(NULL, strstr(error->text, "would take too long to try"))
	TH_LOG("%s", error->text);
	/* As this program makes them, all eight can be tried. */
	use(right_key, NULL, "anything");
	reckoned.tried = at_hand.asked = 0;
	slots_cost(&self->now, crypto_pwhash_argon2id_OPSLIMIT_MODERATE,
		   crypto_pwhash_argon2id_MEMLIMIT_MODERATE);
	EXPECT_EQ(THAW_EKEY, read_all(&self->model, error));
	EXPECT_EQ(at_hand.asked * THAW_KEY_SLOTS, reckoned.tried);
	EXPECT_NE(NULL, strstr(error->text, "the passphrase is another"));
	/* Without the memory that one takes, that is what is said. */
	reckoned.no_memory = true;
	EXPECT_EQ(-ENOMEM, read_all(&self->model, error));
	EXPECT_NE(NULL, strstr(error->text, "slot 7 takes 256 MiB of memory"))
	TH_LOG("%s", error->text);
}

/* Killed at any instant: the one state or the other, and it opens. */
TEST_F(encrypted, killed_while_slots_are_changed)
{
	struct thaw_error *error = &self->error;
	struct thaw_key_slot slots[THAW_KEY_SLOTS];

	for (unsigned round = 0; round < 40; round++) {
		pid_t child = fork();
		int status;

		if (!child) {
			for (;;) {
				if (slot_add(THAW_KEY_FILE, other_key, THAW_KEY_BYTES, error) !=
					    1 &&
				    error->code != THAW_EINUSE)
					_exit(1);
				if (thaw_image_key_remove(model_path, 1, error))
					_exit(2);
			}
		}
		usleep(500 + random_below(20000));
		kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFSIGNALED(status)) TH_LOG("exit %d", WEXITSTATUS(status));
		ASSERT_EQ(0, read_all(&self->model, error)) TH_LOG("%s", error->text);
		ASSERT_EQ(0, thaw_image_keys(model_path, slots, error));
		ASSERT_EQ(THAW_KEY_USER, slots[0].kind);
		ASSERT_EQ(THAW_KEY_NONE, slots[2].kind);
		if (slots[1].kind)
			ASSERT_EQ(0, thaw_image_key_remove(model_path, 1, error));
	}
	EXPECT_EQ(0, thaw_image_verify(model_path, NULL, NULL, error));
}

TEST_HARNESS_MAIN
