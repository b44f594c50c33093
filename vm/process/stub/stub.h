/* SPDX-License-Identifier: MIT */
/*
 * stub.h - what the files of the stub share. They are one shared object, preloaded into the program.
 */
#ifndef VM_PROCESS_STUB_STUB_H
#define VM_PROCESS_STUB_STUB_H

#include <stdbool.h>

#include "process/stub/control.h"

/* Names that the program's libraries find here before libc's. Everything else is hidden. */
#define STUB_PUBLIC __attribute__((visibility("default")))

extern struct stub_memory stub_memory;

/* Is this the guest? Not before the stub has started, and not in a child that it has forked. */
bool stub_active(void);
/* libc has put another handler for CONTROL_SIGNAL in place of the stub's (pthread_cancel): it comes after it now. */
void stub_take_back_signal(void);

#endif
