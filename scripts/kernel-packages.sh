# SPDX-License-Identifier: MIT
#
# kernel-packages.sh - sourced by scripts/kernels and scripts/kernel-headers: which of Debian's packages are the kernel
# that a guest boots, and the headers that a module for it is built against. Both are unpacked below build/kernels, not
# installed: linux-headers would install the kernel's image, too, and make an initramfs of this machine for it.
#
#	build/kernels/PACKAGE/vmlinuz		of linux-image
#	build/kernels/PACKAGE/version		of the package
#	build/kernels/PACKAGE/build		KDIR; a link into headers/
#	build/kernels/PACKAGE/headers/		linux-headers, linux-headers-...-common, linux-kbuild
#	build/kernels/PACKAGE/no-headers	why there are none, in one line
#
# Expects $root and $work, and scripts/apt.sh. scripts/kernel-debug leaves a directory of the same shape.

# Sets what is known of a kernel by its name: a series of Debian's, arm64:SERIES, arm64:SERIES-16k, or debug.
describe_package()
{
	unset APT_CONFIG
	package='' number=''
	case $1 in
	arm64:*)
		number=${1#*:} flavour=cloud-arm64 update="rm -r build/arm64-debian, and make arm64,"
		export APT_CONFIG=$root/build/arm64-debian/apt/apt.conf # scripts/arm64-sysroot
		case $number in *-16k) number=${number%-16k} flavour=arm64-16k ;; esac ;;
	debug) package=debug ;;
	*) number=$1 flavour=cloud-amd64 update="apt-get update" ;;
	esac
}

# The version of the kernel in a package that is unpacked, as uname -r there says it.
release_of()
{
	if [ "$1" = debug ]; then
		cat "$work/debug/release"
	else
		echo "${1#linux-image-}"
	fi
}

# The newest package of a series that apt offers, or that is unpacked already.
package_of()
{
	local pattern="^linux-image-${number//./\\.}\.[^ ]*-$flavour$"

	{ apt-cache pkgnames "linux-image-$number." 2>/dev/null; ls "$work" 2>/dev/null; } |
		grep -E "$pattern" | sort -uV | tail -n 1
}

# download DIRECTORY PACKAGE[=VERSION]: into the directory; on failure, says why on stdout.
download()
{
	(cd "$1" && apt_run apt-get -qq download "$2") >"$1/log" 2>&1 && return
	grep -m 1 '^E:' "$1/log" || echo "apt-get download $2 failed"
	return 1
}

# Leaves build/kernels/PACKAGE/vmlinuz; on failure, says why on stdout.
fetch()
{
	local into=$work/$1 part

	[ ! -s "$into/vmlinuz" ] || return 0
	part=$(mktemp -d "$work/download.XXXXXX") || return 1
	if download "$part" "$1"; then
		if ! dpkg-deb --fsys-tarfile "$part"/*.deb | tar -x -C "$part" --wildcards './boot/vmlinuz-*'; then
			echo "there is no kernel in the package $1"
		else
			mkdir -p "$into"
			dpkg-deb -f "$part"/*.deb Version >"$into/version"
			mv "$part"/boot/vmlinuz-* "$into/vmlinuz"
		fi
	fi
	rm -rf "$part"
	[ -s "$into/vmlinuz" ]
}

# What the headers' package (a file) needs of the kernel's other packages: NAME, or NAME=VERSION, a line each.
headers_need()
{
	dpkg-deb -f "$1" Depends | tr ',' '\n' |
		sed -nE 's/^ *(linux-(headers-[^ ]*-common|kbuild-[^ ]*)) \(= ([^)]*)\)$/\1=\3/p; t
			s/^ *(linux-(headers-[^ ]*-common|kbuild-[^ ]*))( .*)?$/\1/p'
}

# fetch_headers PACKAGE, that of an image: leaves build/kernels/PACKAGE/build; on failure, says why on stdout. A module
# fits only the kernel whose headers it was built with, so they are of the image's version, or there are none.
fetch_headers()
{
	local into=$work/$1 release=${1#linux-image-} part headers need file

	[ ! -s "$into/build/Module.symvers" ] || return 0
	headers=linux-headers-$release
	[ ! -s "$into/version" ] || headers+="=$(cat "$into/version")"
	part=$(mktemp -d "$work/download.XXXXXX") || return 1
	mkdir "$part/headers"
	if download "$part" "$headers"; then
		for need in $(headers_need "$part"/linux-headers-*.deb); do
			download "$part" "$need" || { rm -rf "$part"; return 1; }
		done
		for file in "$part"/*.deb; do
			dpkg-deb -x "$file" "$part/headers" || { echo "cannot unpack ${file##*/}"; rm -rf "$part"; return 1; }
		done
		# The only absolute path in them.
		sed -i 's,^include /usr/src/,include $(dir $(lastword $(MAKEFILE_LIST)))../,' \
			"$part/headers/usr/src/linux-headers-$release/Makefile"
		rm -rf "$into/headers"
		mv "$part/headers" "$into/headers"
		ln -sfn "headers/usr/src/linux-headers-$release" "$into/build"
	fi
	rm -rf "$part"
	[ -s "$into/build/Module.symvers" ]
}
