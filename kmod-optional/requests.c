// SPDX-License-Identifier: GPL-2.0-only
/*
 * requests.c - threads that wait for a page which only user space can bring, and who reads what
 * they wait for.
 *
 * A waiter is on the stack of the thread that touched the page, and in a list for as long as it
 * waits. So a request goes with its thread: when that is killed, or goes on, nothing is left of it,
 * whether it was read or not. The model is fs/userfaultfd.c. Nobody holds a lock of the memory
 * management here.
 */
#include <linux/poll.h>
#include <linux/sched/signal.h>
#include <linux/uaccess.h>

#include "requests.h"

enum waiter_state {
	WAITER_PENDING, /* not read yet */
	WAITER_TAKEN,	/* read by somebody */
	WAITER_WOKEN,	/* will go on */
};

struct thaw_waiter {
	struct list_head entry;
	struct task_struct *task;
	struct thaw_kmod_request request;
	u64 batch; /* which read(2) has it */
	enum waiter_state state;
};

/* How many requests are copied to user space at once. */
#define BATCH 16

static void waiter_set_state(struct thaw_requests *requests, struct thaw_waiter *waiter,
			     enum waiter_state state)
{
	lockdep_assert_held(&requests->lock);
	if (waiter->state == WAITER_PENDING)
		requests->pending--;
	if (state == WAITER_PENDING)
		requests->pending++;
	WRITE_ONCE(waiter->state, state);
}

static bool place_is(struct thaw_region *region, u64 page, const struct thaw_place *place)
{
	struct thaw_place now;

	thaw_place_get(region, page, &now);
	return !memcmp(&now, place, sizeof(now));
}

/*
 * As userfaultfd; but who is inside of a system call would only come back here when a signal is
 * pending.
 */
static unsigned int waiting_state(unsigned int flags)
{
	if (flags & FAULT_FLAG_INTERRUPTIBLE && flags & FAULT_FLAG_USER)
		return TASK_INTERRUPTIBLE;
	return flags & FAULT_FLAG_KILLABLE ? TASK_KILLABLE : TASK_UNINTERRUPTIBLE;
}

void thaw_request_wait(struct thaw_region *region, u64 page, const struct thaw_absence *absence,
		       unsigned int flags)
{
	struct thaw_requests *requests = &region->requests;
	unsigned int state = waiting_state(flags);
	struct thaw_waiter waiter = {
		.task = current,
		.request = {
			.page = page,
			.why = absence->why,
			.thread = task_pid_vnr(current),
		},
		.state = WAITER_PENDING,
	};

	spin_lock(&requests->lock);
	list_add_tail(&waiter.entry, &requests->waiting);
	requests->pending++;
	spin_unlock(&requests->lock);
	/*
	 * Who changes one of these looks into the list after that; and we look at them, being in
	 * the list. Pairs with thaw_requests_wake().
	 */
	smp_mb();
	if (!thaw_page_settled(region, page) && place_is(region, page, &absence->place)) {
		atomic64_inc(&region->faults_passed);
		wake_up_interruptible_poll(&region->readers, EPOLLIN | EPOLLRDNORM);
		for (;;) {
			set_current_state(state);
			if (READ_ONCE(waiter.state) == WAITER_WOKEN ||
			    signal_pending_state(state, current))
				break;
			schedule();
		}
		__set_current_state(TASK_RUNNING);
	}
	spin_lock(&requests->lock);
	if (waiter.state == WAITER_PENDING)
		requests->pending--;
	list_del(&waiter.entry);
	spin_unlock(&requests->lock);
}

void thaw_requests_wake(struct thaw_region *region, u64 first, u64 count)
{
	struct thaw_requests *requests = &region->requests;
	struct thaw_waiter *waiter;

	smp_mb(); /* pairs with thaw_request_wait() */
	if (list_empty_careful(&requests->waiting))
		return;
	spin_lock(&requests->lock);
	list_for_each_entry(waiter, &requests->waiting, entry) {
		if (waiter->state == WAITER_WOKEN || waiter->request.page - first >= count)
			continue;
		waiter_set_state(requests, waiter, WAITER_WOKEN);
		wake_up_process(waiter->task);
	}
	spin_unlock(&requests->lock);
}

/* ---- Reading */

bool thaw_requests_pending(struct thaw_region *region)
{
	return READ_ONCE(region->requests.pending);
}

/* Takes the oldest ones. `batch` is what they can be given back by. */
static unsigned int requests_take(struct thaw_requests *requests, struct thaw_kmod_request *taken,
				  unsigned int most, u64 *batch)
{
	struct thaw_waiter *waiter;
	unsigned int count = 0;

	spin_lock(&requests->lock);
	*batch = ++requests->batches;
	list_for_each_entry(waiter, &requests->waiting, entry) {
		if (count == most || !requests->pending)
			break;
		if (waiter->state != WAITER_PENDING)
			continue;
		waiter_set_state(requests, waiter, WAITER_TAKEN);
		waiter->batch = *batch;
		taken[count++] = waiter->request;
	}
	spin_unlock(&requests->lock);
	return count;
}

/* They could not be told: those that are still there can be read again. */
static void requests_give_back(struct thaw_region *region, u64 batch)
{
	struct thaw_requests *requests = &region->requests;
	struct thaw_waiter *waiter;

	spin_lock(&requests->lock);
	list_for_each_entry(waiter, &requests->waiting, entry)
		if (waiter->state == WAITER_TAKEN && waiter->batch == batch)
			waiter_set_state(requests, waiter, WAITER_PENDING);
	spin_unlock(&requests->lock);
	wake_up_interruptible_poll(&region->readers, EPOLLIN | EPOLLRDNORM);
}

ssize_t thaw_requests_read(struct thaw_region *region, char __user *to, size_t bytes,
			   bool may_wait)
{
	struct thaw_kmod_request taken[BATCH];
	ssize_t done = 0;

	if (bytes < sizeof(*taken))
		return -EINVAL;
	while (bytes - done >= sizeof(*taken)) {
		size_t most = min_t(size_t, (bytes - done) / sizeof(*taken), BATCH);
		unsigned int count;
		u64 batch;

		count = requests_take(&region->requests, taken, most, &batch);
		if (!count) {
			if (done)
				break;
			if (!may_wait)
				return -EAGAIN;
			if (wait_event_interruptible(region->readers,
						     thaw_requests_pending(region)))
				return -ERESTARTSYS;
			continue;
		}
		if (copy_to_user(to + done, taken, count * sizeof(*taken))) {
			requests_give_back(region, batch);
			return done ? done : -EFAULT;
		}
		done += count * sizeof(*taken);
	}
	return done;
}
