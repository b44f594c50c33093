// SPDX-License-Identifier: MIT
/*
 * output.c - calls that write, in front of libc's: what leads outside goes into the thread's ring (output_memory.h),
 * what stays inside goes to the kernel through the gate, and the rest is the plain call, which the supervisor answers.
 *
 * Signals. A handler of the program's may run in the middle of a record, and write itself: that one is a plain call.
 * It may never return (siglongjmp): then the record was never made, and that thread's calls are all plain from then on.
 * It may fork: output_in_child().
 * A bad pointer is the kernel's to find, which a call that fails in any case is asked for, page by page. What another thread
 * unmaps after that is a fault in the program.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "process/stub/gate.h"
#include "process/stub/output.h"

__thread struct output_thread output_thread;

/* Bit n: slot n is a thread's. In the image, as who owns which is. */
static uint64_t slots_owned;
static pthread_key_t slot_key; /* gives it back when its thread ends */
static bool slot_key_made;

#define PIECES 16	 /* of one call */
#define PAGE_BYTES 4096u /* of x86-64 */
#define PROBE_BYTES 8u	 /* of a signal set, as the kernel has it */

enum way {
	WAY_PLAIN,
	WAY_DIRECT,
	WAY_HELD,
};

bool output_on(void)
{
	return stub_active() && __atomic_load_n(&CONTROL->output.token, __ATOMIC_RELAXED);
}

void output_off(void)
{
	if (stub_active())
		__atomic_store_n(&CONTROL->output.token, 0, __ATOMIC_SEQ_CST);
}

/* ---- Slots */

static void give_slot_back(void *value)
{
	output_thread.slot = 0;
	__atomic_and_fetch(&slots_owned, ~(1ull << ((uintptr_t)value - 1)), __ATOMIC_SEQ_CST);
}

void output_set_up(void)
{
	/* The first few keys of a thread need no memory from malloc(3). */
	slot_key_made = !pthread_key_create(&slot_key, give_slot_back) && slot_key < 32;
}

/* False: all are taken. */
static bool take_slot(void)
{
	uint64_t owned = __atomic_load_n(&slots_owned, __ATOMIC_SEQ_CST);
	uint32_t number;

	if (!slot_key_made)
		return false;
	do {
		if (!~owned)
			return false;
		number = (uint32_t)__builtin_ctzll(~owned);
	} while (!__atomic_compare_exchange_n(&slots_owned, &owned, owned | 1ull << number, false,
					      __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST));
	pthread_setspecific(slot_key, (void *)(uintptr_t)(number + 1));
	output_thread.slot = number + 1;
	return true;
}

