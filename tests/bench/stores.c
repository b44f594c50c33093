// SPDX-License-Identifier: MIT
/*
 * stores WAY PATH MIB SECONDS - small changes made durable, one after the other: MIB of values of 1,000 bytes, of which 100
 * bytes of one at random change, and nothing else is done before that is on the disk. Prints samples for interleave: changes
 * a second, of one and of 64 at once, and the bytes written for one.
 *
 *	stores make WAY PATH MIB	what lmdb and sqlite start from
 *	stores WAY PATH MIB N changes	only so many, one at once, and no samples: for the script calls
 *
 *	pwrite	pwrite() into a file, fdatasync(): the least that a disk asks for
 *	sqlite	journal_mode WAL, synchronous FULL
 *	lmdb	as it is by default (a sync for each transaction)
 *	thaw	libthaw: a generation for each change, of a heap with all values
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <lmdb.h>
#include <sqlite3.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bench.h"
#include "thaw.h"

#define VALUE 1000u
#define CHANGE 100u
#define BATCH 64u

struct store {
	unsigned values;
	int fd;
	sqlite3 *db;
	sqlite3_stmt *update;
	MDB_env *env;
	MDB_dbi dbi;
	struct thaw *heap;
	char value[VALUE];
};

struct way {
	const char *name;
	void (*open)(struct store *store, const char *path, bool make);
	/* Change `count` values, and return when they are durable. */
	void (*change)(struct store *store, const unsigned *which, unsigned count);
};

/* ---- pwrite */

static void pwrite_open(struct store *store, const char *path, bool make)
{
	store->fd = open(path, O_CREAT | O_RDWR, 0600);
	if (store->fd < 0 || posix_fallocate(store->fd, 0, (off_t)store->values * VALUE))
		die(path);
	(void)make;
	for (unsigned i = 0; i < store->values; i++)
		if (pwrite(store->fd, store->value, VALUE, (off_t)i * VALUE) != VALUE)
			die(path);
	if (fsync(store->fd))
		die(path);
}

static void pwrite_change(struct store *store, const unsigned *which, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		if (pwrite(store->fd, store->value, CHANGE, (off_t)which[i] * VALUE) != CHANGE)
			die("pwrite");
	if (fdatasync(store->fd))
		die("fdatasync");
}

/* ---- SQLite */

static void sql(struct store *store, const char *text)
{
	if (sqlite3_exec(store->db, text, NULL, NULL, NULL))
		die(sqlite3_errmsg(store->db));
}

static void sqlite_write(struct store *store, const char *text, unsigned first, unsigned count,
			 const unsigned *which)
{
	if (!store->update && sqlite3_prepare_v2(store->db, text, -1, &store->update, NULL))
		die(sqlite3_errmsg(store->db));
	sql(store, "BEGIN");
	for (unsigned i = 0; i < count; i++) {
		sqlite3_bind_int(store->update, 1, (int)(which ? which[i] : first + i));
		sqlite3_bind_blob(store->update, 2, store->value, VALUE, SQLITE_STATIC);
		if (sqlite3_step(store->update) != SQLITE_DONE)
			die(sqlite3_errmsg(store->db));
		sqlite3_reset(store->update);
	}
	sql(store, "COMMIT");
}

static void sqlite_open(struct store *store, const char *path, bool make)
{
	if (sqlite3_open(path, &store->db))
		die(path);
	sql(store, "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL");
	if (!make)
		return;
	sql(store, "CREATE TABLE v (id INTEGER PRIMARY KEY, value BLOB)");
	sqlite_write(store, "INSERT INTO v VALUES (?, ?)", 0, store->values, NULL);
	sqlite3_finalize(store->update);
	if (sqlite3_close(store->db))
		die(path);
}

static void sqlite_change(struct store *store, const unsigned *which, unsigned count)
{
	sqlite_write(store, "REPLACE INTO v VALUES (?, ?)", 0, count, which);
}

/* ---- LMDB */

static void lmdb_check(int code)
{
	if (code)
		die(mdb_strerror(code));
}

static void lmdb_write(struct store *store, unsigned count, const unsigned *which)
{
	MDB_txn *txn;

	lmdb_check(mdb_txn_begin(store->env, NULL, 0, &txn));
	if (!store->dbi)
		lmdb_check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY, &store->dbi));
	for (unsigned i = 0; i < count; i++) {
		unsigned id = which ? which[i] : i;
		MDB_val key = {sizeof(id), &id}, value = {VALUE, store->value};

		lmdb_check(mdb_put(txn, store->dbi, &key, &value, which ? 0 : MDB_APPEND));
	}
	lmdb_check(mdb_txn_commit(txn));
}

