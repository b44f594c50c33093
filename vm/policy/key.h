/* SPDX-License-Identifier: MIT */
/*
 * key.h - the key that says which images are one's own.
 *
 * A generation taken in the middle of a turn holds native return addresses: whoever continues it
 * jumps where it says, so such an image is as powerful as a program. It carries a MAC under the
 * user's key, and is continued by nobody who holds another. (Any other generation needs no key:
 * the worst it can do happens inside its sandbox.) An image of a whole process is authenticated with it by the
 * library, to the last byte.
 *
 * The key lives in host memory only, never in the heap, which is what images are made of, and in none
 * that a core dump shows: those are sent to strangers. Any thread.
 */
#ifndef VM_KEY_H
#define VM_KEY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "thaw.h"

#define KEY_BYTES 32
#define KEY_MAC_BYTES 32

struct key {
	uint8_t bytes[KEY_BYTES];
};

/*
 * The user's key: what THAW_KEY in the environment says (64 hexadecimal digits, or the path of a
 * key file), else the file $XDG_CONFIG_HOME/thaw/key or ~/.config/thaw/key. With `create` a file
 * that is not there is made, durably, with a random key in it; processes that do so at once get
 * one and the same key.
 *
 * 0, or with `key` zeroed and a line in `error` (which never quotes a key):
 *	-ENOKEY		there is no key file, and it was not to be made
 *	-EKEYREJECTED	there is one that must not be used: others can read or write it, it belongs
 *			to somebody else, or it holds no key
 *	-EINVAL		THAW_KEY is neither a key nor a path
 *	-errno		the file cannot be read or made
 */
int key_load(bool create, struct key *key, struct thaw_error *error);

/*
 * A place for a key that lives long: core dumps leave it out, and it is zeroed when it is given back. NULL:
 * no memory.
 */
struct key *key_new(void);
void key_free(struct key *key); /* NULL is allowed */
/* The key is in this file, which has a / in its name, whatever THAW_KEY says. Borrowed. */
void key_use_file(const char *path);
/* Could key_load(true) have one? It is not made. 0, or why not, as above. */
int key_check(struct thaw_error *error);
/*
 * First thing in a program: from now on a THAW_KEY that holds digits lies in such a place, and no more in the
 * environment. The process's only thread.
 */
void key_take_environment(void);

/* The key in that file alone, which is made with `create` if it is not there. As key_load(). */
int key_load_file(const char *path, bool create, struct key *key, struct thaw_error *error);

/* From now on the library finds the user's key here, for images that are authenticated as a whole (thaw_use_key). */
void key_serve_images(void);
/*
 * What opens an encrypted image, if that key does not: THAW_IMAGE_KEY, 64 hexadecimal digits or the path of a key file, and at last,
 * once this is called, whoever is at the terminal: for commands of one image, which that somebody has named.
 */
void key_ask_for_passphrases(void);

/* Overwrite a key that is not needed any more; the compiler does not leave this out. */
void key_clear(struct key *key);

/* BLAKE2b-256 of `bytes` bytes at `data`, keyed. */
void key_mac(const struct key *key, const void *data, size_t bytes, uint8_t mac[KEY_MAC_BYTES]);
/* Is `mac` what key_mac() would say? Takes as long for any wrong one. */
bool key_matches(const struct key *key, const void *data, size_t bytes,
		 const uint8_t mac[KEY_MAC_BYTES]);

#endif
