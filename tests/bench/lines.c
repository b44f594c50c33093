// SPDX-License-Identifier: MIT
/*
 * lines memory|lmdb|lmdb-group MIB PATH PORT - a line server (tests/load/lines.h) of MIB * 1,000 counters, each with 1,000
 * bytes beside it: in its memory alone, or with LMDB, a transaction for each request or for all that one round of
 * epoll_wait() brought.
 */
#define _GNU_SOURCE
#include <lmdb.h>
#include <stdbool.h>

#include "../load/lines.h"
#include "bench.h"

struct entry {
	uint64_t count;
	char text[1000];
};

static struct entry *entries;
static MDB_env *env;
static MDB_dbi dbi;
static MDB_txn *round_txn; /* lmdb-group: of this round */
static bool group;

static uint64_t memory_count(const char *request)
{
	return ++entries[strtoul(request + strlen("count "), NULL, 10)].count;
}

static void memory_open(unsigned count, const char *path)
{
	(void)path;
	entries = calloc(count, sizeof(*entries));
	if (!entries)
		die("no memory");
	for (unsigned i = 0; i < count; i++)
		snprintf(entries[i].text, sizeof(entries[i].text), "entry %u", i);
}

static void check(int code)
{
	if (code)
		die(mdb_strerror(code));
}

static void lmdb_open(unsigned count, const char *path)
{
	struct entry entry = {0};
	MDB_txn *txn;

	check(mdb_env_create(&env));
	check(mdb_env_set_mapsize(env, (size_t)8 << 30));
	check(mdb_env_open(env, path, MDB_NOSUBDIR, 0600));
	check(mdb_txn_begin(env, NULL, 0, &txn));
	check(mdb_dbi_open(txn, NULL, MDB_INTEGERKEY | MDB_CREATE, &dbi));
	for (unsigned i = 0; i < count; i++)
		check(mdb_put(txn, dbi, &(MDB_val){sizeof(i), &i},
			      &(MDB_val){sizeof(entry), &entry}, MDB_APPEND));
	check(mdb_txn_commit(txn));
}

static uint64_t lmdb_count(const char *request)
{
	unsigned id = (unsigned)strtoul(request + strlen("count "), NULL, 10);
	MDB_val key = {sizeof(id), &id}, value;
	struct entry entry;
	MDB_txn *txn = round_txn;

	if (!txn)
		check(mdb_txn_begin(env, NULL, 0, &txn));
	if (group)
		round_txn = txn;
	check(mdb_get(txn, dbi, &key, &value));
	memcpy(&entry, value.mv_data, sizeof(entry));
	entry.count++;
	check(mdb_put(txn, dbi, &key, &(MDB_val){sizeof(entry), &entry}, 0));
	if (!group)
		check(mdb_txn_commit(txn));
	return entry.count;
}

static void lmdb_end_of_round(void)
{
	if (round_txn)
		check(mdb_txn_commit(round_txn));
	round_txn = NULL;
}

int main(int argc, char **argv)
{
	struct lines lines = {.answer = memory_count};
	bool lmdb = argc == 5 && !strncmp(argv[1], "lmdb", 4);

	if (argc != 5)
		die("usage: lines memory|lmdb|lmdb-group MIB PATH PORT");
	group = lmdb && !strcmp(argv[1], "lmdb-group");
	(lmdb ? lmdb_open : memory_open)((unsigned)atoi(argv[2]) * 1000, argv[3]);
	if (lmdb)
		lines.answer = lmdb_count;
	if (group)
		lines.end_of_round = lmdb_end_of_round;
	lines_serve(&lines, (unsigned)atoi(argv[4]));
}
