/* SPDX-License-Identifier: MIT */
/*
 * poly1305.c - Poly1305 and XChaCha20 by libsodium, which is linked anyway, and by libcrypto, once that pays: of 4 KiB the
 * one takes 1.08 and 1.8 us, the other, which uses registers as wide as the processor has, 0.39 and 1.0 us; but to load it
 * takes 1.1 ms, and 3 to 6 ms on two processors that are restoring a program, for which no first result shall wait.
 *
 * So libcrypto is looked for, if it is there at all, when LOAD_BYTES have been hashed, and on a thread of its own: whoever
 * serves faults must not wait for the lock of the dynamic linker, whose owner may wait for a page. Both give
 * the same result, and where anything fails it is libsodium's. Any thread; a thread that has used libcrypto has
 * contexts of its own; that of Poly1305 keeps no key between two calls, that of XChaCha20 one that served one nonce.
 */
#include "poly1305.h"

#include <dlfcn.h>
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "thread.h"

/* 6 ms more than with it. Most programs have touched less up to their first result. */
#define LOAD_BYTES (16u << 20)
#define NO_EXIT_HANDLER \
	0x00080000ull /* OPENSSL_INIT_NO_ATEXIT: other threads go on while this process ends */
#define NO_CONFIGURATION 0x00000080ull /* OPENSSL_INIT_NO_LOAD_CONFIG */

/* The functions of openssl/evp.h and openssl/crypto.h that are used; since OpenSSL 3.0. */
static struct {
	int (*init_crypto)(uint64_t options, const void *settings);
	void *(*fetch)(void *library, const char *algorithm, const char *properties);
	void *(*context_new)(void *mac);
	void (*context_free)(void *context);
	int (*init)(void *context, const unsigned char *key, size_t bytes, const void *parameters);
	int (*update)(void *context, const unsigned char *bytes, size_t count);
	int (*final)(void *context, unsigned char *out, size_t *bytes, size_t room);
	void *(*cipher_fetch)(void *library, const char *algorithm, const char *properties);
	void *(*cipher_new)(void);
	void (*cipher_free)(void *context);
	int (*cipher_init)(void *context, const void *cipher, const unsigned char *key,
			   const unsigned char *iv, const void *parameters);
	int (*cipher_update)(void *context, unsigned char *out, int *count, const unsigned char *in,
			     int bytes);
} evp;

/* Of one thread. */
struct contexts {
	void *mac, *cipher;
	bool chosen; /* `cipher` knows its algorithm, which takes as long as a KiB to tell */
};

static void *algorithm, *chacha20; /* written before `ready` */
static pthread_key_t contexts;	   /* of each thread */
static atomic_bool ready, begun;
static atomic_size_t hashed;

static bool find_functions(void *library)
{
	evp.init_crypto = dlsym(library, "OPENSSL_init_crypto");
	evp.fetch = dlsym(library, "EVP_MAC_fetch");
	evp.context_new = dlsym(library, "EVP_MAC_CTX_new");
	evp.context_free = dlsym(library, "EVP_MAC_CTX_free");
	evp.init = dlsym(library, "EVP_MAC_init");
	evp.update = dlsym(library, "EVP_MAC_update");
	evp.final = dlsym(library, "EVP_MAC_final");
	evp.cipher_fetch = dlsym(library, "EVP_CIPHER_fetch");
	evp.cipher_new = dlsym(library, "EVP_CIPHER_CTX_new");
	evp.cipher_free = dlsym(library, "EVP_CIPHER_CTX_free");
	evp.cipher_init = dlsym(library, "EVP_EncryptInit_ex2");
	evp.cipher_update = dlsym(library, "EVP_EncryptUpdate");
	return evp.init_crypto && evp.fetch && evp.context_new && evp.context_free && evp.init &&
	       evp.update && evp.final && evp.cipher_fetch && evp.cipher_new && evp.cipher_free &&
	       evp.cipher_init && evp.cipher_update;
}

static void contexts_free(void *arg)
{
	struct contexts *own = arg;

	evp.context_free(own->mac);
	evp.cipher_free(own->cipher);
	free(own);
}

/* NULL: no memory. */
static struct contexts *contexts_get(void)
{
	struct contexts *own = pthread_getspecific(contexts);

