/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * free_port.h - a TCP port of the loopback interface that nobody has just now.
 */
#ifndef TESTS_FREE_PORT_H
#define TESTS_FREE_PORT_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

/* 0: there is none. */
static inline unsigned find_free_port(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET,
				      .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t bytes = sizeof(address);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (bind(fd, (struct sockaddr *)&address, sizeof(address)) ||
	    getsockname(fd, (struct sockaddr *)&address, &bytes))
		address.sin_port = 0;
	close(fd);
	return ntohs(address.sin_port);
}

#endif
