// SPDX-License-Identifier: MIT
/*
 * calls.c - what a call of the guest's comes to: the kernel makes it, or its bytes are kept and 'success' is the answer.
 *
 * The notifier's thread, with the output's lock. The guest's thread waits meanwhile, and no signal reaches it: nothing here
 * waits for anything but memory of the guest's, which the fault service brings. What has no room is asked again.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <linux/aio_abi.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "process/output/internal.h"

#define IOV_MOST 1024u
#define FILE_PIECE (256u << 10) /* of sendfile(2), splice(2): the caller goes on by itself */

static const struct ruling go_on = {.verdict = VERDICT_GO_ON};
static const struct ruling wait_for_room = {.verdict = VERDICT_WAIT};

/* ---- Memory of the guest */

ssize_t guest_read(pid_t tid, uint64_t address, void *to, size_t bytes)
{
	struct iovec here = {to, bytes}, there = {(void *)address, bytes};
	ssize_t done = process_vm_readv(tid, &here, 1, &there, 1, 0);

	return done < 0 ? -errno : done;
}

bool guest_write(pid_t tid, uint64_t address, const void *from, size_t bytes)
{
	struct iovec here = {(void *)from, bytes}, there = {(void *)address, bytes};

	return process_vm_writev(tid, &here, 1, &there, 1, 0) == (ssize_t)bytes;
}

int guest_iov(pid_t tid, uint64_t address, uint64_t count, struct iovec **iov, size_t *total)
{
	*total = 0;
	*iov = NULL;
	if (count > IOV_MOST)
		return -EINVAL;
	*iov = calloc(count + 1, sizeof(**iov));
	if (!*iov)
		return -ENOMEM;
	if (count && guest_read(tid, address, *iov, count * sizeof(**iov)) !=
			     (ssize_t)(count * sizeof(**iov)))
		return -EFAULT;
	for (uint64_t i = 0; i < count; i++) {
		if ((*iov)[i].iov_len > INT32_MAX - *total) /* the kernel shortens it, too */
			(*iov)[i].iov_len = INT32_MAX - *total;
		*total += (*iov)[i].iov_len;
	}
	return 0;
}

/* ---- Outlets */

struct ruling outlet_fails(struct outlet *outlet, int flags)
{
	int error = outlet->error;

	outlet->error = 0;
	if (!error && (outlet->broken || outlet->shut) && outlet->kind != OUTLET_MESSAGES)
		error = outlet->kind == OUTLET_FILE || outlet->kind == OUTLET_TERMINAL ? EIO
										       : EPIPE;
	if (!error)
		return go_on;
	return (struct ruling){VERDICT_ANSWER, -error, error == EPIPE && !(flags & MSG_NOSIGNAL)};
}

static bool waits_not(const struct outlet *outlet, int flags)
{
	return flags & MSG_DONTWAIT || fcntl(outlet->fd, F_GETFL) & O_NONBLOCK;
}

size_t outlet_room(const struct output *output, const struct outlet *outlet)
{
	size_t room = outlet->bytes < OUTLET_MOST ? OUTLET_MOST - outlet->bytes : 0;
	size_t all = output->bytes < OUTPUT_MOST ? OUTPUT_MOST - output->bytes : 0;

	return room < all ? room : all;
}

/*
 * EAGAIN only where the kernel has no room now: then it will also tell the guest's epoll when that changes. Where it has
 * room again, it has told so already, and release.c is about to send: that is waited for. While what is held is not
 * durable, the disk is what is waited for, in any case.
 */
struct ruling outlet_full(const struct outlet *outlet, int flags)
{
	struct pollfd room = {.fd = outlet->fd, .events = POLLOUT};
	bool is_told = outlet->stuck && waits_not(outlet, flags) && poll(&room, 1, 0) == 0;

	return is_told ? answer(-EAGAIN) : wait_for_room;
}

