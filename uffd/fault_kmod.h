/* SPDX-License-Identifier: MIT */
/*
 * fault_kmod.h - the fault service where the kernel module (kmod.h) brings pages by itself: what it
 * has to be told, and what it asks for. Everybody but the fault service uses fault.h.
 */
#ifndef UFFD_FAULT_KMOD_H
#define UFFD_FAULT_KMOD_H

#include "fault_service.h"

struct fault_kmod;

/* -ENOMEM; and the opposite, for which NULL is fine. */
int fault_kmod_start(struct fault_service *service);
void fault_kmod_stop(struct fault_service *service);

/* Answers all requests that wait. */
void fault_kmod_serve(struct fault_service *service);
/*
 * While nobody asks: tells the module some more of where pages are, about those that were asked for
 * (`near`), or of the rest of a small heap. true: there is more to tell at once.
 */
bool fault_kmod_tell_near(struct fault_service *service);
bool fault_kmod_tell_rest(struct fault_service *service);
/*
 * The module brings these clusters ahead of a touch. false: it cannot bring all of what is stored
 * in them.
 */
bool fault_kmod_prefetch(struct fault_service *service, uint64_t cluster, unsigned clusters);
/*
 * Before pages are poisoned: how many from the first on have not arrived, and will not unless the
 * service brings them; 0: the first one has arrived.
 */
uint64_t fault_kmod_absent(struct fault_service *service, uint64_t first, uint64_t count);
/* Adds what the module has counted, and where it cannot say, what it had. One thread at a time. */
void fault_kmod_counters(const struct fault_service *service, struct fault_counters *counters);

#endif