static void lmdb_open(struct store *store, const char *path, bool make)
{
	lmdb_check(mdb_env_create(&store->env));
	lmdb_check(mdb_env_set_mapsize(store->env, (size_t)8 << 30));
	lmdb_check(mdb_env_open(store->env, path, MDB_NOSUBDIR, 0600));
	if (make)
		lmdb_write(store, store->values, NULL);
}

static void lmdb_change(struct store *store, const unsigned *which, unsigned count)
{
	lmdb_write(store, count, which);
}

/* ---- Thaw */

static void thaw_change(struct store *store, const unsigned *which, unsigned count)
{
	struct thaw_result result;

	for (unsigned i = 0; i < count; i++)
		memcpy((char *)thaw_base(store->heap) + (size_t)which[i] * VALUE, store->value,
		       CHANGE);
	if (thaw_checkpoint(store->heap, THAW_REASON_REQUEST, "s", 2, &result))
		die(result.error.text);
	if (result.unchanged)
		die("a generation without a change");
}

static void thaw_start(struct store *store, const char *path, bool make)
{
	size_t bytes = ((size_t)store->values * VALUE + 0xffff) & ~(size_t)0xffff;
	struct thaw_options options = {.image = path,
				       .flags = THAW_CREATE | THAW_TOUCHES | THAW_LOG,
				       .max_bytes = bytes,
				       .engine = "bench"};
	struct thaw_error error;
	unsigned all = 0;

	(void)make;
	if (thaw_open(&options, &store->heap, &error) || thaw_resize(store->heap, bytes))
		die(error.text);
	for (size_t i = 0; i < bytes / 8; i++)
		((uint64_t *)thaw_base(store->heap))[i] = (i + 1) * 0x9e3779b97f4a7c15u;
	thaw_change(store, &all, 1);
}

static const struct way ways[] = {
	{"pwrite", pwrite_open, pwrite_change},
	{"sqlite", sqlite_open, sqlite_change},
	{"lmdb", lmdb_open, lmdb_change},
	{"thaw", thaw_start, thaw_change},
};

/* What this process has handed to write calls. (write_bytes has the whole of a large folio for each of them.) */
static double bytes_written(void)
{
	unsigned long long bytes = 0;
	FILE *file = fopen("/proc/self/io", "re");
	char line[128];

	while (file && fgets(line, sizeof(line), file))
		sscanf(line, "wchar: %llu", &bytes);
	if (file)
		fclose(file);
	return (double)bytes;
}

static void change_some(struct store *store, const struct way *way, unsigned batch)
{
	static unsigned random = 1;
	unsigned which[BATCH];

	for (unsigned i = 0; i < batch; i++) {
		random = random * 1664525u + 1013904223u;
		which[i] = (unsigned)((uint64_t)random * store->values >> 32);
	}
	memcpy(store->value, &random, sizeof(random));
	way->change(store, which, batch);
}

/* Without `mib`: a warm-up. The tables come into memory, and the files grow. */
static void measure(struct store *store, const struct way *way, double seconds, unsigned batch,
		    const char *mib)
{
	double start = now_us(), bytes = bytes_written(), us;
	unsigned changes = 0;

	do {
		change_some(store, way, batch);
		changes += batch;
		us = now_us() - start;
	} while (us < seconds * 1e6);
	if (!mib)
		return;
	printf("durable changes\t%s MiB, %u at once\t%.1f\t/s\n", mib, batch, changes / us * 1e6);
	printf("bytes written\t%s MiB, %u at once\t%.3f\tKiB a change\n", mib, batch,
	       (bytes_written() - bytes) / 1024 / changes);
}

int main(int argc, char **argv)
{
	bool count = argc == 6 && !strcmp(argv[5], "changes");
	bool make = argc == 5 && !strcmp(argv[1], "make"), good = argc == 5 || count;
	const char *name = good ? argv[1 + make] : "", *path = good ? argv[2 + make] : "";
	const char *mib = good ? argv[3 + make] : "";
	struct store store = {.values = (unsigned)((uint64_t)atoi(mib) * 1048576 / VALUE)};
	const struct way *way = NULL;

	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++)
		if (!strcmp(ways[i].name, name))
			way = &ways[i];
	if (!way || !store.values)
		die("usage: stores [make] pwrite|sqlite|lmdb|thaw PATH MIB [SECONDS]");
	way->open(&store, path, make);
	for (int i = 0; count && i < atoi(argv[4]); i++)
		change_some(&store, way, 1);
	if (make || count)
		return 0;
	measure(&store, way, atof(argv[4]) / 5, 1, NULL);
	measure(&store, way, atof(argv[4]), 1, mib);
	measure(&store, way, atof(argv[4]) / 2, BATCH, mib);
	return 0;
}