/* From the guest's `iov`, behind the first `skip` bytes, as much as fits in the room. */
static ssize_t read_pieces(pid_t tid, const struct iovec *iov, unsigned count, size_t skip,
			   void *to, size_t room)
{
	struct iovec here = {to, room}, there[64];
	ssize_t done = 0, got;
	unsigned used;
	size_t wanted;

	while (count && room) {
		for (used = 0, wanted = 0; used < 64 && count && wanted < room; iov++, count--) {
			size_t bytes;

			if (skip >= iov->iov_len) {
				skip -= iov->iov_len;
				continue;
			}
			bytes = iov->iov_len - skip;
			bytes = bytes < room - wanted ? bytes : room - wanted;
			there[used++] = (struct iovec){(char *)iov->iov_base + skip, bytes};
			wanted += bytes;
			skip = 0;
		}
		if (!wanted)
			break;
		here = (struct iovec){(char *)to + done, wanted};
		got = process_vm_readv(tid, &here, 1, there, used, 0);
		if (got <= 0)
			return done ? done : got < 0 ? -errno : -EFAULT;
		done += got;
		room -= (size_t)got;
		if ((size_t)got < wanted)
			break;
	}
	return done;
}

struct ruling call_bytes(struct output *output, struct call_notice *call, struct outlet *outlet,
			 const struct iovec *iov, unsigned count, size_t total, int flags)
{
	int kept = flags & MSG_OOB;

	while (call->taken < total) {
		size_t room = outlet_room(output, outlet), wanted = total - call->taken;
		struct ruling ruling = outlet_fails(outlet, flags);
		struct piece *piece;
		ssize_t got;

		if (ruling.verdict != VERDICT_GO_ON)
			return call->taken ? answer((int64_t)call->taken) : ruling;
		if (!room) {
			ruling = outlet_full(outlet, flags);
			return ruling.verdict == VERDICT_ANSWER && call->taken
				       ? answer((int64_t)call->taken)
				       : ruling;
		}
		wanted = wanted < room ? wanted : room;
		piece = queue_room(output, outlet, wanted, kept);
		if (!piece)
			return call->taken ? answer((int64_t)call->taken) : answer(-ENOBUFS);
		got = read_pieces(call->tid, iov, count, call->taken, piece->data + piece->bytes,
				  wanted);
		if (got <= 0) {
			if (piece != outlet->last)
				piece_free(piece);
			return answer(call->taken ? (int64_t)call->taken : got);
		}
		queue_added(output, outlet, piece, (size_t)got);
		call->taken += (uint64_t)got;
		if ((size_t)got < wanted)
			break;
	}
	return answer((int64_t)call->taken);
}

/* ---- write(2) and its kind */

static struct ruling rule_write(struct output *output, struct call_notice *call)
{
	struct iovec iov = {(void *)call->arguments[1], call->arguments[2]};
	struct ruling ruling;
	struct outlet *outlet = outlet_of(output, (int)call->arguments[0], &ruling);

	if (!outlet)
		return ruling;
	if (outlet->kind == OUTLET_MESSAGES)
		return call_message(output, call);
	if (iov.iov_len > INT32_MAX)
		iov.iov_len = INT32_MAX;
	return call_bytes(output, call, outlet, &iov, 1, iov.iov_len, 0);
}

static struct ruling rule_writev(struct output *output, struct call_notice *call)
{
	struct ruling ruling;
	struct outlet *outlet = outlet_of(output, (int)call->arguments[0], &ruling);
	struct iovec *iov;
	size_t total;
	int code;

	if (!outlet)
		return ruling;
	if (outlet->kind == OUTLET_MESSAGES)
		return call_message(output, call);
	code = guest_iov(call->tid, call->arguments[1], call->arguments[2], &iov, &total);
	ruling = code ? answer(code)
		      : call_bytes(output, call, outlet, iov, (unsigned)call->arguments[2], total,
				   0);
	free(iov);
	return ruling;
}

/* ---- From descriptor to descriptor */

/* Where a file is read from: at the caller's offset, or where it stands. */
static ssize_t read_file(int fd, bool at, int64_t offset, void *to, size_t bytes)
{
	return at ? pread(fd, to, bytes, offset) : read(fd, to, bytes);
}

