/* SPDX-License-Identifier: MIT */
/*
 * poly1305.c - Poly1305 by libsodium, which is linked anyway, and by libcrypto, once that pays: of 4 KiB the one
 * takes 1.08 us, the other, which uses registers as wide as the processor has, 0.39 us; but to load it takes 1.1 ms,
 * and 3 to 6 ms on two processors that are restoring a program, for which no first result shall wait.
 *
 * So libcrypto is looked for, if it is there at all, when LOAD_BYTES have been hashed, and on a thread of its own: whoever
 * serves faults must not wait for the lock of the dynamic linker, whose owner may wait for a page. Both give
 * the same result, and where anything fails it is libsodium's. Any thread; a thread that has used libcrypto has a
 * context of its own, which keeps no key between two calls.
 */
#include "poly1305.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <stdatomic.h>

#define LOAD_BYTES (64u << 20) /* more than a program of some size touches up to its first result */
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
} evp;

static void *algorithm;	       /* written before `ready` */
static pthread_key_t contexts; /* of each thread */
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
	return evp.init_crypto && evp.fetch && evp.context_new && evp.context_free && evp.init &&
	       evp.update && evp.final;
}

/* It is never unloaded: threads may be in it. */
static void *load(void *unused)
{
	void *library = dlopen("libcrypto.so.3", RTLD_LAZY | RTLD_LOCAL);

	if (!library || !find_functions(library) ||
	    !evp.init_crypto(NO_EXIT_HANDLER | NO_CONFIGURATION, NULL))
		return NULL;
	algorithm = evp.fetch(NULL, "POLY1305", NULL);
	if (algorithm && !pthread_key_create(&contexts, evp.context_free))
		atomic_store(&ready, true);
	return unused;
}

/* If no thread can be had, all stays as it is. */
static void load_beside(void)
{
	sigset_t all, before;
	pthread_t thread;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	if (!pthread_create(&thread, NULL, load, NULL))
		pthread_detach(thread);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
}

bool poly1305_hurry(void)
{
	if (!atomic_exchange(&begun, true))
		load(NULL);
	return atomic_load(&ready);
}

static bool by_libcrypto(uint8_t out[16], const void *bytes, size_t count, const uint8_t key[32])
{
	void *context = pthread_getspecific(contexts);
	size_t length;

	if (!context) {
		context = evp.context_new(algorithm);
		if (!context || pthread_setspecific(contexts, context)) {
			evp.context_free(context);
			return false;
		}
	}
	/* The last step clears what the first has made of the key. */
	return evp.init(context, key, 32, NULL) > 0 && evp.update(context, bytes, count) > 0 &&
	       evp.final(context, out, &length, 16) > 0 && length == 16;
}

void poly1305(uint8_t out[16], const void *bytes, size_t count, const uint8_t key[32])
{
	if (atomic_load_explicit(&ready, memory_order_acquire) &&
	    by_libcrypto(out, bytes, count, key))
		return;
	crypto_onetimeauth(out, bytes, count, key);
	if (!atomic_load_explicit(&begun, memory_order_relaxed) &&
	    atomic_fetch_add_explicit(&hashed, count, memory_order_relaxed) > LOAD_BYTES &&
	    !atomic_exchange(&begun, true))
		load_beside();
}
