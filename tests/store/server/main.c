// SPDX-License-Identifier: GPL-2.0-only
/*
 * main.c - store-server DIRECTORY [PORT [CONTROL-PORT [ADDRESS]]]: an object store for tests (server.h), with the bucket `test`, for the key
 * thaw-test with the secret thaw/test+secret. Prints its port and that of its control; ends at the end of its input. With
 * STORE_SERVER_TLS in the environment it speaks HTTPS (certificate.h); with STORE_SERVER_FORWARD=PORT it is only the wire to another
 * store on this machine, at that port.
 */
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "server.h"

void die(const char *format, ...)
{
	va_list arguments;

	va_start(arguments, format);
	fputs("store-server: ", stderr);
	vfprintf(stderr, format, arguments);
	fputc('\n', stderr);
	va_end(arguments);
	_exit(1);
}

int main(int count, char **arguments)
{
	const char *forward = getenv("STORE_SERVER_FORWARD");
	uint16_t inner, outer, controls;
	char rest[256];

	if (count < 2 || count > 5)
		die("store-server DIRECTORY [PORT [CONTROL-PORT [ADDRESS]]]");
	if (sodium_init() < 0)
		die("libsodium does not begin");
	signal(SIGPIPE, SIG_IGN);
	controls = count > 3 ? (uint16_t)atoi(arguments[3]) : 0;
	objects_load(arguments[1]);
	bucket_is("test");
	if (forward)
		inner = (uint16_t)atoi(forward);
	else
		serve(getenv("STORE_SERVER_TLS") != NULL, &inner);
	wire_begin(count > 4 ? arguments[4] : "127.0.0.1",
		   count > 2 ? (uint16_t)atoi(arguments[2]) : 0, inner, &outer);
	control(&controls);
	printf("%u %u\n", outer, controls);
	fflush(stdout);
	while (read(0, rest, sizeof(rest)) > 0)
		;
	_exit(0);
}