/* sendfile(out, in, offset *, count): what is read is read now; the file may change until the bytes leave. */
static struct ruling rule_sendfile(struct output *output, struct call_notice *call)
{
	struct ruling ruling;
	struct outlet *outlet = outlet_of(output, (int)call->arguments[0], &ruling);
	uint64_t there = call->arguments[2];
	size_t room, wanted = call->arguments[3];
	struct piece *piece;
	int64_t offset = 0;
	struct stat stat;
	ssize_t got;
	int in;

	if (!outlet)
		return ruling;
	if (outlet->kind == OUTLET_MESSAGES)
		return answer(-EINVAL);
	ruling = outlet_fails(outlet, 0);
	if (ruling.verdict != VERDICT_GO_ON || !wanted)
		return wanted ? ruling : answer(0);
	room = outlet_room(output, outlet);
	if (!room)
		return outlet_full(outlet, 0);
	wanted = wanted < room ? wanted : room;
	wanted = wanted < FILE_PIECE ? wanted : FILE_PIECE;
	if (there && guest_read(call->tid, there, &offset, sizeof(offset)) != sizeof(offset))
		return answer(-EFAULT);
	in = (int)syscall(SYS_pidfd_getfd, output->pidfd, (int)call->arguments[1], 0);
	if (in < 0)
		return answer(-errno);
	piece = fstat(in, &stat) || !S_ISREG(stat.st_mode) ? NULL
							   : queue_room(output, outlet, wanted, 0);
	if (!piece) { /* no file: who asked copies it himself */
		close(in);
		return answer(-EINVAL);
	}
	got = read_file(in, there != 0, offset, piece->data + piece->bytes, wanted);
	if (got < 0)
		got = -errno;
	close(in);
	if (got > 0)
		queue_added(output, outlet, piece, (size_t)got);
	else if (piece != outlet->last)
		piece_free(piece);
	offset += got > 0 ? got : 0;
	if (there && got > 0)
		guest_write(call->tid, there, &offset, sizeof(offset));
	return answer(got);
}

/* splice(in, offset, out, offset, count, flags), and tee: programs that get EINVAL copy by read(2) and write(2). */
static struct ruling rule_splice(struct output *output, struct call_notice *call)
{
	bool tee = call->number == SYS_tee;
	int out = (int)call->arguments[call->number == SYS_vmsplice ? 0 : tee ? 1 : 2];
	struct ruling ruling;
	int flags;

	if (call->number == SYS_vmsplice) { /* at the reading end it is no output */
		int fd = (int)syscall(SYS_pidfd_getfd, output->pidfd, out, 0);

		flags = fd < 0 ? -1 : fcntl(fd, F_GETFL);
		if (fd >= 0)
			close(fd);
		if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
			return go_on;
	}
	return outlet_of(output, out, &ruling) ? answer(-EINVAL) : ruling;
}

/* io_submit(context, count, struct iocb **): on files alone. */
static struct ruling rule_submit(struct output *output, struct call_notice *call)
{
	uint64_t count = call->arguments[1], list[64];
	struct ruling ruling;
	struct iocb block;

	if (count > 64)
		return answer(-EINVAL);
	if (guest_read(call->tid, call->arguments[2], list, count * 8) != (ssize_t)(count * 8))
		return go_on; /* the kernel says so */
	for (uint64_t i = 0; i < count; i++) {
		if (guest_read(call->tid, list[i], &block, sizeof(block)) != sizeof(block))
			return go_on;
		if ((block.aio_lio_opcode == IOCB_CMD_PWRITE ||
		     block.aio_lio_opcode == IOCB_CMD_PWRITEV) &&
		    outlet_of(output, (int)block.aio_fildes, &ruling))
			return answer(-EINVAL);
	}
	return go_on;
}

/* ---- What ends */

static struct ruling rule_shutdown(struct output *output, struct call_notice *call)
{
	int how = (int)call->arguments[1];
	struct ruling ruling;
	struct outlet *outlet;
	struct piece *piece;

