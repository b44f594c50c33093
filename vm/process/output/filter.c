// SPDX-License-Identifier: MIT
/*
 * filter.c - the seccomp filter of a guest with output commit: which calls its supervisor is asked about.
 *
 * Calls that can send something, that close or replace a descriptor (or the program), and those by which a hole begins.
 * What comes from the gate passes: the supervisor has looked at it before. Which calls it is not about is decided by their
 * number alone, so that the kernel need not run the filter for them. It is inherited by all that the guest starts, and
 * nothing takes it away; where nobody listens any more, such calls fail with ENOSYS.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/failure.h"
#include "process/output/internal.h"

#ifdef __x86_64__

#ifndef SECCOMP_FILTER_FLAG_TSYNC_ESRCH
#define SECCOMP_FILTER_FLAG_TSYNC_ESRCH (1UL << 4)
#endif
#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define FILTER_MOST 256u
#define LABELS_MOST 16u

enum label {
	TO_ASK,
	TO_NOTIFY,
	TO_ALLOW,
	TO_ENOSYS,
	TO_ULP,
	TO_ZEROCOPY,
	TO_OPTION,
	TO_MMAP,
	TO_PWRITEV,
	TO_UNSHARE
};

/* A program whose jumps go to labels. */
struct assembler {
	struct sock_filter code[FILTER_MOST];
	struct {
		unsigned at;
		bool yes;
		enum label label;
	} jumps[FILTER_MOST];
	unsigned count, jump_count, labels[LABELS_MOST];
};

static void emit(struct assembler *to, uint16_t code, uint32_t k)
{
	to->code[to->count++] = (struct sock_filter)BPF_STMT(code, k);
}

static void load(struct assembler *to, size_t offset)
{
	emit(to, BPF_LD | BPF_W | BPF_ABS, (uint32_t)offset);
}

/* Go there if the comparison says `yes`; else on. */
static void jump(struct assembler *to, uint16_t how, uint32_t k, bool yes, enum label label)
{
	to->jumps[to->jump_count].at = to->count;
	to->jumps[to->jump_count].yes = yes;
	to->jumps[to->jump_count++].label = label;
	emit(to, (uint16_t)(BPF_JMP | how | BPF_K), k);
}

static void here(struct assembler *to, enum label label)
{
	to->labels[label] = to->count;
}

static void finish(struct assembler *to)
{
	for (unsigned i = 0; i < to->jump_count; i++) {
		struct sock_filter *code = &to->code[to->jumps[i].at];
		unsigned distance = to->labels[to->jumps[i].label] - to->jumps[i].at - 1;

		*(to->jumps[i].yes ? &code->jt : &code->jf) = (uint8_t)distance;
	}
}

#define ARGUMENT(i) (offsetof(struct seccomp_data, args) + 8 * (i))
#define HIGH 4

static const uint16_t asked[] = {
	SYS_write,     SYS_writev,	 SYS_sendto,	    SYS_sendmsg,  SYS_sendmmsg,
	SYS_sendfile,  SYS_splice,	 SYS_tee,	    SYS_vmsplice, SYS_shutdown,
	SYS_close,     SYS_close_range,	 SYS_dup2,	    SYS_dup3,	  SYS_execve,
	SYS_execveat,  SYS_epoll_create, SYS_epoll_create1, SYS_msgsnd,	  SYS_mq_timedsend,
	SYS_io_submit,
};
static const uint16_t absent[] = {425 /* io_uring_setup */, 426, 427};

/* `socket options` that would make our duplicate and the guest's descriptor differ in what bytes mean. */
static void assemble_options(struct assembler *to)
{
	here(to, TO_OPTION);
	load(to, ARGUMENT(1));
	jump(to, BPF_JEQ, SOL_SOCKET, true, TO_ZEROCOPY);
	jump(to, BPF_JEQ, IPPROTO_TCP, false, TO_ALLOW);
	load(to, ARGUMENT(2));
	jump(to, BPF_JEQ, 31 /* TCP_ULP */, true, TO_ULP);
	jump(to, BPF_JEQ, 30 /* TCP_FASTOPEN_CONNECT */, true, TO_ULP);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	here(to, TO_ULP);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOENT);
	here(to, TO_ZEROCOPY);
	load(to, ARGUMENT(2));
	jump(to, BPF_JEQ, 60 /* SO_ZEROCOPY */, false, TO_ALLOW);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EOPNOTSUPP);
}

