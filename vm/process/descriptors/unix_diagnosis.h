/* SPDX-License-Identifier: MIT */
/*
 * unix_diagnosis.h - what the kernel's socket diagnosis (NETLINK_SOCK_DIAG) tells of a Unix socket, for which nobody needs
 * privileges. Any thread.
 */
#ifndef VM_PROCESS_DESCRIPTORS_UNIX_DIAGNOSIS_H
#define VM_PROCESS_DESCRIPTORS_UNIX_DIAGNOSIS_H

#include <stdint.h>

struct unix_diagnosis {
	uint64_t peer; /* inode of the socket that it is connected with; 0: none */
	uint32_t state, backlog;
	uint8_t shutdown;
};

/* *netlink: the socket to ask through, the caller's; -1: it is made. 0, or -errno (-ENOENT: CONFIG_UNIX_DIAG, too). */
int unix_diagnose(int *netlink, uint64_t inode, struct unix_diagnosis *diagnosis);

#endif
