/* SPDX-License-Identifier: MIT */
/*
 * probe.h - what this kernel and these privileges allow, and which backend of each kind a heap uses
 * because of it. Best backend first, the others are its fallbacks:
 *
 *	delivery   kmod, userfaultfd, user-mode, sigsegv, eager   how a page that is missing is asked for
 *	tracker    kmod, wp-async, wp-sync, mprotect; hashed      how writes are noticed
 *	backing    kmod, anonymous, memfd (with sigsegv)          what memory the heap consists of
 *	reader     io_uring, threads                              how the image is read
 *	poison     poison, PROT_NONE                              how a page that cannot be read stops its reader
 *
 * `kmod` is the module of kmod-optional/ (kmod.h), where it is loaded and open to this user: all
 * three, or none.
 * Each backend can be forced from the environment: THAW_DELIVERY, THAW_TRACKER, THAW_BACKING,
 * THAW_READER; and each capability denied, so that every choice is tested on every kernel:
 *	THAW_WITHOUT=userfaultfd,privileged-userfaultfd,dev-userfaultfd,user-mode,wp,wp-async,
 *		pagemap-scan,pagemap,poison,memfd,io_uring,multishot,kmod
 * of which `userfaultfd` denies all three ways to get one.
 */
#ifndef UFFD_PROBE_H
#define UFFD_PROBE_H

#include "compat.h"
#include "error.h"

/* In this order, best first. */
enum delivery {
	DELIVERY_KMOD,	    /* the module: where the fault happens, by everyone */
	DELIVERY_UFFD,	    /* userfaultfd: by everyone, the kernel included */
	DELIVERY_UFFD_USER, /* userfaultfd without privileges: not by the kernel */
	DELIVERY_SIGNAL,    /* SIGSEGV and a handler: not by the kernel */
	DELIVERY_EAGER,	    /* not at all: every page is loaded before the heap is open */
};
enum tracker_kind {
	TRACKER_KMOD,
	TRACKER_WP_ASYNC,
	TRACKER_WP_SYNC,
	TRACKER_MPROTECT,
	TRACKER_HASHED, /* of another process only: all that is there is compared */
};
enum backing { BACKING_KMOD, BACKING_ANONYMOUS, BACKING_MEMFD };
enum reader_kind { READER_URING, READER_THREADS };

/* Which backend of each kind a heap uses. */
struct backends {
	enum delivery delivery;
	enum backing backing;
	enum tracker_kind tracker;
	enum reader_kind reader;
	bool reader_forced; /* from the environment: there is no fallback */
	bool poison;	    /* UFFDIO_POISON, or the module's; else PROT_NONE */
	bool forks_untold;  /* of processes: a forked child's missing pages would be zero */
	/* Why no better delivery is used; empty: none is better but the module's, or it is the best. */
	char why[320];
};

/* Is that one of the fallbacks that need no userfaultfd? An int, since -1 is none of them. */
static inline bool delivery_without_uffd(int delivery)
{
	return delivery == DELIVERY_SIGNAL || delivery == DELIVERY_EAGER;
}

/* As thaw_status and the environment name them. Static storage. */
const char *delivery_name(enum delivery delivery);
const char *tracker_name(enum tracker_kind tracker);
const char *backing_name(enum backing backing);
const char *reader_name(enum reader_kind reader);
const char *poison_name(bool poison);

/* What the kernel is asked. */
enum question {
	ASK_PRIVILEGED, /* the three ways to get a userfaultfd, best first */
	ASK_DEVICE,
	ASK_USER_MODE,
	ASK_PAGEMAP_SCAN,
	ASK_IO_URING,
	ASK_MEMFD,
	ASK_KMOD,
	ASK_COUNT,
};

/*
 * 0: it is available; or -errno. Asked once, and the answer is kept, unless it is transient.
 */
int probe_ask(enum question question);
/* Did the process run out of descriptors or memory? That says nothing about the kernel, and may pass. */
bool errno_is_transient(int answer);
/* Does THAW_WITHOUT name it? */
bool probe_denies(const char *name);
/* 0, or -EINVAL: there is an unknown word in THAW_WITHOUT. */
int probe_check_denials(struct thaw_error *error);
/* "a, b, c" */
void probe_list_words(char *list, size_t bytes, const char *const *words, size_t count);
/* Why the answer was no, with the name of the errno and what the user can do. */
void probe_explain(enum question question, int answer, char *text, size_t bytes);
/*
 * Are all these features of UFFDIO_API available, and none denied by THAW_WITHOUT? False if no way
 * to get a userfaultfd is known.
 */
bool probe_has_features(uint64_t wanted);
/* 0, or the -errno of a userfaultfd with these features, opened the first way (no answer is kept). */
int probe_try_features(uint64_t features);
/* 0, or the -errno of what tracking by wp-async lacks: a feature, or PAGEMAP_SCAN. */
int probe_wp_async_lacks(void);

/* The first kernels with these features, which depend on the architecture. */
#ifdef __aarch64__
#define WP_SINCE "6.10"
#define WP_ASYNC_SINCE "6.10"
#else
#define WP_SINCE "5.7"
#define WP_ASYNC_SINCE "6.7"
#endif

/*
 * Opens a userfaultfd with exactly these features, by the best way that this delivery has. Returns the
 * descriptor or -errno.
 */
int probe_open_uffd(enum delivery delivery, uint64_t features);

/*
 * Opens /dev/thaw with a region of so many bytes, a multiple of 64 KiB. The descriptor, which does
 * not wait, or -errno.
 */
int probe_open_kmod(uint64_t max_bytes);

/*
 * Which backends to use: the best available ones, or those that the environment forces.
 * THAW_EKERNEL: a forced one is not available; -EINVAL: there is no such backend, or two contradict
 * each other; -EMFILE, -ENFILE, -ENOMEM: the kernel could not be asked. The error is one line.
 * `filled`: for an image of which parts are missing (thaw_fill.h): without the module, which reads the file by itself.
 */
int probe_choose(struct backends *backends, bool filled, struct thaw_error *error);
/*
 * The same for the memory of another process (thaw_process.h), which has two deliveries and two trackers:
 *	userfaultfd, wp-async	privileged, with fork events (CAP_SYS_PTRACE)
 *	eager, wp-async		any userfaultfd; it tracks, and tells what is given up
 *	eager, hashed		none
 */
int probe_choose_process(struct backends *backends, struct thaw_error *error);
/* The userfaultfd that goes with it: flags of userfaultfd(2), and features. False: none is needed. */
bool probe_process_uffd(const struct backends *backends, int *flags, uint64_t *features);

#endif