	if (own)
		return own;
	own = calloc(1, sizeof(*own));
	if (!own)
		return NULL;
	own->mac = evp.context_new(algorithm);
	own->cipher = evp.cipher_new();
	if (own->mac && own->cipher && !pthread_setspecific(contexts, own))
		return own;
	contexts_free(own);
	return NULL;
}

/* It is never unloaded: threads may be in it. */
static void *load(void *unused)
{
	void *library = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_LOCAL);

	if (!library || !find_functions(library) ||
	    !evp.init_crypto(NO_EXIT_HANDLER | NO_CONFIGURATION, NULL))
		return NULL;
	algorithm = evp.fetch(NULL, "POLY1305", NULL);
	chacha20 = evp.cipher_fetch(NULL, "ChaCha20", NULL);
	if (algorithm && chacha20 && !pthread_key_create(&contexts, contexts_free))
		atomic_store(&ready, true);
	return unused;
}

/* If no thread can be had, all stays as it is. */
static void load_beside(void)
{
	pthread_t thread;

	if (!thread_begin(&thread, load, NULL))
		pthread_detach(thread);
}

bool poly1305_hurry(void)
{
	if (!atomic_exchange(&begun, true))
		load(NULL);
	return atomic_load(&ready);
}

static bool by_libcrypto(uint8_t out[16], const void *bytes, size_t count, const uint8_t key[32])
{
	struct contexts *own = contexts_get();
	size_t length;

	/* The last step clears what the first has made of the key. */
	return own && evp.init(own->mac, key, 32, NULL) > 0 &&
	       evp.update(own->mac, bytes, count) > 0 &&
	       evp.final(own->mac, out, &length, 16) > 0 && length == 16;
}

#define BLOCK_BYTES 64u
#define PART_BYTES (1u << 30)

/* XChaCha20 is ChaCha20 (of 64 bits of counter) with a key that HChaCha20 makes of 16 bytes of the nonce. */
static bool cipher_by_libcrypto(uint8_t *to, const uint8_t *from, size_t count,
				const uint8_t nonce[24], uint64_t block, const uint8_t key[32])
{
	struct contexts *own = contexts_get();
	uint8_t subkey[crypto_core_hchacha20_OUTPUTBYTES], iv[16];
	int done;
	bool good;

	/* Its counter has 32 bits: what is longer than 256 GiB is not its. */
	if (!own || count > PART_BYTES || block + count / BLOCK_BYTES + 1 > UINT32_MAX)
		return false;
	crypto_core_hchacha20(subkey, nonce, key, NULL);
	memcpy(iv, &block, sizeof(block));
	memcpy(iv + sizeof(block), nonce + 16, 8);
	good = evp.cipher_init(own->cipher, own->chosen ? NULL : chacha20, subkey, iv, NULL) > 0 &&
	       evp.cipher_update(own->cipher, to, &done, from, (int)count) > 0 &&
	       done == (int)count;
	own->chosen = good;
	sodium_memzero(subkey, sizeof(subkey));
	return good;
}

void poly1305_soon(void)
{
	if (!atomic_load_explicit(&begun, memory_order_relaxed) && !atomic_exchange(&begun, true))
		load_beside();
}

/* Is so much done that it pays? */
static void count_up(size_t count)
{
	if (!atomic_load_explicit(&begun, memory_order_relaxed) &&
	    atomic_fetch_add_explicit(&hashed, count, memory_order_relaxed) > LOAD_BYTES)
		poly1305_soon();
}

void xchacha20(void *to, const void *from, size_t count, const uint8_t nonce[24], uint64_t block,
	       const uint8_t key[32])
{
	if (atomic_load_explicit(&ready, memory_order_acquire) &&
	    cipher_by_libcrypto(to, from, count, nonce, block, key))
		return;
	crypto_stream_xchacha20_xor_ic(to, from, count, nonce, block, key);
	count_up(count);
}

void poly1305(uint8_t out[16], const void *bytes, size_t count, const uint8_t key[32])
{
	if (atomic_load_explicit(&ready, memory_order_acquire) &&
	    by_libcrypto(out, bytes, count, key))
		return;
	crypto_onetimeauth(out, bytes, count, key);
	count_up(count);
}
