// SPDX-License-Identifier: MIT
/*
 * identity.c - the name of this engine, which goes into images: an object of its own, so that a test makes another engine
 * of the same objects. vm/engine.mk has the text, beside the hash of the wasm binary that it stands for.
 */
#include "engine.h"

const char js_engine_identity[] = JS_ENGINE_IDENTITY;
