// SPDX-License-Identifier: GPL-2.0-only
/*
 * disk_cut.c - a power cut: which of the contents that each sector of the disk had since the last sync is left, and the file
 * that holds them (disk.h). It follows from the cut's seed, so that the same cut can be made again.
 */
#define _GNU_SOURCE
#include "disk_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "image/format.h"
#include "../support.h"

const char *const leaves_names[LEAVES_KINDS] = {
	"nothing",     "all",	      "a prefix", "a torn prefix", "some calls",
	"any sectors", "all but one", "only one", "strangers",	   "torn slots",
};

/* Is that call's doing left? */
static bool event_left(const struct cut *cut, uint64_t event, uint64_t sector)
{
	switch (cut->leaves) {
	case LEAVES_NOTHING:
		return false;
	case LEAVES_PREFIX:
		return event <= cut->event;
	case LEAVES_TORN_PREFIX:
		return event < cut->event ||
		       (event == cut->event && mix(cut->seed ^ sector * 0x2545f4914f6cdd1dull) & 1);
	case LEAVES_CALLS:
		return mix(cut->seed ^ event * 0x2545f4914f6cdd1dull) % 100 < cut->seed % 99 + 1;
	default:
		return true;
	}
}

/* Which of its contents the sector has. */
static unsigned sector_choice(const struct cut *cut, const struct sector *sector, uint64_t number)
{
	uint64_t dice = mix(cut->seed + number * 0x2545f4914f6cdd1dull);
	unsigned choice = sector->count - 1;

	if (!choice)
		return 0;
	switch (cut->leaves) {
	case LEAVES_SECTORS:
	case LEAVES_STRANGERS:
	case LEAVES_TORN_SECTORS: /* some cuts leave nearly all, some nearly nothing */
		if (dice % 100 < cut->seed % 99 + 1)
			return choice;
		return (unsigned)((dice >> 32) % sector->count);
	case LEAVES_ALL_BUT_ONE:
		return number == cut->event ? (unsigned)(dice >> 32) % choice : choice;
	case LEAVES_ONLY_ONE:
		return number == cut->event ? 1 + (unsigned)(dice >> 32) % choice : 0;
	default:
		while (choice && !event_left(cut, sector->written[choice].event, number))
			choice--;
		return choice;
	}
}

static uint64_t slot_sequence(const struct cut *cut, const struct file *file, unsigned sector)
{
	uint64_t sequence = 0;

	if (sector < file->count) {
		const struct sector *slot = &file->sectors[sector];

		memcpy(&sequence,
		       slot->written[sector_choice(cut, slot, sector)].content->bytes +
			       offsetof(struct disk_slot, sequence),
		       sizeof(sequence));
	}
	return sequence;
}

/*
 * Sectors that tear within break the assumption that the format is built on, but not by much: the
 * other slot is still there, if anything was committed to it.
 */
static bool slot_torn(const struct cut *cut, const struct file *file, uint64_t number)
{
	const struct sector *sector = &file->sectors[number];

	return cut->leaves == LEAVES_TORN_SECTORS && number % SLOT_SECTORS == 0 &&
	       number <= SLOT_SECTORS && sector->dirty && sector->count > 1 &&
	       slot_sequence(cut, file, SLOT_SECTORS - (unsigned)number);
}

/* What the sector holds, and an id of that. */
static uint64_t sector_left(const struct cut *cut, const struct file *file, uint64_t number,
			    uint8_t bytes[SECTOR])
{
	const struct sector *sector = &file->sectors[number];
	unsigned choice = sector_choice(cut, sector, number);
	const struct content *content = sector->written[choice].content;
	uint64_t dice = mix(cut->seed * 3 + number);

	if (slot_torn(cut, file, number)) {
		unsigned at = 8 + (unsigned)(dice % (SECTOR - 16));

		memcpy(bytes, sector->written[0].content->bytes, SECTOR);
		memcpy(bytes, sector_cached(sector)->content->bytes, at);
		return dice | 1ull << 63;
	}
	if (cut->leaves == LEAVES_STRANGERS && sector->count > 1 && content == &zero_content &&
	    number >= 2 * SLOT_SECTORS && dice & 1) {
		for (unsigned i = 0; i < SECTOR; i++)
			bytes[i] = (uint8_t)(dice >> i % 8 * 8) ^ (uint8_t)i;
		return dice | 1ull << 63;
	}
	memcpy(bytes, content->bytes, SECTOR);
	return content->id;
}

