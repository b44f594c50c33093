/* SPDX-License-Identifier: MIT */
/*
 * processor.h - what a processor offers to programs, so that another one can be asked whether it has all of that.
 * Any thread.
 */
#ifndef VM_PROCESS_PROCESSOR_H
#define VM_PROCESS_PROCESSOR_H

#include "process/record.h"

#define PROCESSOR_WORDS 11u
#define PROCESSOR_COMPONENTS 32u

struct processor {
	uint32_t words[PROCESSOR_WORDS]; /* of features, as processor.c lists them */
	uint64_t state_components;	 /* of the extended state (XCR0); 0: none */
	/* Where each component lies in a frame (XSAVE), in bytes; 0, 0: it is not in one. */
	struct {
		uint32_t offset, bytes;
	} components[PROCESSOR_COMPONENTS];
	char model[49];
};

void processor_read(struct processor *processor);
void processor_encode(const struct processor *processor, struct record_writer *writer);
bool processor_decode(struct processor *processor, struct record_reader *reader);
/* What programs had on `then` and `now` lacks, as words ("avx2, bmi2"). False: nothing. */
bool processor_lacks(const struct processor *now, const struct processor *then, char *text,
		     size_t room);

#endif
