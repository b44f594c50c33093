# shellcheck shell=bash
# output - requests a second that are acknowledged when they are durable: `thaw exec --commit output` beside databases, and what
# the same server does when nothing is durable. Three tables: Node.js over HTTP, Redis, and a line server in C.

# MIB SECONDS CONNECTIONS of the jobs that follow
of() { mib=$1 seconds=$2 connections=$3; }

# asked NAME TABLE PROTOCOL SERVER...: a fresh directory, named directory, for each run
asked()
{
	local name=$1 table=$2 protocol=$3
	shift 3
	job "$name" - - "rm -rf $work/directory && mkdir $work/directory" \
		"$build/tests/bench/acknowledged" "$table:_acknowledged" "$mib" "$seconds" "$connections" "$protocol" "$@"
}

under_thaw() { echo "${build_of[$1]}/thaw exec --commit output --image $work/directory/image"; }

node_jobs()
{
	local counters=$root/tests/bench/counters.js version

	for version in $versions; do
		# shellcheck disable=SC2046
		asked "${thaw[$version]}, node" node http $(under_thaw "$version") node "$counters" map "$mib" -
	done
	if [ -e "$root/build/npm-exec/node_modules/better-sqlite3/build/Release/better_sqlite3.node" ]; then
		asked 'node + SQLite FULL, each request' node http node "$counters" sqlite "$mib" "$work/directory"
		asked 'node + SQLite FULL, each tick' node http node "$counters" sqlite-tick "$mib" "$work/directory"
	fi
	if command -v redis-server >/dev/null; then
		asked 'node + Redis, always' node http node "$counters" redis "$mib" "$work/directory"
	fi
	asked 'node, nothing durable' node http node "$counters" map "$mib" -
}

# redis_asked NAME SERVER...
redis_asked()
{
	local name=$1
	shift
	job "$name" - - "rm -rf $work/directory && mkdir $work/directory" \
		"$root/tests/bench/redis_requests" redis:_acknowledged "$mib" "$seconds" "$connections" "$@"
}

redis_jobs()
{
	local version

	command -v redis-server redis-benchmark >/dev/null || return 0
	for version in $versions; do
		# shellcheck disable=SC2046
		redis_asked "${thaw[$version]}, redis" $(under_thaw "$version") redis-server
	done
	redis_asked 'Redis, always' redis-server --appendonly yes --appendfsync always
	redis_asked 'Redis, nothing durable' redis-server
}

line_jobs()
{
	local lines=$build/tests/bench/lines version

	for version in $versions; do
		# shellcheck disable=SC2046
		asked "${thaw[$version]}, C" lines line $(under_thaw "$version") "$lines" memory "$mib" -
	done
	asked 'C + LMDB, each request' lines line "$lines" lmdb "$mib" "$work/directory/lmdb"
	asked 'C + LMDB, each round' lines line "$lines" lmdb-group "$mib" "$work/directory/lmdb"
	asked 'C, nothing durable' lines line "$lines" memory "$mib" -
}

all_jobs()
{
	node_jobs
	redis_jobs
	line_jobs
}

[ -e "$root/build/npm-exec/node_modules/better-sqlite3/build/Release/better_sqlite3.node" ] ||
	note "better-sqlite3 is not there: scripts/exec-programs npm (make check-exec does it)"
command -v redis-server redis-benchmark >/dev/null || note "Redis: not installed"
if [ $quick ]; then
	of 20 0.6 64
	{ node_jobs; redis_jobs; } | measure 2
elif [ "${MIB:-}" ]; then
	of "$MIB" "${SECONDS_EACH:-2}" "${CONNECTIONS:-1,16,64,256}"
	all_jobs | measure
else
	of 20 2 1,16,64,256
	all_jobs | measure
	of 1000 2 1,16,64,256
	all_jobs | measure 3
fi
