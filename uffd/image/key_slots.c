/* SPDX-License-Identifier: MIT */
/*
 * key_slots.c - the key of an enciphered image, enciphered with another one: what a slot in its header holds, as LUKS
 * has them. Any thread; no state.
 *
 * A key of 32 bytes becomes the one of its slot by BLAKE2b with the slot's salt; a passphrase by Argon2id, of which the slot
 * says how much it costs, and this file how much at most: an image may be made to do harm. The tag of
 * XChaCha20-Poly1305 tells whether it was the right one; with it the rest of the slot is authenticated, and whose key it
 * is. A copy of the image has the same key and the same slots.
 */
#include <errno.h>
#include <string.h>
#include <time.h>

#include "keys.h"

#define FRAMES_BYTES 4096
#define PERSONAL "thaw key slots  "

#define PASSES_MOST 16u
#define MEMORY_MOST (1ull << 30)
_Static_assert(PASSES_MOST *MEMORY_MOST <= KEY_WORK_MOST, "any one slot can be tried");
_Static_assert(sizeof(PERSONAL) == crypto_generichash_blake2b_PERSONALBYTES + 1, "personal");
_Static_assert(sizeof(((struct key_slot *)NULL)->salt) == crypto_pwhash_argon2id_SALTBYTES, "salt");
_Static_assert(sizeof(((struct key_slot *)NULL)->wrapped) ==
		       IMAGE_KEY_BYTES + crypto_aead_xchacha20poly1305_ietf_ABYTES,
	       "a key and a tag");

struct key_cost key_slot_cost = {crypto_pwhash_argon2id_OPSLIMIT_MODERATE,
				 crypto_pwhash_argon2id_MEMLIMIT_MODERATE};

struct authenticated {
	uint8_t mark[16];
	uint8_t slot[offsetof(struct key_slot, nonce)];
	char name[sizeof(((struct key_slot *)NULL)->name)];
};

static void authenticate(const struct key_slot *slot, const struct key_mark *mark,
			 struct authenticated *with)
{
	memcpy(with->mark, mark->salt, sizeof(with->mark));
	memcpy(with->slot, slot, sizeof(with->slot));
	memcpy(with->name, slot->name, sizeof(with->name));
}

bool key_slot_is_sound(const struct key_slot *slot)
{
	switch (slot->kind) {
	case THAW_KEY_USER:
	case THAW_KEY_FILE:
		return true;
	case THAW_KEY_PASSPHRASE:
		return slot->passes >= crypto_pwhash_argon2id_OPSLIMIT_MIN &&
		       slot->passes <= PASSES_MOST &&
		       slot->memory >= crypto_pwhash_argon2id_MEMLIMIT_MIN &&
		       slot->memory <= MEMORY_MOST;
	default:
		return false;
	}
}

/* The key of the slot, in guarded memory. NULL: no memory. */
static uint8_t *slot_key(const struct key_slot *slot, const void *secret, size_t bytes)
{
	uint8_t *key = sodium_malloc(crypto_aead_xchacha20poly1305_ietf_KEYBYTES);
	int failed;

	if (!key)
		return NULL;
	if (slot->kind == THAW_KEY_PASSPHRASE)
		failed = crypto_pwhash(key, crypto_aead_xchacha20poly1305_ietf_KEYBYTES, secret,
				       bytes, slot->salt, slot->passes, slot->memory,
				       crypto_pwhash_ALG_ARGON2ID13);
	else
		failed = crypto_generichash_blake2b_salt_personal(
			key, crypto_aead_xchacha20poly1305_ietf_KEYBYTES, NULL, 0, secret, bytes,
			slot->salt, (const unsigned char *)PERSONAL);
	sodium_stackzero(FRAMES_BYTES);
	if (!failed)
		return key;
	sodium_free(key);
	return NULL;
}

int key_slot_close(struct key_slot *slot, const struct key_mark *mark, enum thaw_key_kind kind,
		   const void *secret, size_t bytes, const uint8_t key[IMAGE_KEY_BYTES])
{
	struct authenticated with;
	struct timespec now;
	uint8_t *own;

	clock_gettime(CLOCK_REALTIME, &now);
	slot->kind = kind;
	slot->zero = 0;
	slot->time_ns = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
	slot->passes = kind == THAW_KEY_PASSPHRASE ? key_slot_cost.passes : 0;
	slot->memory = kind == THAW_KEY_PASSPHRASE ? key_slot_cost.memory : 0;
	randombytes_buf(slot->salt, sizeof(slot->salt));
	randombytes_buf(slot->nonce, sizeof(slot->nonce));
	if (!key_slot_is_sound(slot) || (kind != THAW_KEY_PASSPHRASE && bytes != THAW_KEY_BYTES))
		return -EINVAL;
	own = slot_key(slot, secret, bytes);
	if (!own)
		return -ENOMEM;
	authenticate(slot, mark, &with);
	crypto_aead_xchacha20poly1305_ietf_encrypt(slot->wrapped, NULL, key, IMAGE_KEY_BYTES,
						   (const uint8_t *)&with, sizeof(with), NULL,
						   slot->nonce, own);
	sodium_free(own);
	sodium_stackzero(FRAMES_BYTES);
	return 0;
}

int key_slot_open(const struct key_slot *slot, const struct key_mark *mark, const void *secret,
		  size_t bytes, uint8_t key[IMAGE_KEY_BYTES])
{
	struct authenticated with;
	uint8_t *own;
	int failed;

	if (!key_slot_is_sound(slot) ||
	    (slot->kind != THAW_KEY_PASSPHRASE && bytes != THAW_KEY_BYTES))
		return -EKEYREJECTED;
	own = slot_key(slot, secret, bytes);
	if (!own)
		return -ENOMEM;
	authenticate(slot, mark, &with);
	failed = crypto_aead_xchacha20poly1305_ietf_decrypt(
		key, NULL, NULL, slot->wrapped, sizeof(slot->wrapped), (const uint8_t *)&with,
		sizeof(with), slot->nonce, own);
	sodium_free(own);
	sodium_stackzero(FRAMES_BYTES);
	return failed ? -EKEYREJECTED : 0;
}