	if (how != SHUT_WR && how != SHUT_RDWR)
		return go_on;
	outlet = outlet_of(output, (int)call->arguments[0], &ruling);
	if (!outlet || (outlet->kind != OUTLET_STREAM && outlet->kind != OUTLET_MESSAGES))
		return go_on;		       /* not connected: nothing that anybody sees */
	if (!outlet->first && !outlet->busy) { /* the kernel does it now: it is connected */
		outlet->shut = true;
		outlet_refresh(output, outlet);
		return go_on;
	}
	piece = outlet->shut ? NULL : piece_make(PIECE_SHUTDOWN, 0);
	if (piece) {
		queue_append(output, outlet, piece);
		outlet->shut = true;
		outlet_refresh(output, outlet);
	} else if (!outlet->shut) {
		return answer(-ENOBUFS);
	}
	if (how == SHUT_RDWR)
		shutdown(outlet->fd, SHUT_RD);
	return answer(0);
}

static bool is_open(const struct output *output, int number)
{
	int fd = (int)syscall(SYS_pidfd_getfd, output->pidfd, number, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 || errno != EBADF;
}

/*
 * Also where nothing comes to an end: the stub forgets what it knows of a number before it makes the call. What it does not
 * know, nobody would be asked about when it is closed: it is looked up again at its next use.
 */
static struct ruling rule_close(struct output *output, struct call_notice *call)
{
	uint32_t from = (uint32_t)call->arguments[0], to = from;
	bool closes = true;

	if (call->number == SYS_dup2 || call->number == SYS_dup3) {
		from = to = (uint32_t)call->arguments[1];
		closes = call->arguments[0] != call->arguments[1] &&
			 is_open(output, (int)call->arguments[0]);
	} else if (call->number == SYS_close_range) {
		to = (uint32_t)call->arguments[1];
		closes = !(call->arguments[2] & (CLOSE_RANGE_CLOEXEC | CLOSE_RANGE_UNSHARE));
	}
	outlets_close(output, call, from, to, closes);
	if (call->number != SYS_close_range || !(call->arguments[2] & CLOSE_RANGE_UNSHARE))
		return go_on;
	output_tell(output, HOLE_TABLES);
	return answer(-EINVAL);
}

/* The program is about to become another one: of its numbers those stay that are not close-on-exec. */
static struct ruling rule_execute(struct output *output, struct call_notice *call)
{
	outlets_close(output, call, 0, UINT32_MAX, false);
	return go_on;
}

static struct ruling rule_hole(struct output *output, enum hole hole)
{
	output_tell(output, hole);
	return go_on;
}

static struct ruling rule_unshare(struct output *output)
{
	output_tell(output, HOLE_TABLES);
	return answer(-EPERM);
}

struct ruling call_rule(struct output *output, struct call_notice *call)
{
	switch (call->number) {
	case SYS_write:
		return rule_write(output, call);
	case SYS_writev:
	case SYS_pwritev2:
		return rule_writev(output, call);
	case SYS_sendto:
	case SYS_sendmsg:
		return call_message(output, call);
	case SYS_sendmmsg:
		return call_messages(output, call);
	case SYS_sendfile:
		return rule_sendfile(output, call);
	case SYS_splice:
	case SYS_tee:
	case SYS_vmsplice:
		return rule_splice(output, call);
	case SYS_io_submit:
		return rule_submit(output, call);
	case SYS_shutdown:
		return rule_shutdown(output, call);
	case SYS_close:
	case SYS_close_range:
	case SYS_dup2:
	case SYS_dup3:
		return rule_close(output, call);
	case SYS_execve:
	case SYS_execveat:
		return rule_execute(output, call);
	case SYS_epoll_create:
	case SYS_epoll_create1:
		changes_add(output, &(struct changing){.tid = call->tid,
						       .from = UINT32_MAX,
						       .makes_epoll = true});
		output->epolls_stale = true;
		return go_on;
	case SYS_unshare:
		return rule_unshare(output);
	case SYS_mmap:
		if (call->arguments[0] >= LOCAL_START && call->arguments[0] < LOCAL_END)
			return go_on; /* the stub's */
		return rule_hole(output, HOLE_SHARED_MEMORY);
	case SYS_msgsnd:
	case SYS_mq_timedsend:
		return rule_hole(output, HOLE_QUEUES);
	default:
		return go_on;
	}
}