static uint64_t length_left(const struct cut *cut, const struct file *file)
{
	unsigned choice = file->lengths_count - 1;
	uint64_t dice = mix(cut->seed + 77), least, most;

	switch (cut->leaves) {
	case LEAVES_ALL:
	case LEAVES_ALL_BUT_ONE:
		break;
	case LEAVES_ONLY_ONE:
		if (dice & 1)
			break;
		return file->lengths[0].bytes;
	case LEAVES_NOTHING:
	case LEAVES_PREFIX:
	case LEAVES_TORN_PREFIX:
		while (choice && !event_left(cut, file->lengths[choice].event, UINT64_MAX))
			choice--;
		break;
	default:
		choice = (unsigned)((dice >> 8) % file->lengths_count);
		if (dice & 3)
			break;
		least = most = file->lengths[0].bytes;
		for (unsigned i = 1; i < file->lengths_count; i++) {
			uint64_t bytes = file->lengths[i].bytes;

			least = bytes < least ? bytes : least;
			most = bytes > most ? bytes : most;
		}
		return least + (dice >> 8) % (most - least + 1);
	}
	return file->lengths[choice].bytes;
}

static int name_left(const struct cut *cut)
{
	unsigned choice = disk.names_count - 1;

	if (cut->leaves == LEAVES_SECTORS || cut->leaves == LEAVES_CALLS)
		choice = (unsigned)(mix(cut->seed + 78) % disk.names_count);
	else
		while (choice && !event_left(cut, disk.names[choice].event, UINT64_MAX))
			choice--;
	return disk.names[choice].file;
}

/* The first call that may be lost. */
static uint64_t first_unsynced(const struct file *file)
{
	uint64_t first = disk.events;

	for (size_t i = 0; i < file->count; i++)
		if (file->sectors[i].count > 1 && file->sectors[i].written[1].event < first)
			first = file->sectors[i].written[1].event;
	if (file->lengths_count > 1 && file->lengths[1].event < first)
		first = file->lengths[1].event;
	return first;
}

static uint64_t any_unsynced_sector(const struct file *file, uint64_t dice)
{
	uint64_t count = 0, number = 0;

	for (size_t i = 0; i < file->count; i++)
		count += file->sectors[i].count > 1;
	if (!count)
		return UINT64_MAX;
	/* The slots are one of many sectors, and the ones that matter. */
	if (dice % 4 == 0)
		for (unsigned i = 0; i <= SLOT_SECTORS && i < file->count; i += SLOT_SECTORS)
			if (file->sectors[i].count > 1)
				return i;
	count = (dice >> 8) % count;
	while (file->sectors[number].count == 1 || count--)
		number++;
	return number;
}

void cut_choose(struct cut *cut, enum leaves leaves, uint64_t seed)
{
	const struct file *file;
	uint8_t bytes[SECTOR];
	int number;

	*cut = (struct cut){.leaves = leaves, .seed = mix(seed)};
	number = name_left(cut);
	cut->named = number >= 0;
	cut->hash = mix((uint64_t)number + ((uint64_t)disk.reports << 32));
	if (!cut->named)
		return;
	file = &disk.files[number];
	if (leaves == LEAVES_ALL_BUT_ONE || leaves == LEAVES_ONLY_ONE) {
		cut->event = any_unsynced_sector(file, mix(cut->seed + 79));
	} else if (leaves == LEAVES_PREFIX || leaves == LEAVES_TORN_PREFIX) {
		uint64_t first = first_unsynced(file);

		cut->event = first + mix(cut->seed + 80) % (disk.events - first + 1);
	}
	cut->hash += mix(length_left(cut, file));
	for (uint64_t i = 0; i * SECTOR < length_left(cut, file); i++) {
		uint64_t id = i < file->count && file->sectors[i].count == 1
				      ? file->sectors[i].written[0].content->id
			      : i < file->count ? sector_left(cut, file, i, bytes)
						: 0;

		cut->hash += mix(id * 0x2545f4914f6cdd1dull + i);
	}
	for (unsigned i = 0; i <= SLOT_SECTORS && i < file->count; i += SLOT_SECTORS)
		cut->torn_slot |= slot_torn(cut, file, i);
}

