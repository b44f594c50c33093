/* SPDX-License-Identifier: MIT */
/* kernel_counts.c - see kernel_counts.h. */
#include "kernel_counts.h"

#include <errno.h>
#include <string.h>

void kernel_source_update(struct kernel_source *source)
{
	source->no_delays.code = source->no_kmod.code = 0;
	if (!source->delays)
		source->no_delays.code = delay_reader_open(&source->delays, &source->no_delays);
	if (!source->kmod)
		source->no_kmod.code = kmod_open(&source->kmod, &source->no_kmod);
	if (!source->kmod)
		return;
	source->no_kmod.code = kmod_regions_read(source->kmod, &source->regions, &source->no_kmod);
	if (!source->no_kmod.code || source->no_kmod.code == -EAGAIN)
		return;
	/* It was unloaded, say: perhaps there is another one next time. */
	kmod_close(source->kmod);
	source->kmod = NULL;
}

void kernel_source_free(struct kernel_source *source)
{
	delay_reader_close(source->delays);
	kmod_regions_free(&source->regions);
	kmod_close(source->kmod);
	*source = (struct kernel_source){0};
}

static void delays_read(struct kernel_source *source, pid_t pid, struct kernel_counts *counts)
{
	struct task_delays delays;
	struct thaw_error error;

	if (!source->delays || task_delays_read(source->delays, pid, &delays, &error))
		return;
	counts->delay_ns[DELAY_BLOCK_IO] = delays.block_io.nanoseconds;
	counts->delay_ns[DELAY_SWAP_IN] = delays.swap_in.nanoseconds;
	if (delays.has_thrashing)
		counts->delay_ns[DELAY_THRASHING] = delays.thrashing.nanoseconds;
	if (delays.has_write_protect_copy)
		counts->delay_ns[DELAY_WRITE_PROTECT_COPY] = delays.write_protect_copy.nanoseconds;
}

static bool has_other_images(const struct programs *programs, const struct running_program *program)
{
	for (size_t i = 0; i < programs->count; i++)
		if (programs->list[i] != program &&
		    programs->list[i]->process.pid == program->process.pid)
			return true;
	return false;
}

static bool region_is_of(const struct kmod_region *region, const struct running_program *program,
			 bool by_image)
{
	if (region->pid != program->process.pid || !region->page_bytes)
		return false;
	return !by_image ||
	       (region->image && program->link && !strcmp(region->image, program->link));
}

/*
 * The region of a program: the only one of its process, if that has no other image open; else the
 * only one of that image, of which the kernel says the same as of the descriptor. NULL: there is
 * none, or it cannot be told.
 */
static const struct kmod_region *region_of(const struct kernel_source *source,
					   const struct programs *programs,
					   const struct running_program *program)
{
	for (int by_image = has_other_images(programs, program); by_image < 2; by_image++) {
		const struct kmod_region *found = NULL;
		unsigned count = 0;

		for (size_t i = 0; i < source->regions.count; i++) {
			if (!region_is_of(&source->regions.list[i], program, by_image))
				continue;
			found = &source->regions.list[i];
			count++;
		}
		if (count < 2)
			return found;
	}
	return NULL;
}

void kernel_counts_read(struct kernel_source *source, const struct programs *programs,
			const struct running_program *program, struct kernel_counts *counts)
{
	const struct kmod_region *region = region_of(source, programs, program);

	memset(counts, 0xff, sizeof(*counts));
	delays_read(source, program->process.pid, counts);
	if (!region)
		return;
	counts->region = region->id;
	counts->resident_bytes = region->resident_bytes;
	counts->pages_dirtied = region->counters.pages_dirtied;
	counts->faults_served = region->counters.faults_served;
	counts->faults_passed = region->counters.faults_passed;
}
