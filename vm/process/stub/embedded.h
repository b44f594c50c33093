/* SPDX-License-Identifier: MIT */
/*
 * embedded.h - the two programs that run inside of a guest, byte for byte (embedded.S). Of no bytes where the machine is not
 * one that there can be such guests on.
 */
#ifndef VM_PROCESS_STUB_EMBEDDED_H
#define VM_PROCESS_STUB_EMBEDDED_H

#include <stdint.h>

extern const uint8_t process_stub[], process_restorer[];
extern const uint64_t process_stub_bytes, process_restorer_bytes;

#endif
