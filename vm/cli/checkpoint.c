/* SPDX-License-Identifier: MIT */
/*
 * checkpoint.c - thaw checkpoint: asks the program that runs from an image for a generation, and waits until it is
 * durable (process/requests.h).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "process/requests.h"
#include "process/stub/control.h"

/* Whoever listens there is the user's own, the image's owner's, or root's: anybody can take such a name. */
static bool is_trusted(int fd, const struct stat *image)
{
	struct ucred who;
	socklen_t bytes = sizeof(who);

	return !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &bytes) &&
	       (who.uid == geteuid() || who.uid == image->st_uid || who.uid == 0);
}

/* Returns a socket, or -1 after saying why; `code` is the exit code. */
static int reach(const char *image, int *code)
{
	struct sockaddr_un address;
	struct stat status;
	socklen_t length;
	int fd;

	if (stat(image, &status)) {
		*code = cli_fail(EXIT_NO_INPUT, "%s: %s", image, strerror(errno));
		return -1;
	}
	length = requests_address(&status, &address);
	fd = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (fd < 0) {
		*code = cli_fail(EXIT_NO_KERNEL, "cannot make a socket: %s", strerror(errno));
		return -1;
	}
	if (!connect(fd, (struct sockaddr *)&address, length) && is_trusted(fd, &status))
		return fd;
	*code = cli_fail(
		EXIT_NO_INPUT,
		"%s: no thaw exec runs from it here (a program of thaw run takes one at kill -USR2)",
		image);
	close(fd);
	return -1;
}

static int report(const struct cli_options *options, const char *image, const struct answer *answer)
{
	struct json json = {.to = stdout};

	if (answer->code)
		return cli_fail(answer->code == -EINVAL ? EXIT_USAGE
							: runtime_exit_code(answer->code),
				"%s: %.*s", image, (int)sizeof(answer->text), answer->text);
	if (!options->json) {
		printf("generation %llu is durable\n", (unsigned long long)answer->generation);
		return 0;
	}
	json_open(&json, NULL, '{');
	json_number(&json, "generation", answer->generation);
	if (options->name)
		json_text(&json, "name", options->name);
	json_close(&json, '}');
	putchar('\n');
	return 0;
}

static int checkpoint(const struct cli_options *options, int count, char **operands)
{
	struct request request = {.kind = REQUEST_CHECKPOINT, .number = 1};
	struct answer answer;
	int code, fd;
	ssize_t got;

	(void)count;
	if (options->name && !thaw_name_valid(options->name))
		return cli_fail(EXIT_USAGE, "'%s' cannot be the name of a generation: see %s",
				options->name, "thaw tag --help");
	snprintf(request.name, sizeof(request.name), "%s", options->name ? options->name : "");
	fd = reach(operands[0], &code);
	if (fd < 0)
		return code;
	got = send(fd, &request, sizeof(request), MSG_NOSIGNAL);
	if (got >= 0)
		got = recv(fd, &answer, sizeof(answer), 0);
	close(fd);
	if (got != (ssize_t)sizeof(answer))
		return cli_fail(EXIT_IO, "%s: the program ended before the generation was durable",
				operands[0]);
	return report(options, operands[0], &answer);
}

static const struct cli_option checkpoint_options[] = {
	{"name", 0, "NAME", CLI_TEXT, CLI_FIELD(name),
	 "what the generation is called, which keeps it (thaw tag)"},
	CLI_JSON,
	CLI_HELP,
	{0},
};

const struct cli_command command_checkpoint = {
	.name = "checkpoint",
	.synopsis = "[options] IMAGE",
	.summary = "ask a program that thaw exec runs for a generation now",
	.description =
		"Asks the program that runs from IMAGE for a generation, and returns once it is durable. For the user who runs\n"
		"it, and root, on the same machine and in the same network namespace.",
	.examples =
		"  thaw checkpoint server.thaw                        one now\n"
		"  thaw checkpoint --name before-deploy server.thaw   ... that is kept under a name\n",
	.options = checkpoint_options,
	.operands_min = 1,
	.operands_max = 1,
	.run = checkpoint,
};
