// SPDX-License-Identifier: GPL-2.0-only
/* jobs.h - what the tests of the bare engine share: running the jobs that a script has queued. */
#ifndef TESTS_JOBS_H
#define TESTS_JOBS_H

#include "../vm/js/engine/engine.h"

/* At most `budget` jobs (0: all); the first exception goes to `exception`, unless that is NULL. */
static unsigned run_jobs(struct js_engine *engine, unsigned budget, js_value *exception)
{
	js_value thrown, first = 0;
	unsigned count = 0;

	while ((!budget || count < budget) && js_run_job(engine, &thrown)) {
		count++;
		if (thrown && !first)
			first = thrown;
		else
			js_free(engine, thrown);
	}
	if (exception)
		*exception = first;
	else
		js_free(engine, first);
	return count;
}

#endif
