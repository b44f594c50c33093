# SPDX-License-Identifier: MIT
#
# apt.sh - sourced by scripts that use apt while others may use it, too: waits for its locks where apt-get does not.
# apt-get can wait for the lock of dpkg (DPkg::Lock::Timeout), but not for those of the package lists and archives:
# `update`, and an `install` that has to download something, fail at once. `download` and apt-cache take no lock: while
# another process updates the lists, they may find nothing.

apt_seconds=900 # a large installation on a busy machine

# Does another process hold the lock of the lists? Processes in other containers are not seen; then: no.
apt_lists_locked()
{
	local lock

	lock=$(stat -c %i /var/lib/apt/lists/lock 2>/dev/null) && grep -q ":$lock " /proc/locks 2>/dev/null
}

# Wait until no process changes the lists.
apt_wait_for_lists()
{
	local end=$((SECONDS + apt_seconds))

	while apt_lists_locked && [ $SECONDS -lt $end ]; do
		sleep 1
	done
}

# apt_run COMMAND... - run an apt-get command, its messages on stdout, again for as long as another process has its lock.
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
