/* SPDX-License-Identifier: GPL-2.0-only */
/* encrypted.h - for the tests of encrypted images: what is at hand to open them, and an image of four generations. */
#ifndef TESTS_ENCRYPTED_H
#define TESTS_ENCRYPTED_H

#include "image_forge.h"
#include "image_model.h"

static uint8_t right_key[THAW_KEY_BYTES] = "thirty-two bytes of a user's key";
FORGE uint8_t other_key[THAW_KEY_BYTES] = "thirty-two bytes of another's...";

static struct {
	uint8_t *user, *other;
	const char *passphrase;
	unsigned asked; /* for passphrases */
} at_hand;

FORGE int give(void *arg, bool make, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)arg, (void)make;
	if (!at_hand.user) {
		why->code = -ENOKEY;
		snprintf(why->text, sizeof(why->text), "no key in the drawer");
		return -ENOKEY;
	}
	memcpy(key, at_hand.user, THAW_KEY_BYTES);
	return 0;
}

FORGE int give_other(void *arg, uint8_t key[THAW_KEY_BYTES], struct thaw_error *why)
{
	(void)arg, (void)why;
	if (!at_hand.other)
		return -ENOKEY;
	memcpy(key, at_hand.other, THAW_KEY_BYTES);
	return 0;
}

FORGE int give_passphrase(void *arg, const char *image, unsigned attempt, char *to, size_t room,
			  struct thaw_error *why)
{
	(void)arg, (void)image, (void)attempt;
	at_hand.asked++;
	if (!at_hand.passphrase) {
		why->code = -ENOKEY;
		snprintf(why->text, sizeof(why->text), "nobody knows it");
		return -ENOKEY;
	}
	snprintf(to, room, "%s", at_hand.passphrase);
	return (int)strlen(to);
}

FORGE void use(uint8_t *user, uint8_t *other, const char *passphrase)
{
	at_hand.user = user;
	at_hand.other = other;
	at_hand.passphrase = passphrase;
	thaw_use_key(&(struct thaw_key_source){
		.get = give, .name = "mine", .other = give_other, .passphrase = give_passphrase});
}

FIXTURE(encrypted)
{
	struct thaw_error error, fallback;
	struct image *image;
	struct model model;
	struct bytes now;
};

FORGE struct image_options encrypted_options(void)
{
	struct image_options options = model_options();

	options.encrypted = true;
	return options;
}

FIXTURE_SETUP(encrypted)
{
	const struct image_options options = encrypted_options();

	model_setup("encrypted");
	key_slot_cost = (struct key_cost){1, 8192};
	use(right_key, NULL, NULL);
	self->model.state = 1;
	ASSERT_EQ(0, image_open(&options, &self->image, &self->fallback, &self->error))
	TH_LOG("%s", self->error.text);
	ASSERT_EQ(0, two_commits(self->image, &self->model, &self->error));
	ASSERT_EQ(0, two_commits(self->image, &self->model, &self->error));
	image_close(self->image);
	self->image = NULL;
	self->now = file_bytes(model_path);
}

FIXTURE_TEARDOWN(encrypted)
{
	image_close(self->image);
	free(self->now.at);
	thaw_use_key(NULL);
	model_teardown();
}

FORGE int read_all(const struct model *model, struct thaw_error *error)
{
	return model_read_newest(&(struct image_options){.path = model_path,
							 .engine = ENGINE,
							 .page_bytes = PAGE,
							 .encrypted = true},
				 model, error);
}

FORGE struct disk_keys *keys_at(const struct bytes *bytes, unsigned block)
{
	return (struct disk_keys *)(bytes->at + block * SPACE_BLOCK + 1024);
}

#endif
