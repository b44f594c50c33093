/* SPDX-License-Identifier: GPL-2.0-only */
/* damaged_image.h - for image_damage.c and image_claims.c: an image of three generations, whose bytes are changed and put back. */
#ifndef TESTS_DAMAGED_IMAGE_H
#define TESTS_DAMAGED_IMAGE_H

#include "image/format.h"
#include "image_model.h"

static struct thaw_error error, fallback;
static struct history history;
static struct model model;
static uint8_t *whole; /* the image before it was damaged */
static uint64_t whole_bytes;

/* Three generations of about 60 pages, each changing some. */
__attribute__((unused)) static void make_image(const char *name)
{
	struct image_options options = model_options();
	struct image *image;
	int fd;

	model_setup(name);
	if (image_open(&options, &image, &fallback, &error))
		abort();
	for (unsigned generation = 1; generation <= 3; generation++) {
		for (unsigned i = generation; i < 60; i += generation)
			model.version[i * 9] = generation;
		model.state = generation * 10 + (generation * 10) % 3 + 1;
		if (model_commit(image, &model, &error))
			abort();
		history_add(&history, &model);
	}
	image_close(image);
	whole_bytes = model_file_bytes();
	whole = malloc(whole_bytes);
	fd = open(model_path, O_RDONLY);
	if (!whole || pread(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
		abort();
	close(fd);
}

__attribute__((unused)) static void restore_image(void)
{
	int fd = open(model_path, O_RDWR | O_TRUNC);

	if (pwrite(fd, whole, whole_bytes, 0) != (ssize_t)whole_bytes)
		abort();
	close(fd);
}

__attribute__((unused)) static void poke(uint64_t offset, const void *bytes, size_t count)
{
	int fd = open(model_path, O_RDWR);

	if (pwrite(fd, bytes, count, (off_t)offset) != (ssize_t)count)
		abort();
	close(fd);
}

__attribute__((unused)) static void flip(uint64_t offset, uint8_t mask)
{
	uint8_t byte;
	int fd = open(model_path, O_RDWR);

	if (pread(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	byte ^= mask;
	if (pwrite(fd, &byte, 1, (off_t)offset) != 1)
		abort();
	close(fd);
}

__attribute__((unused)) static int quiet_verify(void)
{
	return thaw_image_verify(model_path, NULL, NULL, &error);
}

__attribute__((unused)) static struct disk_slot newest_slot(unsigned *number)
{
	struct disk_slot *slots[2] = {(void *)whole, (void *)(whole + 4096)};

	*number = slots[1]->sequence > slots[0]->sequence;
	return *slots[*number];
}

#endif
