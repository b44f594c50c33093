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

#include "js/engine/engine.h"

#define JS_BLOB_FINISHED 0x1u /* the program called exit(): its heap is kept, it does not go on */
#define JS_BLOB_MODULE 0x2u /* the module "thaw" was loaded: its live bindings have to be updated */
#define JS_BLOB_AWAITS_RESTORE 0x4u /* on("restore") has handlers: a restore may change the heap */
#define JS_BLOB_MID_TURN 0x8u	    /* taken in the middle of a turn: `turn` is valid */
#define JS_BLOB_OUTPUT 0x10u	    /* `output` is valid */
#define JS_BLOB_FLAGS 0x1fu

#define JS_TURN_ARGUMENTS 4u
#define JS_BLOB_MAC_BYTES 32u

/*
 * A promise that was rejected without a handler, or got one later (handled), in the turn under way.
 */
struct js_rejection {
	js_value promise, reason; /* handles; `reason` 0 if handled */
	bool handled;
};

/*
 * What the turn does now, and so what its caller has to do when the VM returns. The numbers are
 * part of the format.
 */
enum js_turn_step {
	JS_TURN_NONE, /* no step that could be continued */
	JS_TURN_CALL, /* the prelude was called */
	JS_TURN_MAIN, /* the main module is being evaluated */
	JS_TURN_JOB,  /* a promise's reaction runs */
};

struct js_turn { /* with JS_BLOB_MID_TURN: the host's side of a turn, and the VM's stack */
	uint8_t build_id[20]; /* js_build_id() of the program that can continue it */
	enum js_turn_step step;
	unsigned argument_count;
	js_value arguments[JS_TURN_ARGUMENTS]; /* of the call, to be freed after it */
	js_value main_failure;		       /* what the main module threw; 0: nothing */
	bool collect;			       /* gc() was called */
	unsigned rejection_count;
	const struct js_rejection *rejections; /* decoded: malloc'ed, js_blob_clear() frees them */
	const void *stack;		       /* borrowed; decoded: points into the data */
	size_t stack_bytes;
};

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
	uint8_t branch[16], home[16]; /* struct guest_common */
	unsigned name_count;	      /* host functions that the heap holds references to */
	char **names;
	/*
	 * With JS_BLOB_OUTPUT: what was printed and has not been read yet, see
	 * base/output_pieces.h. Borrowed; decoded: points into the data.
	 */
	const void *output;
	size_t output_bytes;
	struct js_turn turn;
};

/*
 * Encode into a malloc'ed buffer, NULL when out of memory. With JS_BLOB_MID_TURN the last
 * JS_BLOB_MAC_BYTES are left for a MAC of all before them.
 */
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
