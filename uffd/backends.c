/* SPDX-License-Identifier: MIT */
/*
 * backends.c - which backend of each kind a heap uses: the best that the kernel has (probe.c), or
 * the one that the environment forces. Some only go together: the module's memory, delivery and
 * tracker are one thing, and so are SIGSEGV and a memfd.
 *
 * On the way to a restored program's first instruction: a fallback is asked for only where what is
 * better is lacking. Any thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compat.h"
#include "probe.h"

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const char *const delivery_names[] = {"kmod", "userfaultfd", "user-mode", "sigsegv",
					     "eager"};
static const char *const tracker_names[] = {"kmod", "wp-async", "wp-sync", "mprotect", "hashed"};
static const char *const backing_names[] = {"kmod", "anonymous", "memfd"};
static const char *const reader_names[] = {"io_uring", "threads"};

const char *delivery_name(enum delivery delivery)
{
	return delivery_names[delivery];
}

const char *tracker_name(enum tracker_kind tracker)
{
	return tracker_names[tracker];
}

const char *backing_name(enum backing backing)
{
	return backing_names[backing];
}

const char *reader_name(enum reader_kind reader)
{
	return reader_names[reader];
}

const char *poison_name(bool poison)
{
	return poison ? "poison" : "PROT_NONE";
}

#define ANY (-1)

/* What the environment forces: one backend of each kind, or ANY. */
struct wishes {
	int delivery, tracker, backing, reader;
	bool no_module; /* it could not bring all of this image */
};

static int read_wish(int *wish, const char *variable, const char *const *names, size_t count,
		     struct thaw_error *error)
{
	const char *word = secure_getenv(variable);
	char list[80];

	*wish = ANY;
	if (!word || !*word)
		return 0;
	for (size_t i = 0; i < count; i++)
		if (!strcmp(word, names[i]))
			*wish = (int)i;
	if (*wish != ANY)
		return 0;
	probe_list_words(list, sizeof(list), names, count);
	return error_set(error, -EINVAL, "%s=%s is not one of %s", variable, word, list);
}

/*
 * The module is delivery, tracker and backing, or none of them: is one asked for that is something
 * else?
 */
static bool beside_kmod(const struct wishes *wishes, const char **variable, const char **name)
{
	if (wishes->delivery != ANY && wishes->delivery != DELIVERY_KMOD) {
		*variable = "THAW_DELIVERY";
		*name = delivery_names[wishes->delivery];
	} else if (wishes->tracker != ANY && wishes->tracker != TRACKER_KMOD) {
		*variable = "THAW_TRACKER";
		*name = tracker_names[wishes->tracker];
	} else if (wishes->backing != ANY && wishes->backing != BACKING_KMOD) {
		*variable = "THAW_BACKING";
		*name = backing_names[wishes->backing];
	} else {
		return false;
	}
	return true;
}

static bool wants_kmod(const struct wishes *wishes)
{
	return wishes->delivery == DELIVERY_KMOD || wishes->tracker == TRACKER_KMOD ||
	       wishes->backing == BACKING_KMOD;
}

/* The variable that asks for the module; wants_kmod(). */
static const char *kmod_variable(const struct wishes *wishes)
{
	return wishes->delivery == DELIVERY_KMOD ? "THAW_DELIVERY"
	       : wishes->tracker == TRACKER_KMOD ? "THAW_TRACKER"
						 : "THAW_BACKING";
}

static int wishes_agree(const struct wishes *wishes, struct thaw_error *error)
{
	const char *variable, *name;

	if (wants_kmod(wishes) && beside_kmod(wishes, &variable, &name))
		return error_set(
			error, -EINVAL,
			"%s=kmod contradicts %s=%s: the module is delivery, tracker and backing in one",
			kmod_variable(wishes), variable, name);
	if (delivery_without_uffd(wishes->delivery) && wishes->tracker != ANY &&
	    wishes->tracker != TRACKER_MPROTECT)
		return error_set(
			error, -EINVAL,
			"THAW_DELIVERY=%s contradicts THAW_TRACKER=%s, which needs a userfaultfd",
			delivery_names[wishes->delivery], tracker_names[wishes->tracker]);
	if (wishes->backing == BACKING_MEMFD && wishes->tracker != ANY &&
	    wishes->tracker != TRACKER_MPROTECT)
		return error_set(
			error, -EINVAL,
			"THAW_BACKING=memfd contradicts THAW_TRACKER=%s, which needs a userfaultfd",
			tracker_names[wishes->tracker]);
	if (!wants_kmod(wishes) && wishes->delivery != ANY && wishes->backing != ANY &&
	    (wishes->delivery == DELIVERY_SIGNAL) != (wishes->backing == BACKING_MEMFD))
		return error_set(error, -EINVAL,
				 "THAW_DELIVERY=%s contradicts THAW_BACKING=%s: its memory is %s",
				 delivery_names[wishes->delivery], backing_names[wishes->backing],
				 wishes->backing == BACKING_MEMFD ? "anonymous" : "memfd");
	return 0;
}

