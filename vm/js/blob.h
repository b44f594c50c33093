/* SPDX-License-Identifier: MIT */
/*
 * blob.h - the state blob of a JavaScript generation: everything a restore needs that is not in
 * the heap.
 *
 * The owner (runtime.c) keeps one struct js_blob per program and changes its fields as the
 * program goes on; blob.c turns it into the bytes that thaw_checkpoint_capture() stores beside
 * the heap, and back.
 */
#ifndef VM_JS_BLOB_H
#define VM_JS_BLOB_H

#include "engine.h"

#define JS_BLOB_FINISHED 0x1u /* the program called exit(): its heap is kept, it does not go on */
#define JS_BLOB_MODULE 0x2u   /* the module "thaw" was loaded: its live bindings want to be told */
#define JS_BLOB_AWAITS_RESTORE 0x4u /* on("restore") has handlers: a restore may change the heap */
#define JS_BLOB_FLAGS 0x7u

struct js_script { /* the main module as it was when it was loaded; path NULL: repl and -e */
	char *path;
	uint64_t bytes;
	int64_t mtime_ns;
	uint8_t hash[16]; /* XXH3-128 of the source */
};

struct js_blob {
	struct js_small small;
	js_value
		enter; /* handle of the prelude's entry function: an address in the heap, so it survives with it */
	uint32_t flags;	    /* JS_BLOB_* */
	int32_t exit_code;  /* with JS_BLOB_FINISHED */
	uint32_t listeners; /* how many handlers on("checkpoint") has */
	uint64_t restores;  /* how often this program was restored before this generation */
	double clock_ms; /* the program's clock at capture (loop.c): never goes back in the next process */
	struct js_script script;
	unsigned name_count; /* host functions that the heap holds references to */
	char **names;
};

/* Encode into a malloc'ed buffer, NULL when out of memory. */
void *js_blob_encode(const struct js_blob *blob, size_t *bytes);
/*
 * Decode and validate; trusts nothing. 0, THAW_EDAMAGED, THAW_EENGINE (another version of this
 * blob) or -ENOMEM.
 */
int js_blob_decode(const void *data, size_t bytes, struct js_blob *blob, struct thaw_error *error);
/* Copy the names of `bindings`; 0 or -ENOMEM. */
int js_blob_name_bindings(struct js_blob *blob, const struct js_host_binding *bindings);
/* 0, or THAW_EENGINE with the list of the names that the heap needs and `bindings` lacks. */
int js_blob_check_bindings(const struct js_blob *blob, const struct js_host_binding *bindings,
			   struct thaw_error *error);
void js_blob_clear(struct js_blob *blob);

/* XXH3-128 of a source text, for struct js_script. */
void js_source_hash(const void *source, size_t bytes, uint8_t hash[16]);

#endif
