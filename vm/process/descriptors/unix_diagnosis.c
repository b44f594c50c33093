/* SPDX-License-Identifier: MIT */
/*
 * unix_diagnosis.c - see unix_diagnosis.h.
 */
#define _GNU_SOURCE
#include "process/descriptors/unix_diagnosis.h"

#include <errno.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <sys/socket.h>

static int ask(int *netlink, uint64_t inode)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req ask;
	} request = {
		.head = {.nlmsg_len = sizeof(request),
			 .nlmsg_type = SOCK_DIAG_BY_FAMILY,
			 .nlmsg_flags = NLM_F_REQUEST},
		.ask = {.sdiag_family = AF_UNIX,
			.udiag_states = ~0u,
			.udiag_ino = (uint32_t)inode,
			.udiag_show = UDIAG_SHOW_PEER | UDIAG_SHOW_RQLEN,
			.udiag_cookie = {~0u, ~0u}},
	};

	if (*netlink < 0)
		*netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	if (*netlink < 0 || send(*netlink, &request, sizeof(request), 0) < 0)
		return -errno;
	return 0;
}

int unix_diagnose(int *netlink, uint64_t inode, struct unix_diagnosis *diagnosis)
{
	char buffer[1024] __attribute__((aligned(8)));
	const struct nlmsghdr *head = (const struct nlmsghdr *)buffer;
	const struct unix_diag_msg *message = NLMSG_DATA(head);
	int code = ask(netlink, inode);
	ssize_t got = code ? 0 : recv(*netlink, buffer, sizeof(buffer), 0);

	*diagnosis = (struct unix_diagnosis){0};
	if (code || got < 0)
		return code ? code : -errno;
	if (!NLMSG_OK(head, (size_t)got) || head->nlmsg_type != SOCK_DIAG_BY_FAMILY)
		return head->nlmsg_type == NLMSG_ERROR
			       ? ((const struct nlmsgerr *)NLMSG_DATA(head))->error
			       : -EPROTO;
	diagnosis->state = message->udiag_state;
	for (size_t at = NLMSG_LENGTH(sizeof(*message)); at + 4 <= head->nlmsg_len;) {
		const struct nlattr *attribute = (const struct nlattr *)(buffer + at);
		const void *value = attribute + 1;

		if (attribute->nla_len < 4)
			break;
		if (attribute->nla_type == UNIX_DIAG_PEER)
			diagnosis->peer = *(const uint32_t *)value;
		else if (attribute->nla_type == UNIX_DIAG_RQLEN)
			diagnosis->backlog = ((const struct unix_diag_rqlen *)value)->udiag_wqueue;
		else if (attribute->nla_type == UNIX_DIAG_SHUTDOWN)
			diagnosis->shutdown = *(const uint8_t *)value;
		at += NLMSG_ALIGN(attribute->nla_len);
	}
	return 0;
}
