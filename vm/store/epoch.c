// SPDX-License-Identifier: MIT
/*
 * epoch.c - looks whether a file may continue a store, and seals it: epoch.h has the rules and what follows from them.
 */
#include "store/epoch.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/failure.h"
#include "store/append.h"

void claim_free(struct store_claim *claim)
{
	index_free(&claim->index);
	*claim = (struct store_claim){0};
}

static bool is_zero(const uint8_t id[16])
{
	static const uint8_t zero[16];

	return !memcmp(id, zero, sizeof(zero));
}

static int refuse_empty(const struct epoch_wish *wish, struct thaw_error *error)
{
	if (wish->flags & EPOCH_BEGIN)
		return 0;
	return failure(error, -ENOENT, "%s holds no image", wish->place);
}

/* The newest record is somebody's; is it this file's? */
static int check_owner(const struct epoch_wish *wish, const struct store_record *record,
		       struct thaw_error *error)
{
	bool known = !is_zero(wish->uuid);
	struct sidefile side;
	char writer[256];
	int code = sidefile_read(wish->image, &side, error);

	if (code && code != -ENOENT)
		return code;
	if (!code && side.incomplete && strcmp(side.place, wish->place))
		return failure(error, -EXDEV, "blocks of %s are still in %s: it goes on with that",
			       wish->image, side.place);
	if (wish->flags & EPOCH_TAKE_OVER)
		return 0;
	if (known && record->generation && memcmp(wish->uuid, record->uuid, sizeof(wish->uuid)))
		return failure(error, -EXDEV, "%s holds another image than %s: use another place",
			       wish->place, wish->image);
	if (wish->flags & EPOCH_REPLACE)
		return 0;
	if (code || !sidefile_has(&side, record->epoch))
		return failure(
			error, -EBUSY,
			"%s is continued by %s: not by %s. thaw run or exec --image %s goes on with that, --replace gives the store this image's state",
			wish->place, record_writer(record, writer, sizeof(writer)), wish->image,
			wish->place);
	return 0;
}

int epoch_check_age(const struct epoch_wish *wish, const struct store_record *record,
		    struct thaw_error *error)
{
	if (wish->flags & (EPOCH_TAKE_OVER | EPOCH_REPLACE) ||
	    !record_newer(record, wish->sequence, wish->generation))
		return 0;
	return failure(
		error, -ESTALE,
		"%s has generation %" PRIu64 ", %s only %" PRIu64
		": was it restored from a backup? thaw run or exec --image %s goes on with the newer one, --replace gives the store this image's state",
		wish->place, record->generation, wish->image, wish->generation, wish->place);
}

int epoch_look(struct s3 *s3, const struct epoch_wish *wish, uint64_t deadline_ns,
	       struct store_claim *claim, struct thaw_error *error)
{
	void *tail;
	int code;

	*claim = (struct store_claim){0};
	code = record_newest(s3, deadline_ns, &claim->record, &tail, error);
	if (code)
		return code;
	if (!claim->record.number)
		return refuse_empty(wish, error);
	code = check_owner(wish, &claim->record, error);
	if (!code && (wish->sequence || wish->generation))
		code = epoch_check_age(wish, &claim->record, error);
	if (!code)
		code = record_index(s3, &claim->record, tail, deadline_ns, &claim->index, error);
	free(tail);
	return code;
}

struct addition {
	const struct epoch_wish *wish;
	const uint8_t *uuid, *epoch;
	const uint8_t *newest; /* epoch of the newest record */
};

/*
 * The epoch that is asked for, besides all that were. Of those that are too many the oldest goes, but never that of the newest record: a
 * store that is read and cannot be written is asked again and again.
 */