static int read_wishes(struct wishes *wishes, struct thaw_error *error)
{
	int code = probe_check_denials(error);

	if (!code)
		code = read_wish(&wishes->delivery, "THAW_DELIVERY", delivery_names,
				 COUNT(delivery_names), error);
	if (!code)
		code = read_wish(&wishes->tracker, "THAW_TRACKER", tracker_names, TRACKER_HASHED,
				 error);
	if (!code)
		code = read_wish(&wishes->backing, "THAW_BACKING", backing_names,
				 COUNT(backing_names), error);
	if (!code)
		code = read_wish(&wishes->reader, "THAW_READER", reader_names, COUNT(reader_names),
				 error);
	return code ? code : wishes_agree(wishes, error);
}

/* 0, or the -errno of what is lacking. */
static int delivery_lacks(enum delivery delivery, const struct wishes *wishes)
{
	int code = 0;

	switch (delivery) {
	case DELIVERY_KMOD:
		return wishes->no_module ? -EOPNOTSUPP : probe_ask(ASK_KMOD);
	case DELIVERY_UFFD:
		code = probe_ask(ASK_PRIVILEGED);
		return code && !errno_is_transient(code) ? probe_ask(ASK_DEVICE) : code;
	case DELIVERY_UFFD_USER:
		return probe_ask(ASK_USER_MODE);
	case DELIVERY_SIGNAL:
		return wishes->backing == BACKING_ANONYMOUS ? -EINVAL : probe_ask(ASK_MEMFD);
	case DELIVERY_EAGER:
		break;
	}
	return code;
}

/* A delivery that is forced, and not available. */
static int refuse_delivery(enum delivery delivery, const struct wishes *wishes,
			   struct thaw_error *error)
{
	char first[120], second[120];

	if (delivery == DELIVERY_KMOD && wishes->no_module)
		return error_set(
			error, THAW_EKERNEL,
			"%s=kmod, but parts of the image are still elsewhere, and the module reads files alone",
			kmod_variable(wishes));
	if (delivery == DELIVERY_KMOD) {
		probe_explain(ASK_KMOD, probe_ask(ASK_KMOD), first, sizeof(first));
		return error_set(error, THAW_EKERNEL, "%s=kmod, but it is not available (%s)",
				 kmod_variable(wishes), first);
	}
	if (delivery == DELIVERY_UFFD) {
		/* With its answer, a filter can be distinguished from missing privileges. */
		probe_ask(ASK_USER_MODE);
		probe_explain(ASK_PRIVILEGED, probe_ask(ASK_PRIVILEGED), first, sizeof(first));
		probe_explain(ASK_DEVICE, probe_ask(ASK_DEVICE), second, sizeof(second));
		return error_set(error, THAW_EKERNEL,
				 "THAW_DELIVERY=userfaultfd, but it is not available (%s; %s)",
				 first, second);
	}
	if (delivery == DELIVERY_UFFD_USER) {
		probe_explain(ASK_USER_MODE, probe_ask(ASK_USER_MODE), first, sizeof(first));
		return error_set(
			error, THAW_EKERNEL,
			"THAW_DELIVERY=user-mode, but UFFD_USER_MODE_ONLY (Linux 5.11) is not available (%s)",
			first);
	}
	probe_explain(ASK_MEMFD, probe_ask(ASK_MEMFD), first, sizeof(first));
	return error_set(error, THAW_EKERNEL,
			 "THAW_%s, but memfd_create(2) (Linux 3.17) is not available (%s)",
			 wishes->delivery == ANY ? "BACKING=memfd" : "DELIVERY=sigsegv", first);
}

