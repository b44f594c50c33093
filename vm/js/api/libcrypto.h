/* SPDX-License-Identifier: MIT */
/*
 * libcrypto.h - OpenSSL's libcrypto, loaded when a program first uses crypto.subtle: to link it would cost each start
 * a millisecond.
 *
 * crypto_api.NAME is the function NAME. Owner's thread.
 */
#ifndef VM_JS_LIBCRYPTO_H
#define VM_JS_LIBCRYPTO_H

#include <stdbool.h>

#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/kdf.h>
#include <openssl/rsa.h>
#include <openssl/x509.h>

#define CRYPTO_FUNCTIONS(_)                 \
	_(BN_bin2bn)                        \
	_(BN_bn2binpad)                     \
	_(BN_free)                          \
	_(CRYPTO_free)                      \
	_(CRYPTO_memdup)                    \
	_(ECDSA_SIG_free)                   \
	_(ECDSA_SIG_get0)                   \
	_(ECDSA_SIG_new)                    \
	_(ECDSA_SIG_set0)                   \
	_(ERR_clear_error)                  \
	_(EVP_CIPHER_CTX_ctrl)              \
	_(EVP_CIPHER_CTX_free)              \
	_(EVP_CIPHER_CTX_new)               \
	_(EVP_CIPHER_CTX_set_flags)         \
	_(EVP_CIPHER_fetch)                 \
	_(EVP_CIPHER_free)                  \
	_(EVP_CipherFinal_ex)               \
	_(EVP_CipherInit_ex)                \
	_(EVP_CipherUpdate)                 \
	_(EVP_Digest)                       \
	_(EVP_DigestSign)                   \
	_(EVP_DigestSignInit)               \
	_(EVP_DigestVerify)                 \
	_(EVP_DigestVerifyInit)             \
	_(EVP_KDF_CTX_free)                 \
	_(EVP_KDF_CTX_new)                  \
	_(EVP_KDF_derive)                   \
	_(EVP_KDF_fetch)                    \
	_(EVP_KDF_free)                     \
	_(EVP_MD_CTX_free)                  \
	_(EVP_MD_CTX_new)                   \
	_(EVP_PKCS82PKEY)                   \
	_(EVP_PKEY2PKCS8)                   \
	_(EVP_PKEY_CTX_free)                \
	_(EVP_PKEY_CTX_new)                 \
	_(EVP_PKEY_CTX_new_from_name)       \
	_(EVP_PKEY_CTX_set0_rsa_oaep_label) \
	_(EVP_PKEY_CTX_set_params)          \
	_(EVP_PKEY_CTX_set_rsa_mgf1_md)     \
	_(EVP_PKEY_CTX_set_rsa_oaep_md)     \
	_(EVP_PKEY_CTX_set_rsa_padding)     \
	_(EVP_PKEY_CTX_set_rsa_pss_saltlen) \
	_(EVP_PKEY_decrypt)                 \
	_(EVP_PKEY_decrypt_init)            \
	_(EVP_PKEY_derive)                  \
	_(EVP_PKEY_derive_init)             \
	_(EVP_PKEY_derive_set_peer)         \
	_(EVP_PKEY_encrypt)                 \
	_(EVP_PKEY_encrypt_init)            \
	_(EVP_PKEY_free)                    \
	_(EVP_PKEY_generate)                \
	_(EVP_PKEY_get_bits)                \
	_(EVP_PKEY_is_a)                    \
	_(EVP_PKEY_keygen_init)             \
	_(EVP_PKEY_pairwise_check)          \
	_(EVP_get_digestbyname)             \
	_(HMAC)                             \
	_(PKCS5_PBKDF2_HMAC)                \
	_(PKCS8_PRIV_KEY_INFO_free)         \
	_(d2i_ECDSA_SIG)                    \
	_(d2i_PKCS8_PRIV_KEY_INFO)          \
	_(d2i_PUBKEY)                       \
	_(i2d_ECDSA_SIG)                    \
	_(i2d_PKCS8_PRIV_KEY_INFO)          \
	_(i2d_PUBKEY)

struct crypto_api {
#define FIELD(name) __typeof__(&name) name;
	CRYPTO_FUNCTIONS(FIELD)
#undef FIELD
};
extern struct crypto_api crypto_api;

/* False: it is not there, and `why` says so. */
bool libcrypto_load(char *why, unsigned room);

#endif
