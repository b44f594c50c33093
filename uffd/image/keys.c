/* SPDX-License-Identifier: MIT */
/*
 * keys.c - the keys of images whose checksums are MACs (checksum.c): thaw_use_key() says where the
 * user's key comes from, and each image's own is derived from that and the salt in its mark. So a
 * tree of one image is no tree of another, and what a key is used for elsewhere is never the same.
 * The own key of an enciphered image is random, and lies in the slots of its header (key_slots.c).
 *
 * Any thread; the lock guards all state. The user's key is asked for when the first keyed image is opened or
 * made. Keys lie in memory that core dumps leave out and that is never swapped (sodium_malloc); nothing of
 * them is ever printed. Those of images are never given back: open images refer to them. There are as many as
 * images whose check value was right, which only the user's own have.
 */
#include "keys.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <sodium.h>
#include <string.h>

#define FRAMES_BYTES 4096 /* what libsodium's frames below ours take: keys are left in them */
#define PERSONAL "thaw image keys"
_Static_assert(sizeof(PERSONAL) == crypto_generichash_blake2b_PERSONALBYTES, "personal");
_Static_assert(sizeof(((struct key_mark *)NULL)->salt) == crypto_generichash_blake2b_SALTBYTES,
	       "salt");
_Static_assert(THAW_KEY_BYTES == crypto_kdf_KEYBYTES, "libsodium's length of a key");

#define ATTEMPTS 3 /* at a passphrase */

enum subkey {
	SUBKEY_CHECK = 1,
	SUBKEY_HASH = 2,
	SUBKEY_CONTEXTS = 3,
	SUBKEY_KINDS = 16,
	SUBKEY_CIPHERS = 32,
};

struct known_key {
	struct checksum_key key;
	struct key_mark mark;
	unsigned user;		      /* which of the user's keys it came from */
	uint8_t own[IMAGE_KEY_BYTES]; /* of an enciphered image: what is in its slots */
};

