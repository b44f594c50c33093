# shellcheck shell=bash
# restore - memory that was in a file is there again, and a program works on it: ms from the exec to the end of the work
# (walk.c). Warm: all of the file is in the page cache; cold: none of it.

heap_name() { [ "$1" -lt 1024 ] && echo "$1 MiB" || echo "$(($1 / 1024)) GiB"; }

# ways_of PATTERN: of the competitors, what makes sense for it.
ways_of()
{
	case $1 in
	first) echo mmap mmap-random mmap-populate read none working-set all ;;
	order) echo mmap mmap-populate read direct none working-set all ;;
	written) echo mmap mmap-populate read none all ;;
	lookups) echo mmap mmap-random none all ;;
	*) echo mmap mmap-random mmap-populate read none working-set all ;;
	esac
}

declare -A titles=([first]='the first page' [random1]='1 % at random' [random10]='10 % at random' [order]='all in order'
	[written]='all written' [lookups]='2,000 lookups')
declare -A names=([mmap]='mmap' [mmap-random]='mmap, MADV_RANDOM' [mmap-populate]='mmap, MAP_POPULATE' [read]='read()'
	[direct]='disk (O_DIRECT)')

# jobs MIB PATTERN TEMPERATURE
jobs()
{
	local way version file prepare walk bench

	bench="restore of $(heap_name "$1"), $3"
	for way in $(ways_of "$2"); do
		[ "$way$3" != directwarm ] || continue
		for version in $versions; do
			walk=${build_of[$version]}/tests/bench/walk
			file=$work/$version.thaw
			case $way in
			none) ;;
			all) file=$work/$version.thaw ;;
			working-set) file=$work/$version.$2.thaw; [ -f "$file" ] || continue ;;
			*) [ $version = new ] || continue; file=$work/raw ;;
			esac
			prepare=
			[ $3 = warm ] || prepare="$walk forget $file"
			case $way in
			none | all | working-set) job "${thaw[$version]}, $way" "$bench" "${titles[$2]}" "$prepare" "$walk" $way "$2" "$file" ;;
			*) job "${names[$way]}" "$bench" "${titles[$2]}" "$prepare" "$walk" $way "$2" "$file" ;;
			esac
		done
	done
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
		done
	done
	cat "$work/raw" "$work"/*.thaw >/dev/null
	for pattern in "$@"; do jobs "$mib" "$pattern" warm; done | WARM=1 measure
	sync
	for pattern in "$@"; do jobs "$mib" "$pattern" cold; done | measure $(((rounds + 1) / 2))
	rm -f "$work"/*
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