static int add_epoch(struct sidefile *side, void *arg)
{
	const struct addition *addition = arg;

	if (strlen(addition->wish->place) >= sizeof(side->place))
		return -EINVAL;
	if (addition->wish->flags & EPOCH_TAKE_OVER && addition->wish->incomplete)
		*side = (struct sidefile){.incomplete = true};
	strcpy(side->place, addition->wish->place);
	memcpy(side->uuid, addition->uuid, sizeof(side->uuid));
	side->settled = 0;
	if (side->epoch_count == SIDEFILE_EPOCHS) {
		unsigned oldest = !memcmp(side->epochs[0], addition->newest, STORE_EPOCH_BYTES);

		memmove(side->epochs[oldest], side->epochs[oldest + 1],
			sizeof(side->epochs[0]) * (--side->epoch_count - oldest));
	}
	memcpy(side->epochs[side->epoch_count++], addition->epoch, STORE_EPOCH_BYTES);
	return 0;
}

/* The store has surely not got it, and will not. */
static int take_back_epoch(struct sidefile *side, void *arg)
{
	const struct addition *addition = arg;

	for (unsigned i = 0; i < side->epoch_count; i++) {
		if (memcmp(side->epochs[i], addition->epoch, STORE_EPOCH_BYTES))
			continue;
		memmove(side->epochs[i], side->epochs[i + 1],
			sizeof(side->epochs[0]) * (--side->epoch_count - i));
		return 0;
	}
	return -ENOENT;
}

void epoch_sign(struct store_record *record, const char *program)
{
	record->time_ns = clock_wall_ns();
	record->pid = (uint64_t)getpid();
	memset(record->host, 0, sizeof(record->host));
	gethostname(record->host, sizeof(record->host) - 1);
	memset(record->program, 0, sizeof(record->program));
	snprintf(record->program, sizeof(record->program), "%s", program ? program : "");
}

/* The record that follows `before`: what the image has stays, the epoch is new. */
static int next_seal(const struct epoch_wish *wish, const struct store_record *before,
		     struct store_record *seal)
{
	*seal = *before;
	memcpy(seal->before, before->checksum, sizeof(seal->before));
	seal->number++;
	seal->epoch_number++;
	seal->kind = STORE_SEAL;
	seal->flags = 0;
	seal->level_offset = 0;
	/* Until there is a generation it is nobody's: who began it may have failed, and left no image. */
	if (!before->generation && !is_zero(wish->uuid)) {
		memcpy(seal->uuid, wish->uuid, sizeof(seal->uuid));
		memcpy(seal->engine, wish->engine, sizeof(seal->engine));
		seal->page_bytes = wish->page_bytes;
	}
	epoch_sign(seal, wish->program);
	if (getrandom(seal->epoch, sizeof(seal->epoch), 0) != sizeof(seal->epoch) ||
	    getrandom(seal->nonce, sizeof(seal->nonce), 0) != sizeof(seal->nonce))
		return -EIO;
	return 0;
}

int epoch_seal(struct s3 *s3, const struct epoch_wish *wish, uint64_t deadline_ns,
	       struct store_claim *claim, struct thaw_error *error)
{
	struct addition addition = {.wish = wish};
	struct store_record seal;
	struct append append;
	size_t level_bytes;
	void *level;
	int code = next_seal(wish, &claim->record, &seal);

	if (code)
		return failure(error, code, "there are no random numbers");
	/* Where that is not kept, nothing of epoch.h follows; asked once in a store's life. */
	if (!claim->record.number)
		code = s3_check_new(s3, "check-", deadline_ns, error);
	if (code)
		return code;
	addition.uuid = seal.uuid;
	addition.epoch = seal.epoch;
	addition.newest = claim->record.epoch;
	code = sidefile_change(wish->image, add_epoch, &addition, error);
	if (code)
		return code;
	code = level_encode(&claim->index.level[0], &level, &level_bytes);
	if (code)
		return failure(error, code, "no memory for a record of the store");
	append_make(&append, &seal, NULL, 0, level, level_bytes);
	append.request.deadline_ns = deadline_ns;
	code = s3_do(s3, &append.request, error);
	/* Or a store that refuses again and again would fill the file with epochs that never were. */
	if (code && !append.request.unsure)
		sidefile_change(wish->image, take_back_epoch, &addition, NULL);
	if (code == -EEXIST)
		code = failure(error, -EAGAIN, "%s was continued just now", wish->place);
	append_free(&append);
	if (code)
		return code;
	claim->record = seal;
	claim->sealed = true;
	return 0;
}