/* Why a better delivery is not used: a start may have taken long because of it. */
static void explain_delivery(struct backends *backends, const struct wishes *wishes)
{
	char uffd[120], memfd[150] = "";

	/* The module is something that few have, and userfaultfd serves as well without it. */
	if (backends->delivery == DELIVERY_KMOD || backends->delivery == DELIVERY_UFFD)
		return;
	if (wishes->delivery != ANY) {
		snprintf(backends->why, sizeof(backends->why), "THAW_DELIVERY=%s",
			 delivery_names[wishes->delivery]);
		return;
	}
	if (wishes->backing == BACKING_MEMFD) {
		snprintf(backends->why, sizeof(backends->why), "THAW_BACKING=memfd");
		return;
	}
	probe_explain(ASK_PRIVILEGED, probe_ask(ASK_PRIVILEGED), uffd, sizeof(uffd));
	if (backends->delivery == DELIVERY_UFFD_USER) {
		snprintf(backends->why, sizeof(backends->why),
			 "userfaultfd serves no system calls (%s)", uffd);
		return;
	}
	if (backends->delivery == DELIVERY_EAGER && wishes->backing == BACKING_ANONYMOUS)
		snprintf(memfd, sizeof(memfd), ", and THAW_BACKING=anonymous");
	else if (backends->delivery == DELIVERY_EAGER) {
		char text[100];

		probe_explain(ASK_MEMFD, probe_ask(ASK_MEMFD), text, sizeof(text));
		snprintf(memfd, sizeof(memfd), ", nor is memfd_create (%s)", text);
	}
	snprintf(backends->why, sizeof(backends->why), "userfaultfd is not available (%s)%s", uffd,
		 memfd);
}

/* The delivery that is forced, or the best of those that what is forced leaves. */
static enum delivery first_delivery(const struct wishes *wishes)
{
	const char *variable, *name;

	if (wishes->delivery != ANY)
		return (enum delivery)wishes->delivery;
	if (wishes->backing == BACKING_MEMFD) /* it belongs to one delivery */
		return DELIVERY_SIGNAL;
	return beside_kmod(wishes, &variable, &name) ? DELIVERY_UFFD : DELIVERY_KMOD;
}

static int choose_delivery(struct backends *backends, const struct wishes *wishes,
			   struct thaw_error *error)
{
	enum delivery delivery = first_delivery(wishes);
	bool forced = wishes->delivery != ANY || wishes->backing == BACKING_MEMFD ||
		      wants_kmod(wishes);
	int code;

	while ((code = delivery_lacks(delivery, wishes))) {
		/* Being out of descriptors is an error, not a reason for a slower backend. */
		if (errno_is_transient(code))
			return error_set(error, code, "cannot ask the kernel for %s: %s%s",
					 delivery == DELIVERY_KMOD     ? "the module thaw"
					 : delivery == DELIVERY_SIGNAL ? "a memfd"
								       : "a userfaultfd",
					 thaw_strerror(code),
					 code == -ENOMEM ? "" : " (see ulimit -n)");
		if (forced)
			return refuse_delivery(delivery, wishes, error);
		delivery++;
	}
	backends->delivery = delivery;
	/*
	 * Behind SIGSEGV a page must be filled before the program can see it, through a second
	 * mapping. Under userfaultfd anonymous memory is faster: a page arrived in two thirds of
	 * the time that it took on a memfd.
	 */
	backends->backing = delivery == DELIVERY_KMOD	  ? BACKING_KMOD
			    : delivery == DELIVERY_SIGNAL ? BACKING_MEMFD
							  : BACKING_ANONYMOUS;
	explain_delivery(backends, wishes);
	return 0;
}

static int choose_tracker(struct backends *backends, const struct wishes *wishes,
			  struct thaw_error *error)
{
	bool uffd = !delivery_without_uffd(backends->delivery), forced = wishes->tracker != ANY;
	int lacks;

	backends->tracker = TRACKER_KMOD;
	if (backends->delivery == DELIVERY_KMOD)
		return 0;
	backends->tracker = TRACKER_MPROTECT;
	if (wishes->tracker == TRACKER_MPROTECT)
		return 0;
	if (forced && !uffd)
		return error_set(error, THAW_EKERNEL, "THAW_TRACKER=%s, but %s",
				 tracker_names[wishes->tracker], backends->why);
	if (!uffd)
		return 0;
	if (!probe_has_features(UFFD_FEATURE_PAGEFAULT_FLAG_WP))
		return forced ? error_set(
					error, THAW_EKERNEL,
					"THAW_TRACKER=%s, but this kernel's userfaultfd cannot write-protect (Linux " WP_SINCE
					")",
					tracker_names[wishes->tracker])
			      : 0;
	backends->tracker = TRACKER_WP_SYNC;
	if (wishes->tracker == TRACKER_WP_SYNC)
		return 0;
	lacks = probe_wp_async_lacks();
	if (errno_is_transient(lacks))
		return error_set(error, lacks, "cannot open /proc/self/pagemap: %s%s",
				 thaw_strerror(lacks), lacks == -ENOMEM ? "" : " (see ulimit -n)");
	if (!lacks)
		backends->tracker = TRACKER_WP_ASYNC;
	else if (forced)
		return error_set(
			error, THAW_EKERNEL,
			"THAW_TRACKER=wp-async, but this kernel lacks WP_ASYNC or PAGEMAP_SCAN (Linux " WP_ASYNC_SINCE
			")");
	return 0;
}