static void assemble(struct assembler *to)
{
	load(to, offsetof(struct seccomp_data, arch));
	jump(to, BPF_JEQ, AUDIT_ARCH_X86_64, false, TO_ASK);
	load(to, offsetof(struct seccomp_data, nr));
	jump(to, BPF_JGE, 0x40000000, true, TO_ENOSYS);
	for (size_t i = 0; i < sizeof(asked) / sizeof(*asked); i++)
		jump(to, BPF_JEQ, asked[i], true, TO_ASK);
	for (size_t i = 0; i < sizeof(absent) / sizeof(*absent); i++)
		jump(to, BPF_JEQ, absent[i], true, TO_ENOSYS);
	jump(to, BPF_JEQ, SYS_setsockopt, true, TO_OPTION);
	jump(to, BPF_JEQ, SYS_mmap, true, TO_MMAP);
	jump(to, BPF_JEQ, SYS_pwritev2, true, TO_PWRITEV);
	jump(to, BPF_JEQ, SYS_unshare, true, TO_UNSHARE);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	here(to, TO_ENOSYS);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOSYS);
	assemble_options(to);
	here(to, TO_MMAP); /* shared, of a file, to be written */
	load(to, ARGUMENT(3));
	jump(to, BPF_JSET, MAP_ANONYMOUS, true, TO_ALLOW);
	jump(to, BPF_JSET, MAP_SHARED, false, TO_ALLOW);
	load(to, ARGUMENT(2));
	jump(to, BPF_JSET, PROT_WRITE, false, TO_ALLOW);
	jump(to, BPF_JSET, PROT_WRITE, true, TO_ASK);
	here(to, TO_PWRITEV); /* at offset -1 it is writev(2) */
	load(to, ARGUMENT(3));
	jump(to, BPF_JEQ, UINT32_MAX, false, TO_ALLOW);
	jump(to, BPF_JEQ, UINT32_MAX, true, TO_ASK);
	here(to, TO_UNSHARE);
	load(to, ARGUMENT(0));
	jump(to, BPF_JSET, CLONE_FILES, false, TO_ALLOW);
	here(to, TO_ASK);
	load(to, offsetof(struct seccomp_data, instruction_pointer));
	jump(to, BPF_JEQ, (uint32_t)GATE_RETURN, false, TO_NOTIFY);
	load(to, offsetof(struct seccomp_data, instruction_pointer) + HIGH);
	jump(to, BPF_JEQ, (uint32_t)((uint64_t)GATE_RETURN >> 32), false, TO_NOTIFY);
	here(to, TO_ALLOW);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	here(to, TO_NOTIFY);
	emit(to, BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
}

static int refuse(int64_t code, struct thaw_error *error)
{
	const char *why = code == -EINVAL  ? "the kernel cannot (Linux 5.19 can)"
			  : code == -EBUSY ? "somebody answers its system calls already"
					   : thaw_strerror((int)code);

	return failure(error, THAW_EKERNEL,
		       "output cannot be held (--commit output): seccomp(2) of the program: %s",
		       why);
}

static int64_t install(struct remote *remote, const struct assembler *code)
{
	struct sock_fprog program = {.len = (unsigned short)code->count};
	uint64_t filter = remote_copy(remote, code->code, code->count * sizeof(*code->code)), there;
	int64_t result;

	program.filter = (struct sock_filter *)filter;
	there = remote_copy(remote, &program, sizeof(program));
	if (!filter || !there)
		return -ENOBUFS;
	for (int again = 0;; again++) {
		result = remote_call(remote, 0, SYS_seccomp, SECCOMP_SET_MODE_FILTER,
				     SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_TSYNC |
					     SECCOMP_FILTER_FLAG_TSYNC_ESRCH |
					     SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
				     there, 0, 0, 0);
		/* Without CAP_SYS_ADMIN only who gets no more rights by executing a program may. */
		if (result != -EACCES || again ||
		    remote_call(remote, 0, SYS_prctl, PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0))
			return result;
	}
}

int filter_install(struct process *process, int *listener, struct thaw_error *error)
{
	struct assembler code = {0};
	int64_t result;

	assemble(&code);
	finish(&code);
	result = install(&process->remote, &code);
	remote_forget(&process->remote);
	if (result < 0)
		return result == -ESRCH ? failure(error, -ESRCH, "the program has ended")
					: refuse(result, error);
	/* Not by a call of the guest's: nobody would answer it yet. */
	*listener = (int)syscall(SYS_pidfd_getfd, process->remote.pidfd, (int)result, 0);
	if (*listener < 0)
		return failure(error, THAW_EKERNEL,
			       "output cannot be held (--commit output): pidfd_getfd(2) of the "
			       "program: %s",
			       strerror(errno));
	process->filters = 1;
	return (int)result;
}

#else

int filter_install(struct process *process, int *listener, struct thaw_error *error)
{
	(void)process, (void)listener;
	return failure(error, THAW_EKERNEL, "output can be held on x86-64 only");
}

#endif
