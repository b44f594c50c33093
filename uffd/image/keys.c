/* SPDX-License-Identifier: MIT */
/*
 * keys.c - the keys of images whose checksums are MACs (checksum.c): thaw_use_key() says where the
 * user's key comes from, and each image's own is derived from that and the salt in its mark. So a
 * tree of one image is no tree of another, and what a key is used for elsewhere is never the same.
 *
 * Any thread; the lock guards all state. The user's key is asked for when the first keyed image is opened or
 * made. Keys lie in memory that core dumps leave out and that is never swapped (sodium_malloc); nothing of
 * them is ever printed. Those of images are never given back: open images refer to them. There are as many as
 * images whose check value was right, which only the user's own have.
 */
#include "keys.h"

#include <errno.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define FRAMES_BYTES 4096 /* what libsodium's frames below ours take: keys are left in them */
#define PERSONAL "thaw image keys"
_Static_assert(sizeof(PERSONAL) == crypto_generichash_blake2b_PERSONALBYTES, "personal");
_Static_assert(sizeof(((struct key_mark *)NULL)->salt) == crypto_generichash_blake2b_SALTBYTES,
	       "salt");
_Static_assert(THAW_KEY_BYTES == crypto_kdf_KEYBYTES, "libsodium's length of a key");

enum subkey { SUBKEY_CHECK = 1, SUBKEY_HASH = 2, SUBKEY_KINDS = 16 };

struct known_key {
	struct checksum_key key;
	struct key_mark mark;
	unsigned user; /* which of the user's keys it came from */
};

/* Guarded memory is given in pages. */
struct known_keys {
	struct known_keys *next;
	unsigned count;
	struct known_key key[12];
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct thaw_key_source source;
static uint8_t *user_key;	 /* NULL: not asked for yet */
static unsigned user;		 /* counts the sources */
static struct known_keys *known; /* the newest first: it may have room */

bool key_mark_set(const struct key_mark *mark)
{
	return !sodium_is_zero((const unsigned char *)mark, sizeof(*mark));
}

void thaw_use_key(const struct thaw_key_source *from)
{
	pthread_mutex_lock(&lock);
	source = from ? *from : (struct thaw_key_source){0};
	sodium_free(user_key); /* wipes it */
	user_key = NULL;
	user++;
	pthread_mutex_unlock(&lock);
}

/* With the lock. */
static int user_key_get(const char *path, bool make, struct thaw_error *error)
{
	struct thaw_error why = {0};
	uint8_t *key;
	int code;

	if (user_key)
		return 0;
	if (!source.get)
		return error_set(error, THAW_EKEY,
				 "%s: its contents are authenticated with a key, and this program "
				 "has none (thaw_use_key)",
				 path);
	key = sodium_malloc(THAW_KEY_BYTES);
	if (!key)
		return error_set(error, -ENOMEM, "%s: no memory for its key", path);
	code = source.get(source.arg, make, key, &why);
	sodium_stackzero(FRAMES_BYTES);
	if (code) {
		sodium_free(key);
		return error_set(error, THAW_EKEY,
				 "%s: its contents are authenticated with a key, which is not at "
				 "hand: %s",
				 path, why.code ? why.text : thaw_strerror(code));
	}
	user_key = key;
	return 0;
}

/* With the lock, and the user's key. */
static int derive(const uint8_t salt[16], struct known_key *made)
{
	uint8_t *image = sodium_malloc(crypto_kdf_KEYBYTES);

	if (!image)
		return -ENOMEM;
	crypto_generichash_blake2b_salt_personal(image, crypto_kdf_KEYBYTES, NULL, 0, user_key,
						 THAW_KEY_BYTES, salt,
						 (const unsigned char *)PERSONAL);
	memcpy(made->mark.salt, salt, sizeof(made->mark.salt));
	crypto_kdf_derive_from_key(made->mark.check, sizeof(made->mark.check), SUBKEY_CHECK,
				   "thawchck", image);
	crypto_kdf_derive_from_key(made->key.hash, sizeof(made->key.hash), SUBKEY_HASH, "thawhash",
				   image);
	for (unsigned i = 0; i < CHECKSUM_KINDS; i++)
		crypto_kdf_derive_from_key(made->key.kinds[i], sizeof(made->key.kinds[i]),
					   SUBKEY_KINDS + i, "thawkind", image);
	sodium_free(image);
	sodium_stackzero(FRAMES_BYTES);
	made->user = user;
	return 0;
}

/* With the lock. */
static struct known_key *known_find(const struct key_mark *mark)
{
	for (struct known_keys *at = known; at; at = at->next)
		for (unsigned i = 0; i < at->count; i++)
			if (at->key[i].user == user &&
			    !memcmp(&at->key[i].mark, mark, sizeof(*mark)))
				return &at->key[i];
	return NULL;
}

/* With the lock. NULL: no memory. The caller counts it once it is one. */
static struct known_key *known_room(void)
{
	struct known_keys *more;

	if (known && known->count < sizeof(known->key) / sizeof(known->key[0]))
		return &known->key[known->count];
	more = sodium_malloc(sizeof(*more));
	if (!more)
		return NULL;
	more->next = known;
	more->count = 0;
	known = more;
	return &more->key[0];
}

/* With the lock. */
static int find(const char *path, const struct key_mark *mark, const struct checksum_key **key,
		struct thaw_error *error)
{
	struct known_key *made = known_find(mark);
	int code;

	if (made) {
		*key = &made->key;
		return 0;
	}
	code = user_key_get(path, false, error);
	if (code)
		return code;
	made = known_room();
	code = made ? derive(mark->salt, made) : -ENOMEM;
	if (code)
		return error_set(error, code, "%s: no memory for its key", path);
	if (sodium_memcmp(made->mark.check, mark->check, sizeof(mark->check))) {
		sodium_memzero(made, sizeof(*made));
		return error_set(error, THAW_EKEY,
				 "%s: its contents are authenticated with another key than %s",
				 path, source.name ? source.name : "the one at hand");
	}
	known->count++;
	*key = &made->key;
	return 0;
}

int keys_find(const char *path, const struct key_mark *mark, const struct checksum_key **key,
	      struct thaw_error *error)
{
	int code;

	*key = NULL;
	if (!key_mark_set(mark))
		return 0;
	if (sodium_init() < 0)
		return error_set(error, -EIO, "%s: cannot initialise libsodium", path);
	pthread_mutex_lock(&lock);
	code = find(path, mark, key, error);
	pthread_mutex_unlock(&lock);
	return code;
}

int keys_make(const char *path, struct key_mark *mark, struct thaw_error *error)
{
	struct known_key *made;
	int code;

	if (sodium_init() < 0)
		return error_set(error, -EIO, "%s: cannot initialise libsodium", path);
	randombytes_buf(mark->salt, sizeof(mark->salt));
	made = sodium_malloc(sizeof(*made));
	pthread_mutex_lock(&lock);
	code = user_key_get(path, true, error);
	if (!code) {
		code = made ? derive(mark->salt, made) : -ENOMEM;
		if (code)
			error_set(error, code, "%s: no memory for its key", path);
		else
			memcpy(mark->check, made->mark.check, sizeof(mark->check));
	}
	pthread_mutex_unlock(&lock);
	sodium_free(made);
	return code;
}