static void scratch_resize(uint64_t bytes)
{
	uint64_t least = bytes < disk.scratch_bytes ? bytes : disk.scratch_bytes;
	uint64_t from = least / SECTOR;

	if (bytes > (uint64_t)SCRATCH_SECTORS * SECTOR)
		support_die("the image is too large for its tests");
	/* What was cut off reads as zeros; a sector that the end is in has to be written again. */
	for (uint64_t i = from; i * SECTOR < disk.scratch_bytes; i++)
		disk.scratch_ids[i] = 0;
	if (least % SECTOR || bytes % SECTOR)
		disk.scratch_ids[from] = disk.scratch_ids[bytes / SECTOR] = UINT64_MAX;
	if (ftruncate(disk.scratch_fd, (off_t)bytes))
		support_die("ftruncate");
	disk.scratch_bytes = bytes;
}

void cut_make(const struct cut *cut)
{
	int number = name_left(cut);
	const struct file *file;
	uint8_t bytes[SECTOR];
	struct stat status;

	if (number < 0) {
		__real_unlink(disk.absent);
		return;
	}
	file = &disk.files[number];
	/* The writer that looked at the state before may have made it longer or shorter. */
	if (fstat(disk.scratch_fd, &status))
		support_die("fstat");
	disk.scratch_bytes = (uint64_t)status.st_size;
	scratch_resize(length_left(cut, file));
	for (uint64_t i = 0; i * SECTOR < disk.scratch_bytes; i++) {
		uint64_t id = 0, part = disk.scratch_bytes - i * SECTOR;

		if (i < file->count && file->sectors[i].count == 1)
			id = file->sectors[i].written[0].content->id;
		else if (i < file->count)
			id = sector_left(cut, file, i, bytes);
		if (id == disk.scratch_ids[i])
			continue;
		if (i >= file->count)
			memset(bytes, 0, SECTOR);
		else if (file->sectors[i].count == 1)
			memcpy(bytes, file->sectors[i].written[0].content->bytes, SECTOR);
		memcpy(disk.scratch_map + i * SECTOR, bytes, part < SECTOR ? part : SECTOR);
		disk.scratch_ids[i] = part < SECTOR ? UINT64_MAX : id;
	}
}

const char *cut_path(const struct cut *cut)
{
	return cut->named ? disk.scratch : disk.absent;
}

void cut_print(const struct cut *cut)
{
	int number = name_left(cut);
	const struct file *file = number < 0 ? NULL : &disk.files[number];
	unsigned shown = 0;

	fprintf(stderr, "#   left is %s; the name %s\n", leaves_names[cut->leaves],
		file ? "is there" : "is not there");
	if (cut->leaves == LEAVES_PREFIX || cut->leaves == LEAVES_TORN_PREFIX)
		fprintf(stderr, "#   up to call %lu of %lu\n", cut->event, disk.events);
	if (!file)
		return;
	fprintf(stderr, "#   length %lu; synced %lu, seen last %lu\n", length_left(cut, file),
		file->lengths[0].bytes, file_length(file));
	for (size_t i = 0; i < file->count; i++) {
		const struct sector *sector = &file->sectors[i];
		unsigned choice = sector_choice(cut, sector, i);

		if (sector->count == 1)
			continue;
		if (shown++ < 64)
			fprintf(stderr,
				"#   sector %zu: content %u of 0-%u (written by call %lu)%s%s\n", i,
				choice, sector->count - 1, sector->written[choice].event,
				slot_torn(cut, file, i) ? ", torn" : "",
				sector->dirty ? "" : ", in limbo");
	}
	if (shown > 64)
		fprintf(stderr, "#   and %u sectors more\n", shown - 64);
}

void cut_apply(const struct cut *cut)
{
	int fd;

	cut_make(cut);
	__real_unlink(disk.path);
	disk_forget_files();
	disk.slot_written = false;
	if (!cut->named) {
		name_set(-1);
		return;
	}
	fd = open(disk.path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	for (uint64_t at = 0; at < disk.scratch_bytes;) {
		ssize_t put = pwrite(fd, disk.scratch_map + at, disk.scratch_bytes - at, (off_t)at);

		if (put <= 0)
			support_die(disk.path);
		at += (uint64_t)put;
	}
	if (fd < 0 || close(fd))
		support_die(disk.path);
	disk_adopt();
}