/*
 * Threads read where there is no ring, or not even the small locked memory that a ring takes before
 * Linux 5.12 (ulimit -l).
 */
static int choose_reader(struct backends *backends, const struct wishes *wishes,
			 struct thaw_error *error)
{
	int code = wishes->reader == READER_THREADS ? -ENOSYS : probe_ask(ASK_IO_URING);
	char text[120];

	backends->reader = code ? READER_THREADS : READER_URING;
	backends->reader_forced = wishes->reader == READER_URING;
	if (!code ||
	    (wishes->reader != READER_URING && (!errno_is_transient(code) || code == -ENOMEM)))
		return 0;
	probe_explain(ASK_IO_URING, code, text, sizeof(text));
	return error_set(error, errno_is_transient(code) ? code : THAW_EKERNEL,
			 "io_uring is not available (%s)", text);
}

int probe_choose(struct backends *backends, bool filled, struct thaw_error *error)
{
	struct wishes wishes = {.no_module = filled};
	int code;

	*backends = (struct backends){.delivery = DELIVERY_KMOD};
	code = read_wishes(&wishes, error);
	if (!code)
		code = choose_delivery(backends, &wishes, error);
	if (!code)
		code = choose_tracker(backends, &wishes, error);
	if (!code)
		code = choose_reader(backends, &wishes, error);
	backends->poison = backends->delivery == DELIVERY_KMOD
				   ? !probe_denies("poison")
				   : !delivery_without_uffd(backends->delivery) &&
					     probe_has_features(UFFD_FEATURE_POISON);
	return code;
}

/* ---- the memory of another process ---- */

static int read_process_wishes(struct wishes *wishes, struct thaw_error *error)
{
	static const char *const deliveries[] = {"userfaultfd", "eager"};
	static const char *const trackers[] = {"wp-async", "hashed"};
	int code = probe_check_denials(error);

	*wishes = (struct wishes){.backing = ANY};
	if (!code)
		code = read_wish(&wishes->delivery, "THAW_DELIVERY", deliveries, COUNT(deliveries),
				 error);
	if (!code)
		code = read_wish(&wishes->tracker, "THAW_TRACKER", trackers, COUNT(trackers),
				 error);
	if (!code)
		code = read_wish(&wishes->reader, "THAW_READER", reader_names, COUNT(reader_names),
				 error);
	if (code)
		return code;
	if (wishes->delivery != ANY)
		wishes->delivery = wishes->delivery ? DELIVERY_EAGER : DELIVERY_UFFD;
	if (wishes->tracker != ANY)
		wishes->tracker = wishes->tracker ? TRACKER_HASHED : TRACKER_WP_ASYNC;
	if (wishes->delivery == DELIVERY_UFFD && wishes->tracker == TRACKER_HASHED)
		return error_set(error, -EINVAL,
				 "THAW_DELIVERY=userfaultfd contradicts THAW_TRACKER=hashed, which "
				 "cannot tell a page that has not arrived from one that is gone");
	return 0;
}

/* 0; or the -errno of what lazy delivery lacks, in words. */
static int process_delivery_lacks(char *why, size_t bytes)
{
	int code = probe_ask(ASK_PRIVILEGED), device;
	char text[120];

	if (!code || errno_is_transient(code))
		return code;
	device = probe_ask(ASK_DEVICE);
	if (!device || errno_is_transient(device))
		return device;
	probe_explain(ASK_PRIVILEGED, code, text, sizeof(text));
	snprintf(why, bytes, "userfaultfd serves no system calls (%s)", text);
	return code;
}

/* The same of being told of forks. Without it nobody can fork before all has been loaded. */
static int process_forks_lack(char *why, size_t bytes)
{
	int code = probe_try_features(UFFD_FEATURE_EVENT_FORK);

	if (code)
		snprintf(why, bytes,
			 "userfaultfd does not tell of forks (%s: it takes CAP_SYS_PTRACE)",
			 strerrorname_np(-code));
	return code;
}

