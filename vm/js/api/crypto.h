/* SPDX-License-Identifier: MIT */
/*
 * crypto.h - what crypto.subtle computes. host.c calls it.
 */
#ifndef VM_JS_CRYPTO_H
#define VM_JS_CRYPTO_H

#include "js/engine/engine.h"

/* (operation, ...): bytes, a pair of keys or a boolean; undefined: it failed. 0: an exception. */
js_value crypto_compute(struct js_engine *engine, unsigned count, const js_value *arguments);

#endif
