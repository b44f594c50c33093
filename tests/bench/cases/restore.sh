# shellcheck shell=bash
# restore - memory that was in a file is there again, and a program works on it: ms from the exec to the end of the work
# (walk.c). Warm: all of the file is in the page cache; cold: none of it.

heap_name() { [ "$1" -lt 1024 ] && echo "$1 MiB" || echo "$(($1 / 1024)) GiB"; }

# ways_of PATTERN: of the competitors, what makes sense for it.
ways_of()
{
	case $1 in
	order) echo mmap mmap-populate read direct none working-set all restore lazy ;;
	written) echo mmap mmap-populate read none all restore lazy ;;
	lookups) echo mmap mmap-random none all ;;
	random10) echo mmap mmap-random mmap-populate read none working-set compacted all restore lazy ;;
	*) echo mmap mmap-random mmap-populate read none working-set all restore lazy ;;
	esac
}

declare -A titles=([first]='the first page' [random1]='1 % at random' [random10]='10 % at random' [order]='all in order'
	[written]='all written' [lookups]='2,000 lookups')
declare -A names=([mmap]='mmap' [mmap-random]='mmap, MADV_RANDOM' [mmap-populate]='mmap, MAP_POPULATE' [read]='read()'
	[direct]='disk (O_DIRECT)' [restore]='CRIU' [lazy]='CRIU, lazy pages')
criu=${CRIU:-criu}
if ! command -v "$criu" >/dev/null; then
	criu=
	note "CRIU: not installed (CRIU=/path/to/criu)"
elif ! "$criu" check >"$work/check" 2>&1; then
	note "CRIU: $("$criu" --version | head -n 1) fails its own check on Linux $(uname -r): $(grep -m 1 Error "$work/check")"
	criu=
fi

# jobs MIB PATTERN TEMPERATURE
jobs()
{
	local mib=$1 pattern=$2 temperature=$3 way version image

	for way in $(ways_of "$pattern"); do
		case $way in
		none | all | working-set)
			for version in $versions; do
				image=$work/$version.thaw
				[ $way != working-set ] || image=$work/$version.$pattern.thaw
				one "${thaw[$version]}, $way" "$image" "${build_of[$version]}/tests/bench/walk" $way "$pattern" "$image"
			done
			;;
		compacted) # the working set lies together
			for version in $versions; do
				image=$work/$version.$pattern.compacted.thaw
				one "${thaw[$version]}, working-set, compacted" "$image" "${build_of[$version]}/tests/bench/walk" working-set "$pattern" "$image"
			done
			;;
		restore | lazy) one "${names[$way]}" "$work/criu.$pattern/pages-1.img" "$root/tests/bench/criu" $way "$work/criu.$pattern" ;;
		*) one "${names[$way]}" "$work/raw" "$build/tests/bench/walk" $way "$pattern" "$work/raw" ;;
		esac
	done
}

# one COMPETITOR FILE COMMAND...: a job that reads the file, if that is there.
one()
{
	local prepare= file=$2

	[ -f "$file" ] || return 0
	[ "$temperature" = warm ] || prepare="$build/tests/bench/walk forget $file"
	job "$1" "restore of $(heap_name "$mib"), $temperature" "${titles[$pattern]}" "$prepare" "${@:3}"
}

# restore MIB PATTERN...: those of the files are made, the working sets recorded.
restore()
{
	local mib=$1 pattern version walk

	shift
	$quickly "$build/tests/bench/walk" make-raw "$work/raw" $((mib << 20))
	for version in $versions; do
		walk=${build_of[$version]}/tests/bench/walk
		$quickly "$walk" make-thaw "$work/$version.thaw" $((mib << 20))
		for pattern in "$@"; do
			case $pattern in first | random*) ;; *) continue ;; esac
			[ "$mib" -le 1024 ] || continue
			cp "$work/$version.thaw" "$work/$version.$pattern.thaw"
			$quickly "$walk" record "$pattern" "$work/$version.$pattern.thaw"
			[ "$pattern" = random10 ] || continue
			cp "$work/$version.$pattern.thaw" "$work/$version.$pattern.compacted.thaw"
			$quickly "${build_of[$version]}/thaw" compact "$work/$version.$pattern.compacted.thaw" >/dev/null
		done
	done
	for pattern in "$@"; do
		[ "$criu" ] && [ "$mib" -le 1024 ] && [ $pattern != lookups ] || continue
		$quickly "$root/tests/bench/criu" dump "$work/criu.$pattern" "$pattern" "$work/raw"
	done
	cat "$work/raw" "$work"/*.thaw >/dev/null
	# Of more than the page cache has room for, nothing is warm.
	[ "$mib" -gt 4096 ] || for pattern in "$@"; do jobs "$mib" "$pattern" warm; done | WARM=1 measure
	sync
	for pattern in "$@"; do jobs "$mib" "$pattern" cold; done | measure $(((rounds + 1) / 2))
	rm -rf "${work:?}"/*
}

if [ $quick ]; then
	restore 256 first random1 random10 order written
elif [ "${MIB:-}" ]; then
	restore "$MIB" ${PATTERNS:-first random1 random10 order written lookups}
else
	restore 256 first random1 random10 order written lookups
	restore 1024 first random1 random10 order written lookups
	room_for 8000 10000 && restore 3072 first random1 order
	if room_for 15000 40000; then restore 12288 first random1; else note "12 GiB: not enough memory for it (15 GB) or disk (40 GB)"; fi
fi