/* 0; or the -errno of what tracking by userfaultfd lacks, in words. */
static int process_tracker_lacks(char *why, size_t bytes)
{
	int code = probe_ask(ASK_PRIVILEGED);
	char text[120];

	if (code && !errno_is_transient(code) && probe_ask(ASK_DEVICE))
		code = probe_ask(ASK_USER_MODE);
	else if (!errno_is_transient(code))
		code = 0;
	if (code) {
		probe_explain(ASK_USER_MODE, code, text, sizeof(text));
		snprintf(why, bytes, "userfaultfd is not available (%s)", text);
		return code;
	}
	code = probe_wp_async_lacks();
	if (code)
		snprintf(why, bytes,
			 "this kernel lacks WP_ASYNC or PAGEMAP_SCAN (Linux " WP_ASYNC_SINCE ")");
	return code;
}

int probe_choose_process(struct backends *backends, struct thaw_error *error)
{
	char no_delivery[200] = "", no_tracker[200] = "", no_forks[200] = "";
	int delivery = 0, tracker = 0, forks = 0, code;
	struct wishes wishes;

	*backends = (struct backends){.delivery = DELIVERY_UFFD,
				      .backing = BACKING_ANONYMOUS,
				      .tracker = TRACKER_WP_ASYNC};
	code = read_process_wishes(&wishes, error);
	if (code)
		return code;
	if (wishes.tracker != TRACKER_HASHED)
		tracker = process_tracker_lacks(no_tracker, sizeof(no_tracker));
	if (wishes.delivery != DELIVERY_EAGER && wishes.tracker != TRACKER_HASHED && !tracker)
		delivery = process_delivery_lacks(no_delivery, sizeof(no_delivery));
	else
		delivery = -EOPNOTSUPP;
	if (!delivery)
		forks = process_forks_lack(no_forks, sizeof(no_forks));
	code = errno_is_transient(tracker)    ? tracker
	       : errno_is_transient(delivery) ? delivery
	       : errno_is_transient(forks)    ? forks
					      : 0;
	if (code)
		return error_set(error, code,
				 "cannot ask the kernel for a userfaultfd: %s (see ulimit -n)",
				 thaw_strerror(code));
	if (tracker && (wishes.tracker == TRACKER_WP_ASYNC || wishes.delivery == DELIVERY_UFFD))
		return error_set(error, THAW_EKERNEL, "THAW_%s, but %s",
				 wishes.tracker == TRACKER_WP_ASYNC ? "TRACKER=wp-async"
								    : "DELIVERY=userfaultfd",
				 no_tracker);
	if (delivery && wishes.delivery == DELIVERY_UFFD)
		return error_set(error, THAW_EKERNEL, "THAW_DELIVERY=userfaultfd, but %s",
				 no_delivery);
	if (wishes.tracker == TRACKER_HASHED || tracker)
		backends->tracker = TRACKER_HASHED;
	if (delivery)
		backends->delivery = DELIVERY_EAGER;
	backends->forks_untold = forks;
	snprintf(backends->why, sizeof(backends->why), "%s",
		 wishes.tracker == TRACKER_HASHED    ? "THAW_TRACKER=hashed"
		 : wishes.delivery == DELIVERY_EAGER ? "THAW_DELIVERY=eager"
		 : tracker			     ? no_tracker
		 : forks			     ? no_forks
						     : no_delivery);
	backends->poison = backends->delivery == DELIVERY_UFFD &&
			   probe_has_features(UFFD_FEATURE_POISON);
	return choose_reader(backends, &wishes, error);
}

bool probe_process_uffd(const struct backends *backends, int *flags, uint64_t *features)
{
	if (backends->tracker == TRACKER_HASHED)
		return false;
	*flags = O_CLOEXEC | O_NONBLOCK;
	if (probe_ask(ASK_PRIVILEGED) && probe_ask(ASK_DEVICE))
		*flags |= UFFD_USER_MODE_ONLY;
	*features = UFFD_FEATURE_PAGEFAULT_FLAG_WP | UFFD_FEATURE_WP_ASYNC |
		    UFFD_FEATURE_WP_UNPOPULATED | UFFD_FEATURE_EVENT_REMOVE |
		    UFFD_FEATURE_EVENT_UNMAP | UFFD_FEATURE_EVENT_REMAP;
	if (backends->delivery == DELIVERY_UFFD && !backends->forks_untold)
		*features |= UFFD_FEATURE_EVENT_FORK;
	if (backends->poison)
		*features |= UFFD_FEATURE_POISON;
	return true;
}
