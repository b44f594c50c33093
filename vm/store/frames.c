// SPDX-License-Identifier: MIT
/*
 * frames.c - 1 to 16 blocks as they are stored (format.h), and back.
 */
#include "store/frames.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include <zstd.h>

#define LEVEL 1

struct frame_encoder {
	ZSTD_CCtx *context;
};

struct frame_decoder {
	ZSTD_DCtx *context;
};

struct frame_encoder *frame_encoder_new(void)
{
	struct frame_encoder *encoder = malloc(sizeof(*encoder));

	if (encoder && !(encoder->context = ZSTD_createCCtx())) {
		free(encoder);
		return NULL;
	}
	return encoder;
}

void frame_encoder_free(struct frame_encoder *encoder)
{
	if (encoder)
		ZSTD_freeCCtx(encoder->context);
	free(encoder);
}

uint64_t frame_content(const void *blocks, unsigned count)
{
	return XXH3_64bits(blocks, (size_t)count * STORE_BLOCK);
}

void frame_encode(struct frame_encoder *encoder, const void *blocks, unsigned count, void *out,
		  struct store_frame *frame)
{
	size_t all = (size_t)count * STORE_BLOCK;
	/* No more room than it may take: the compressor gives up as soon as it is used up. */
	size_t stored = ZSTD_compressCCtx(encoder->context, out, all - all / 8, blocks, all, LEVEL);

	frame->blocks = (uint8_t)count;
	frame->compressed = !ZSTD_isError(stored);
	frame->content = frame_content(blocks, count);
	if (frame->compressed) {
		frame->bytes = (uint32_t)stored;
		frame->check = XXH3_64bits(out, stored);
		return;
	}
	memcpy(out, blocks, all);
	frame->bytes = (uint32_t)all;
	frame->check = frame->content;
}

struct frame_decoder *frame_decoder_new(void)
{
	struct frame_decoder *decoder = malloc(sizeof(*decoder));

	if (decoder && !(decoder->context = ZSTD_createDCtx())) {
		free(decoder);
		return NULL;
	}
	return decoder;
}

void frame_decoder_free(struct frame_decoder *decoder)
{
	if (decoder)
		ZSTD_freeDCtx(decoder->context);
	free(decoder);
}

int frame_decode(struct frame_decoder *decoder, const struct store_frame *frame, const void *stored,
		 void *blocks)
{
	size_t all = (size_t)frame->blocks * STORE_BLOCK;

	if (XXH3_64bits(stored, frame->bytes) != frame->check)
		return THAW_EDAMAGED;
	if (!frame->compressed) {
		memcpy(blocks, stored, all);
		return 0;
	}
	return ZSTD_decompressDCtx(decoder->context, blocks, all, stored, frame->bytes) == all
		       ? 0
		       : THAW_EDAMAGED;
}
