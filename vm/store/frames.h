/* SPDX-License-Identifier: MIT */
/*
 * frames.h - 1 to 16 blocks as they are stored, and back. Each thread has an encoder and a decoder of its own.
 */
#ifndef VM_STORE_FRAMES_H
#define VM_STORE_FRAMES_H

#include "store/index.h"

struct frame_encoder;
struct frame_encoder *frame_encoder_new(void); /* NULL: no memory */
void frame_encoder_free(struct frame_encoder *encoder);
/*
 * Stores `count` blocks at `out`, which has room for as many, and fills `frame` but for object and offset. A frame that does
 * not become an eighth shorter is stored as it is.
 */
void frame_encode(struct frame_encoder *encoder, const void *blocks, unsigned count, void *out,
		  struct store_frame *frame);
/* XXH3-64 of so many blocks: what store_frame.content has. Any thread. */
uint64_t frame_content(const void *blocks, unsigned count);

struct frame_decoder;
struct frame_decoder *frame_decoder_new(void);
void frame_decoder_free(struct frame_decoder *decoder);
/*
 * `stored` has frame->bytes; frame->blocks go to `blocks`. THAW_EDAMAGED: the checksum is wrong, or what is in it is not so
 * many blocks; then `blocks` has anything.
 */
int frame_decode(struct frame_decoder *decoder, const struct store_frame *frame, const void *stored,
		 void *blocks);

#endif