/* Guarded memory is given in pages. */
struct known_keys {
	struct known_keys *next;
	unsigned count;
	struct known_key key[6];
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

/* From the image's own. */
static void derive_all(const uint8_t image[crypto_kdf_KEYBYTES], const uint8_t salt[16],
		       struct known_key *made)
{
	memcpy(made->mark.salt, salt, sizeof(made->mark.salt));
	crypto_kdf_derive_from_key(made->mark.check, sizeof(made->mark.check), SUBKEY_CHECK,
				   "thawchck", image);
	crypto_kdf_derive_from_key(made->key.hash, sizeof(made->key.hash), SUBKEY_HASH, "thawhash",
				   image);
	for (unsigned i = 0; i < CHECKSUM_KINDS; i++)
		crypto_kdf_derive_from_key(made->key.kinds[i], sizeof(made->key.kinds[i]),
					   SUBKEY_KINDS + i, "thawkind", image);
	made->key.enciphers = false;
	made->user = user;
	sodium_stackzero(FRAMES_BYTES);
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
	derive_all(image, salt, made);
	sodium_free(image);
	return 0;
}

/* From the own key of an enciphered image, which is in `made`. With the lock. */
static void derive_own(const uint8_t salt[16], struct known_key *made)
{
	derive_all(made->own, salt, made);
	for (unsigned i = 0; i < CHECKSUM_KINDS; i++)
		crypto_kdf_derive_from_key(made->key.ciphers[i], sizeof(made->key.ciphers[i]),
					   SUBKEY_CIPHERS + i, "thawciph", made->own);
	crypto_kdf_derive_from_key(made->key.contexts, sizeof(made->key.contexts), SUBKEY_CONTEXTS,
				   "thawcont", made->own);
	made->key.enciphers = true;
	sodium_stackzero(FRAMES_BYTES);
}

/* With the lock. */
static struct known_key *known_find(const struct key_mark *mark, bool enciphers)
{
	for (struct known_keys *at = known; at; at = at->next)
		for (unsigned i = 0; i < at->count; i++)
			if (at->key[i].user == user && at->key[i].key.enciphers == enciphers &&
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
	struct known_key *made = known_find(mark, false);
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

/* ---- Enciphered images */

/* What opens their slots; each is asked for once. With the lock. */
struct secrets {
	const char *path;
	uint8_t *other;	  /* NULL: not asked for yet, or there is none */
	char *passphrase; /* the last one, that opened something, or was tried */
	int passphrase_bytes;
	bool no_user, no_other;
	struct thaw_error why, why_other; /* there is no user's key, or no other one */
};

static void secrets_forget(struct secrets *secrets)
{
	sodium_free(secrets->other);
	sodium_free(secrets->passphrase);
}

static const uint8_t *secret_user(struct secrets *secrets)
{
	if (!secrets->no_user)
		secrets->no_user = user_key_get(secrets->path, false, &secrets->why) != 0;
	return secrets->no_user ? NULL : user_key;
}

static const uint8_t *secret_other(struct secrets *secrets)
{
	if (secrets->no_other || secrets->other)
		return secrets->other;
	secrets->no_other = true;
	secrets->other = source.other ? sodium_malloc(THAW_KEY_BYTES) : NULL;
	if (secrets->other && !source.other(source.arg, secrets->other, &secrets->why_other)) {
		secrets->no_other = false;
	} else {
		sodium_free(secrets->other);
		secrets->other = NULL;
	}
	sodium_stackzero(FRAMES_BYTES);
	return secrets->other;
}

/* Asks. -ENOKEY, -ENOMEM. */
static int secret_passphrase(struct secrets *secrets, unsigned attempt, struct thaw_error *error)
{
	if (!source.passphrase)
		return -ENOKEY;
	if (!secrets->passphrase)
		secrets->passphrase = sodium_malloc(THAW_PASSPHRASE_BYTES);
	if (!secrets->passphrase)
		return -ENOMEM;
	secrets->passphrase_bytes = source.passphrase(source.arg, secrets->path, attempt,
						      secrets->passphrase, THAW_PASSPHRASE_BYTES,
						      error);
	sodium_stackzero(FRAMES_BYTES);
	return secrets->passphrase_bytes < 0 ? secrets->passphrase_bytes : 0;
}

/* The key of 32 bytes that opens it. NULL: none that is at hand. */
static const uint8_t *slot_try_keys(struct secrets *secrets, const struct key_slot *slot,
				    const struct key_mark *mark, uint8_t *own)
{
	const uint8_t *key;

	if (slot->kind != THAW_KEY_USER && slot->kind != THAW_KEY_FILE)
		return NULL;
	key = secret_user(secrets);
	if (key && !key_slot_open(slot, mark, key, THAW_KEY_BYTES, own))
		return key;
	key = secret_other(secrets);
	return key && !key_slot_open(slot, mark, key, THAW_KEY_BYTES, own) ? key : NULL;
}

static bool slots_have(const struct key_slots *slots, enum thaw_key_kind kind)
{
	for (unsigned i = 0; i < KEY_SLOTS; i++)
		if (slots->slot[i].kind == (uint32_t)kind)
			return true;
	return false;
}

/*
 * Does the passphrase that was given open one of the slots? Its number; -EKEYREJECTED; -ENOMEM: `error` says for what. An image
 * that was made to do harm cannot ask for more than one slot may, however many it has.
 */
static int slots_try_passphrase(const struct secrets *secrets, const struct key_slots *slots,
				uint8_t *own, struct thaw_error *error)
{
	uint64_t left = KEY_WORK_MOST;
	int result = error_set(error, -EKEYREJECTED, "the passphrase is another");

	for (unsigned i = 0; i < KEY_SLOTS; i++) {
		const struct key_slot *slot = &slots->slot[i];
		int code;

		if (slot->kind != THAW_KEY_PASSPHRASE || !key_slot_is_sound(slot))
			continue;
		if (slot->passes * slot->memory > left) {
			error_set(
				error, -EKEYREJECTED,
				"the passphrase is another, or that of slot %u, which would take too "
				"long to try beside the others",
				i);
			continue;
		}
		left -= slot->passes * slot->memory;
		code = key_slot_open(slot, &slots->mark, secrets->passphrase,
				     (size_t)secrets->passphrase_bytes, own);
		if (!code)
			return (int)i;
		if (code == -ENOMEM)
			result = error_set(error, code,
					   "to try a passphrase on slot %u takes %" PRIu64
					   " MiB of memory, which cannot be had",
					   i, slot->memory >> 20);
	}
	return result;
}

static int no_key(const struct secrets *secrets, const struct key_slots *slots,
		  const struct thaw_error *asked, struct thaw_error *error)
{
	bool keys = slots_have(slots, THAW_KEY_USER) || slots_have(slots, THAW_KEY_FILE);

	if (asked->code)
		return error_set(error, THAW_EKEY, "%s: it is encrypted, and no key opens it: %s",
				 secrets->path, asked->text);
	if (secrets->why_other.code)
		return error_set(error, THAW_EKEY, "%s: it is encrypted, and no key opens it: %s",
				 secrets->path, secrets->why_other.text);
	if (!keys)
		return error_set(error, THAW_EKEY,
				 "%s: it is encrypted with a passphrase, which nobody has given",
				 secrets->path);
	if (secrets->why.code)
		return error_set(error, THAW_EKEY, "%s", secrets->why.text);
	return error_set(error, THAW_EKEY, "%s: it is encrypted, and with another key than %s",
			 secrets->path, source.name ? source.name : "the one at hand");
}

/* With the lock. The own key of the image. */
static int own_find(struct secrets *secrets, const struct key_slots *slots, uint8_t *own,
		    struct thaw_error *error)
{
	struct thaw_error asked = {0};
	int code;

	for (unsigned i = 0; i < KEY_SLOTS; i++)
		if (slot_try_keys(secrets, &slots->slot[i], &slots->mark, own))
			return 0;
	for (unsigned i = 0; slots_have(slots, THAW_KEY_PASSPHRASE) && i < ATTEMPTS; i++) {
		code = secret_passphrase(secrets, i, &asked);
		if (!code)
			code = slots_try_passphrase(secrets, slots, own, &asked);
		if (code >= 0)
			return 0;
		if (code == -ENOMEM)
			return error_set(error, code, "%s: no memory: %s", secrets->path,
					 asked.code ? asked.text : "for a passphrase");
		if (code != -EKEYREJECTED)
			break;
	}
	return no_key(secrets, slots, &asked, error);
}

static int open_slots(struct secrets *secrets, const struct key_slots *slots,
		      struct known_key **found, struct thaw_error *error)
{
	struct known_key *made = known_find(&slots->mark, true);
	int code;

	*found = made;
	if (made)
		return 0;
	made = known_room();
	if (!made)
		return error_set(error, -ENOMEM, "%s: no memory for its key", secrets->path);
	code = own_find(secrets, slots, made->own, error);
	if (!code) {
		derive_own(slots->mark.salt, made);
		if (sodium_memcmp(made->mark.check, slots->mark.check, sizeof(made->mark.check)))
			code = error_set(error, THAW_EKEY, "%s: its key slots are of another image",
					 secrets->path);
	}
	if (code) {
		sodium_memzero(made, sizeof(*made));
		return code;
	}
	known->count++;
	*found = made;
	return 0;
}

int keys_open(const char *path, const struct key_slots *slots, const struct checksum_key **key,
	      struct thaw_error *error)
{
	struct secrets secrets = {.path = path};
	struct known_key *found;
	int code;

	*key = NULL;
	if (sodium_init() < 0)
		return error_set(error, -EIO, "%s: cannot initialise libsodium", path);
	pthread_mutex_lock(&lock);
	code = open_slots(&secrets, slots, &found, error);
	secrets_forget(&secrets);
	if (!code)
		*key = &found->key;
	pthread_mutex_unlock(&lock);
	return code;
}

/* With the lock. A random key, whose slots are all free. */
static int own_make(const char *path, struct key_slots *slots, struct known_key **room,
		    struct thaw_error *error)
{
	struct known_key *made = known_room();

	if (!made)
		return error_set(error, -ENOMEM, "%s: no memory for its key", path);
	memset(slots, 0, sizeof(*slots));
	randombytes_buf(slots->mark.salt, sizeof(slots->mark.salt));
	randombytes_buf(made->own, sizeof(made->own));
	derive_own(slots->mark.salt, made);
	slots->mark = made->mark;
	slots->known = true;
	*room = made;
	return 0;
}

int keys_make_enciphering(const char *path, struct key_slots *slots, struct thaw_error *error)
{
	struct known_key *made;
	int code;

	if (sodium_init() < 0)
		return error_set(error, -EIO, "%s: cannot initialise libsodium", path);
	pthread_mutex_lock(&lock);
	code = user_key_get(path, true, error);
	if (!code)
		code = own_make(path, slots, &made, error);
	if (!code) {
		code = key_slot_close(&slots->slot[0], &slots->mark, THAW_KEY_USER, user_key,
				      THAW_KEY_BYTES, made->own);
		if (code)
			error_set(error, code, "%s: no memory for its key", path);
		else
			known->count++;
	}
	pthread_mutex_unlock(&lock);
	return code;
}

/* The slot of the old key, for the new one: with the same secret, which has to be at hand. */
static int slot_renew(struct secrets *secrets, const struct key_slots *old, unsigned number,
		      struct key_slots *slots, uint8_t *own, const uint8_t *new_own,
		      struct thaw_error *error)
{
	const struct key_slot *from = &old->slot[number];
	struct key_slot *to = &slots->slot[number];
	const void *secret = slot_try_keys(secrets, from, &old->mark, own);
	size_t bytes = THAW_KEY_BYTES;
	struct thaw_error asked = {0};
	int code = 0;

	for (unsigned i = 0; i <= ATTEMPTS && !secret && from->kind == THAW_KEY_PASSPHRASE; i++) {
		/* First the one that was given already. */
		code = i || !secrets->passphrase ? secret_passphrase(secrets, i, &asked) : 0;
		if (!code && secrets->passphrase_bytes >= 0)
			code = key_slot_open(from, &old->mark, secrets->passphrase,
					     (size_t)secrets->passphrase_bytes, own);
		if (code && code != -EKEYREJECTED)
			break;
		secret = code ? NULL : secrets->passphrase;
		bytes = (size_t)secrets->passphrase_bytes;
	}
	if (!secret)
		return error_set(error, code == -ENOMEM ? code : THAW_EKEY,
				 "%s: a new key needs what opens slot %u, which is not at hand: "
				 "give it, or remove the slot first (thaw key)",
				 secrets->path, number);
	memcpy(to->name, from->name, sizeof(to->name));
	code = key_slot_close(to, &slots->mark, (enum thaw_key_kind)from->kind, secret, bytes,
			      new_own);
	return code ? error_set(error, code, "%s: no memory for its key", secrets->path) : 0;
}

int keys_renew(const char *path, const struct key_slots *old, struct key_slots *slots,
	       struct thaw_error *error)
{
	struct secrets secrets = {.path = path};
	uint8_t *own = sodium_malloc(IMAGE_KEY_BYTES);
	struct known_key *made;
	int code;

	pthread_mutex_lock(&lock);
	code = own ? own_make(path, slots, &made, error)
		   : error_set(error, -ENOMEM, "%s: no memory for its key", path);
	for (unsigned i = 0; !code && i < KEY_SLOTS; i++)
		if (old->slot[i].kind)
			code = slot_renew(&secrets, old, i, slots, own, made->own, error);
	if (!code)
		known->count++;
	secrets_forget(&secrets);
	pthread_mutex_unlock(&lock);
	sodium_free(own);
	return code;
}

int keys_add(const char *path, struct key_slots *slots, const struct thaw_key_secret *secret,
	     struct thaw_error *error)
{
	const struct known_key *found;
	unsigned free = 0;
	int code;

	while (free < KEY_SLOTS && slots->slot[free].kind)
		free++;
	if (free == KEY_SLOTS)
		return error_set(error, -ENOSPC,
				 "%s: all of its %u key slots are in use: remove one", path,
				 KEY_SLOTS);
	if (secret->name && strlen(secret->name) >= sizeof(slots->slot[free].name))
		return error_set(error, -EINVAL, "the name of a key has at most %zu bytes",
				 sizeof(slots->slot[free].name) - 1);
	memset(&slots->slot[free], 0, sizeof(slots->slot[free]));
	if (secret->name)
		strcpy(slots->slot[free].name, secret->name);
	pthread_mutex_lock(&lock);
	found = known_find(&slots->mark, true);
	code = found ? key_slot_close(&slots->slot[free], &slots->mark, secret->kind, secret->bytes,
				      secret->count, found->own)
		     : THAW_EKEY;
	pthread_mutex_unlock(&lock);
	if (code)
		return error_set(error, code, "%s: no slot can be made for that key: %s", path,
				 thaw_strerror(code));
	return (int)free;
}
