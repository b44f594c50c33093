// SPDX-License-Identifier: GPL-2.0-only
/*
 * made_image.h - an image whose pages have contents that follow from their number and the generation, and a store that holds
 * it (made_store.h).
 */
#ifndef TESTS_STORE_MADE_IMAGE_H
#define TESTS_STORE_MADE_IMAGE_H

#include "made_store.h"
#include "thaw.h"

#define IMAGE_PAGES 3008u
#define IMAGE_MOST (64u << 20)
#define IMAGE_ENGINE "made for a test"

SUPPORT struct thaw_options image_options(const char *path)
{
	return (struct thaw_options){.image = path,
				     .flags = THAW_CREATE,
				     .max_bytes = IMAGE_MOST,
				     .engine = IMAGE_ENGINE};
}

/* Page p, below `end`, is written in those rounds that divide it. */
SUPPORT void image_write_some(void *memory, uint64_t round, uint64_t end)
{
	for (uint64_t page = 0; page < end; page++)
		if (page % round == 0)
			made_block((uint8_t *)memory + page * 4096, (page << 8) + round);
}

SUPPORT void image_write(void *memory, uint64_t round)
{
	image_write_some(memory, round, IMAGE_PAGES);
}

/* Of pages from, from + step, ... below `end`: how many are not what they were after so many rounds. */
SUPPORT unsigned image_wrong_some(const void *memory, uint64_t rounds, uint64_t from, uint64_t step,
				  uint64_t end)
{
	uint8_t expected[4096];
	unsigned wrong = 0;

	for (uint64_t page = from; page < end; page += step) {
		uint64_t round = rounds;

		while (page % round)
			round--;
		made_block(expected, (page << 8) + round);
		wrong += memcmp(expected, (const uint8_t *)memory + page * 4096, 4096) != 0;
	}
	return wrong;
}

SUPPORT unsigned image_wrong(const void *memory, uint64_t rounds, uint64_t from, uint64_t step)
{
	return image_wrong_some(memory, rounds, from, step, IMAGE_PAGES);
}

SUPPORT void image_checkpoint(struct thaw *heap)
{
	struct thaw_result result;
	int code = thaw_checkpoint(heap, THAW_REASON_REQUEST, "state", 5, &result);

	if (code)
		made_die("checkpoint", code, &result.error);
}

/* A new image of so many rounds, 1 to `rounds`, each a generation. */
SUPPORT void image_make(const char *path, uint64_t rounds)
{
	struct thaw_options options = image_options(path);
	struct thaw_error error;
	struct thaw *heap;
	int code = thaw_open(&options, &heap, &error);

	if (!code)
		code = thaw_resize(heap, IMAGE_PAGES * 4096u);
	if (code)
		made_die("image", code, &error);
	for (uint64_t round = 1; round <= rounds; round++) {
		image_write(thaw_base(heap), round);
		image_checkpoint(heap);
	}
	thaw_close(heap);
}

/* The image's file, as it is, in the store: one record more. */
SUPPORT void image_store(struct made **made, struct s3 *s3, const char *path)
{
	uint64_t blocks = (support_size(path) + STORE_BLOCK - 1) / STORE_BLOCK;
	const struct thaw_generation *generations;
	struct thaw_image_info info;
	struct thaw_image *image;
	struct thaw_error error;
	unsigned count;

	if (thaw_image_open(path, &image, &error) || thaw_image_info(image, false, &info, &error))
		made_die(path, -1, &error);
	count = thaw_image_log(image, &generations);
	*made = made_open(s3, blocks);
	(*made)->bytes = support_size(path);
	(*made)->record.generation = generations[count - 1].number;
	memcpy((*made)->record.uuid, info.uuid, 16);
	snprintf((*made)->record.engine, sizeof((*made)->record.engine), "%s", info.engine);
	thaw_image_close(image);
	made_of_file(*made, path, false);
}

#endif