/* The supervisor looks at it from now on; in each process anew. */
static void show_slot(struct output_memory *memory, uint32_t number)
{
	uint32_t used = __atomic_load_n(&memory->slots, __ATOMIC_SEQ_CST);

	while (used <= number &&
	       !__atomic_compare_exchange_n(&memory->slots, &used, number + 1, false,
					    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		;
}

/*
 * A child of a signal's handler that has interrupted one of these functions: what is left to do of that is done in memory
 * that is nobody's, and comes to a plain call.
 */
void output_in_child(void)
{
	if (output_thread.inside)
		raw_call(SYS_mmap, CONTROL_ADDRESS, sizeof(struct control), PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED, ~0ull, 0);
	slots_owned = 0;
}

/* ---- A record */

/* No signal set is looked at beyond its bytes, or changed: there is no such way to change it. */
static bool page_is_readable(uint64_t address)
{
	return raw_call(SYS_rt_sigprocmask, ~0u, address & ~(uint64_t)(PROBE_BYTES - 1), 0,
			PROBE_BYTES, 0, 0) != -EFAULT;
}

/* The stack that the caller runs on is there. */
static bool is_readable(const void *data, size_t bytes)
{
	uint64_t page = (uintptr_t)data & ~(uint64_t)(PAGE_BYTES - 1);
	uint64_t here = (uintptr_t)__builtin_frame_address(0) & ~(uint64_t)(PAGE_BYTES - 1);

	/* With no set at all there is nothing that the kernel would look at. */
	if ((uintptr_t)data + bytes < (uintptr_t)data || (bytes && page < PAGE_BYTES))
		return false;
	for (; page < (uintptr_t)data + bytes; page += PAGE_BYTES)
		if (page != here && !page_is_readable(page))
			return false;
	return true;
}

/* Behind what is published, where there is room for it; how far that goes then. 0: there is no room. */
static uint32_t write_record(uint32_t number, uint32_t tail, uint32_t outlet, uint32_t flags,
			     const struct iovec *pieces, int count, uint32_t bytes)
{
	struct output_memory *memory = &CONTROL->output;
	uint32_t read = __atomic_load_n(&memory->slot[number].read, __ATOMIC_ACQUIRE);
	uint32_t at = tail % OUTPUT_SLOT_BYTES, to_end = OUTPUT_SLOT_BYTES - at;
	uint32_t whole = output_record_room(bytes), skipped = 0;
	uint32_t used = tail - read;
	struct output_record *record = (void *)(memory->data[number] + at);
	uint8_t *to;

	if (whole > to_end)
		skipped = to_end;
	if (used > OUTPUT_SLOT_BYTES || whole + skipped > OUTPUT_SLOT_BYTES - used)
		return 0;
	if (skipped) {
		record->flags = RECORD_PADDING;
		record = (void *)memory->data[number];
	}
	record->bytes = bytes;
	record->flags = flags;
	record->outlet = outlet;
	to = (uint8_t *)(record + 1);
	for (int i = 0; i < count; i++) {
		memcpy(to, pieces[i].iov_base, pieces[i].iov_len);
		to += pieces[i].iov_len;
	}
	record->stamp = __atomic_fetch_add(&memory->stamp, 1, __ATOMIC_SEQ_CST);
	return skipped + whole;
}

static void wake_supervisor(struct output_memory *memory)
{
	if (__atomic_load_n(&memory->asleep, __ATOMIC_SEQ_CST) == 1 &&
	    __atomic_exchange_n(&memory->asleep, 0, __ATOMIC_SEQ_CST) == 1) {
		__atomic_add_fetch(&memory->wakes, 1, __ATOMIC_SEQ_CST);
		raw_futex_wake(&memory->wakes);
	}
}

/* An outlet, and the token of the process in which it has that number: looked at before the number is. */
struct where {
	uint32_t token, outlet;
};

/*
 * False: it has to be a plain call, for whatever reason. In a process that was restored since `where` was looked at, the
 * number is nobody's, or another outlet's: the token is another one there.
 */
static bool publish(const struct where *where, uint32_t flags, const struct iovec *pieces,
		    int count, uint32_t bytes)
{
	struct output_memory *memory = &CONTROL->output;
	uint64_t *published, seen;
	uint32_t length;
	bool done = false;

	if (output_thread.busy)
		return false;
	output_thread.busy = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	if (output_thread.slot || take_slot()) {
		uint32_t number = output_thread.slot - 1;

		show_slot(memory, number);
		published = &memory->slot[number].published;
		seen = __atomic_load_n(published, __ATOMIC_SEQ_CST);
		length = write_record(number, (uint32_t)seen, where->outlet, flags, pieces, count,
				      bytes);
		done = length && seen >> 32 == where->token &&
		       __atomic_compare_exchange_n(published, &seen,
						   (uint64_t)where->token << 32 |
							   (uint32_t)(seen + length),
						   false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
	}
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	output_thread.busy = 0;
	if (done)
		wake_supervisor(memory);
	return done;
}

/* ---- Which way */

static enum way way_of(int fd, bool as_socket, struct where *where)
{
	struct output_memory *memory = &CONTROL->output;
	uint64_t entry;

	if (!stub_active())
		return WAY_PLAIN;
	where->token = __atomic_load_n(&memory->token, __ATOMIC_SEQ_CST);
	if (!where->token)
		return WAY_PLAIN;
	if (output_thread.vforked)
		return WAY_DIRECT;
	if ((unsigned)fd >= OUTPUT_DESCRIPTORS)
		return WAY_PLAIN;
	entry = __atomic_load_n(&memory->entries[fd], __ATOMIC_ACQUIRE);
	if (entry & (ENTRY_ASK | ENTRY_CLOSERS))
		return WAY_PLAIN;
	if ((entry & ENTRY_KIND) == ENTRY_DIRECT)
		return WAY_DIRECT;
	where->outlet = (uint32_t)(entry >> ENTRY_OUTLET_SHIFT);
	return (entry & ENTRY_KIND) == ENTRY_HELD && (!as_socket || entry & ENTRY_SOCKET) &&
			       __atomic_load_n(&memory->outlets[OUTLET_INDEX(where->outlet)],
					       __ATOMIC_ACQUIRE) == where->outlet
		       ? WAY_HELD
		       : WAY_PLAIN;
}

/* WAY_HELD: done, and how many bytes. Else that is left to the plain call. */
static enum way hold(const struct where *where, uint32_t flags, const struct iovec *from,
		     size_t count, int64_t *taken)
{
	struct iovec pieces[PIECES];
	size_t bytes = 0;

	if (!count || count > PIECES || !is_readable(from, count * sizeof(*from)) ||
	    flags & ~(uint32_t)(MSG_NOSIGNAL | MSG_DONTWAIT))
		return WAY_PLAIN;
	for (size_t i = 0; i < count; i++) {
		pieces[i] = from[i];
		if (pieces[i].iov_len > OUTPUT_RECORD_BYTES - bytes ||
		    !is_readable(pieces[i].iov_base, pieces[i].iov_len))
			return WAY_PLAIN;
		bytes += pieces[i].iov_len;
	}
	*taken = (int64_t)bytes;
	/* Of no bytes at all: a datagram, or a question whether there is an error. */
	return bytes && publish(where, flags, pieces, (int)count, (uint32_t)bytes) ? WAY_HELD
										   : WAY_PLAIN;
}

static enum way hold_message(const struct where *where, uint32_t flags, const struct msghdr *from,
			     int64_t *taken)
{
	struct msghdr message;

	if (!is_readable(from, sizeof(*from)))
		return WAY_PLAIN;
	message = *from;
	if (message.msg_name || message.msg_controllen)
		return WAY_PLAIN;
	return hold(where, flags, message.msg_iov, message.msg_iovlen, taken);
}

/* One of these four calls, with the arguments that the kernel would get. */
static inline enum way look_and_hold(long number, const uint64_t arguments[6], bool cancels,
				     int64_t *taken)
{
	bool one = number == SYS_write || number == SYS_sendto;
	bool as_socket = number == SYS_sendto || number == SYS_sendmsg;
	struct iovec piece = {(void *)arguments[1], arguments[2]};
	struct where where;
	uint32_t flags = 0;
	enum way way = way_of((int)arguments[0], as_socket, &where);

	if (way != WAY_HELD)
		return way;
	if (cancels)
		pthread_testcancel();
	if (number == SYS_sendto)
		flags = (uint32_t)arguments[3];
	else if (number == SYS_sendmsg)
		return hold_message(&where, (uint32_t)arguments[2],
				    (const struct msghdr *)arguments[1], taken);
	if (number == SYS_sendto && arguments[4])
		return WAY_PLAIN;
	return one ? hold(&where, flags, &piece, 1, taken)
		   : hold(&where, flags, (const struct iovec *)arguments[1], arguments[2], taken);
}

static inline enum way output_call(long number, const uint64_t arguments[6], bool cancels,
				   int64_t *taken)
{
	uint32_t before = output_thread.inside;
	enum way way;

	output_thread.inside = 1;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	way = look_and_hold(number, arguments, cancels, taken);
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	output_thread.inside = before;
	return way;
}

bool output_system_call(long number, const uint64_t arguments[6], int64_t *result)
{
	enum way way;

	switch (number) {
	case SYS_write:
	case SYS_writev:
	case SYS_sendto:
	case SYS_sendmsg:
		way = output_call(number, arguments, false, result);
		break;
	default:
		return false;
	}
	if (way == WAY_DIRECT)
		*result = gate_call(number, arguments[0], arguments[1], arguments[2], arguments[3],
				    arguments[4], arguments[5]);
	return way != WAY_PLAIN;
}

/* ---- The functions */

/* A cancellation point, as libc makes one: a thread may be cancelled while it waits in the call. */
static ssize_t call_direct(long number, const uint64_t arguments[6])
{
	int64_t result;
	int type;

	if (!output_thread.vforked)
		pthread_setcanceltype(PTHREAD_CANCEL_ASYNCHRONOUS, &type);
	result = gate_call(number, arguments[0], arguments[1], arguments[2], arguments[3],
			   arguments[4], arguments[5]);
	if (!output_thread.vforked)
		pthread_setcanceltype(type, NULL);
	if (!raw_failed(result))
		return (ssize_t)result;
	errno = (int)-result;
	return -1;
}

/* `plain`: libc's call. */
#define OUTPUT_FUNCTION(number, plain, ...)                             \
	do {                                                            \
		const uint64_t arguments[6] = {__VA_ARGS__};            \
		int64_t taken;                                          \
                                                                        \
		switch (output_call(number, arguments, true, &taken)) { \
		case WAY_HELD:                                          \
			return (ssize_t)taken;                          \
		case WAY_DIRECT:                                        \
			return call_direct(number, arguments);          \
		default:                                                \
			return plain;                                   \
		}                                                       \
	} while (0)

STUB_PUBLIC ssize_t write(int fd, const void *data, size_t bytes)
{
	OUTPUT_FUNCTION(SYS_write, stub_real()->write(fd, data, bytes), (uint64_t)fd,
			(uintptr_t)data, bytes);
}

STUB_PUBLIC ssize_t writev(int fd, const struct iovec *pieces, int count)
{
	OUTPUT_FUNCTION(SYS_writev, stub_real()->writev(fd, pieces, count), (uint64_t)fd,
			(uintptr_t)pieces, (uint64_t)count);
}

STUB_PUBLIC ssize_t send(int fd, const void *data, size_t bytes, int flags)
{
	OUTPUT_FUNCTION(SYS_sendto, stub_real()->send(fd, data, bytes, flags), (uint64_t)fd,
			(uintptr_t)data, bytes, (uint64_t)flags);
}

STUB_PUBLIC ssize_t sendto(int fd, const void *data, size_t bytes, int flags,
			   __CONST_SOCKADDR_ARG address, socklen_t length)
{
	OUTPUT_FUNCTION(SYS_sendto,
			stub_real()->sendto(fd, data, bytes, flags, address.__sockaddr__, length),
			(uint64_t)fd, (uintptr_t)data, bytes, (uint64_t)flags,
			(uintptr_t)address.__sockaddr__, length);
}

STUB_PUBLIC ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	OUTPUT_FUNCTION(SYS_sendmsg, stub_real()->sendmsg(fd, message, flags), (uint64_t)fd,
			(uintptr_t)message, (uint64_t)flags);
}

/* libc has these names, too. */
STUB_PUBLIC ssize_t __write(int fd, const void *data, size_t bytes) __attribute__((alias("write")));
STUB_PUBLIC ssize_t __send(int fd, const void *data, size_t bytes, int flags)
	__attribute__((alias("send")));
