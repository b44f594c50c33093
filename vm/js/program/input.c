/* SPDX-License-Identifier: MIT */
/*
 * input.c - standard input: a read begins when the program asks for one, and ends when there is something.
 *
 * Called by host.c in a turn, and by io.c; owner's thread. What is read goes into the heap in the same turn: nothing that
 * was taken from the outside lies in the host when a generation is made. The descriptor may be shared with others, so
 * it stays blocking: it is read only when poll(2) has something. Waiting goes by an epoll instance of our own, because
 * libuv makes what it polls non-blocking.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "program.h"

#define READ_BYTES 65536u

struct input {
	struct io io;
	uv_poll_t poll;
	int epoll; /* -1: what is read is always ready, as a file, or is none */
};

static void on_closed(uv_handle_t *poll)
{
	struct input *input = poll->data;

	close(input->epoll);
	free(input);
}

static void end(struct input *input)
{
	if (input->epoll < 0)
		free(input);
	else
		uv_close((uv_handle_t *)&input->poll, on_closed);
}

static void on_readable(uv_poll_t *poll, int status, int events)
{
	(void)status, (void)events; /* an error is readable, too: read() will tell it */
	uv_poll_stop(poll);
	io_done(&((struct input *)poll->data)->io);
}

/* Again: somebody else has read what was there. */
static bool wait_more(struct input *input)
{
	if (input->epoll < 0 ||
	    poll(&(struct pollfd){.fd = STDIN_FILENO, .events = POLLIN}, 1, 0) != 0)
		return false;
	if (uv_poll_start(&input->poll, UV_READABLE, on_readable))
		return false;
	io_hold(&input->io);
	return true;
}

static void tell(struct program *program, struct io *io)
{
	struct input *input = (struct input *)io;
	struct js_engine *engine = program->engine;
	char data[READ_BYTES];
	js_value arguments[3];
	ssize_t got;

	if (wait_more(input))
		return;
	do
		got = read(STDIN_FILENO, data, sizeof(data));
	while (got < 0 && errno == EINTR);
	arguments[0] = js_number(engine, io->number);
	arguments[1] = got < 0 ? files_failure(engine, errno, "read", NULL) : js_undefined(engine);
	arguments[2] = got > 0 ? js_bytes(engine, data, (size_t)got) : js_undefined(engine);
	if (!arguments[2]) { /* no room in the heap */
		js_free(engine, js_take_exception(engine));
		arguments[1] = files_failure(engine, ENOMEM, "read", NULL);
		arguments[2] = js_undefined(engine);
	}
	end(input);
	turn_run(program, PRELUDE_FILE_DONE, 3, arguments);
}

static void drop(struct io *io)
{
	end((struct input *)io);
}

static void cancel(struct io *io)
{
	struct input *input = (struct input *)io;

	if (input->epoll >= 0)
		uv_poll_stop(&input->poll);
	io_done(io);
}

static void describe(const struct io *io, char *text, unsigned room)
{
	(void)io;
	snprintf(text, room, "the reading of standard input");
}

static const struct io_type input_io = {tell, drop, cancel, describe};

int input_begin(struct program *program, double number)
{
	struct input *input = calloc(1, sizeof(*input));
	struct epoll_event event = {.events = EPOLLIN};
	int code;

	if (!input)
		return -ENOMEM;
	input->io = (struct io){.type = &input_io, .program = program, .number = number};
	input->epoll = epoll_create1(EPOLL_CLOEXEC);
	code = input->epoll < 0 ? -errno : 0;
	if (!code && epoll_ctl(input->epoll, EPOLL_CTL_ADD, STDIN_FILENO, &event)) {
		close(input->epoll);
		input->epoll = -1; /* EPERM: a file; EBADF: read() will tell */
	} else if (!code) {
		code = uv_poll_init(&program->events.loop, &input->poll, input->epoll);
		input->poll.data = input;
		if (!code)
			code = uv_poll_start(&input->poll, UV_READABLE, on_readable);
	}
	if (code && !input->poll.loop) {
		if (input->epoll >= 0)
			close(input->epoll);
		free(input);
	} else if (code) {
		end(input); /* the loop has its handle */
	}
	if (code)
		return code;
	io_hold(&input->io);
	if (input->epoll < 0)
		io_done(&input->io);
	return 0;
}
