# SPDX-License-Identifier: MIT
#
# apt.sh - for scripts that use apt beside others who do (sourced): waits for its locks, where apt-get does not. A lock of
# dpkg's it can wait for (DPkg::Lock::Timeout), those of the lists and of the archives it cannot: `update`, and `install`
# with something to fetch, fail at once. `download` and apt-cache take none: while another one brings the lists up to
# date they may find nothing.

apt_seconds=900 # a large installation on a busy machine

# Is another one at the lists? Those in other containers are not seen here; then it is as if there were no such lock.
apt_lists_locked()
{
	local lock

	lock=$(stat -c %i /var/lib/apt/lists/lock 2>/dev/null) && grep -q ":$lock " /proc/locks 2>/dev/null
}

# Until nobody changes the lists.
apt_wait_for_lists()
{
	local end=$((SECONDS + apt_seconds))

	while apt_lists_locked && [ $SECONDS -lt $end ]; do
		sleep 1
	done
}

# apt_run COMMAND... - an apt-get command, what it says on stdout, and again for as long as another one has its lock.
apt_run()
{
	local end=$((SECONDS + apt_seconds)) said status

	while :; do
		status=0
		said=$(LC_ALL=C "$@" 2>&1) || status=$?
		if [ $status = 0 ] || [ $SECONDS -ge $end ] ||
			! grep -qE '^E: (Could not get lock|.*is another process using it\?)' <<<"$said"; then
			printf '%s\n' "$said"
			return $status
		fi
		sleep 2
	done
}
