# shellcheck shell=bash
# store - a program whose image is in an object store goes on on a machine that has nothing of it, over a line of 1 Gbit/s and 30 ms
# (link.c; needs root): ms to its first result, against pulling all of it first; and generations a second that a store has.
# The store is the one of the tests. THAW_TEST_STORE=s3://BUCKET/PREFIX and AWS_*: rates of that one, and no line.

store()
{
	local mib=$1 here=thaw-a-$$ there=thaw-b-$$ place=s3://test/heap server='' link='' run=''

	cat >"$work/heap.js" <<END
import { on } from 'thaw'
$(cat "$root/tests/bench/heap_builder.js")
if (!globalThis.table.length) build($mib * 1048576)
on('restore', () => console.log(lookup(1234)))
setInterval(() => {}, 1000000)
console.log('built')
END
	cat >"$work/noise.py" <<END
import os, time
pages = bytearray(b"".join(os.urandom(1 << 20) for _ in range($mib)))
print('built', flush=True)
while True: time.sleep(0.02); print(pages[123 << 12], flush=True)
END
	cat >"$work/rate.js" <<'END'
import { checkpoint } from 'thaw'
const rows = Array.from({ length: 1000 }, (_, i) => ({ i, n: 0 }))
for (let n = 0; ; n++) { rows[n * 7919 % 1000].n = n; await checkpoint() }
END
	if [ -z "${THAW_TEST_STORE-}" ]; then
		export AWS_ACCESS_KEY_ID=thaw-test AWS_SECRET_ACCESS_KEY=thaw/test+secret AWS_EC2_METADATA_DISABLED=true
		export AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_CONFIG_FILE=/dev/null
		mkdir "$work/objects" "$work/empty"
		mkfifo "$work/hold"
		sleep 100000 >"$work/hold" & local holder=$!
		if ip netns add "$here" 2>/dev/null && ip netns add "$there"; then
			ip -n "$here" link set lo up
			ip -n "$there" link set lo up
			run="ip netns exec $there"
			"$build/tests/bench/link" "$here" "$there" 15 1000 <"$work/hold" >"$work/link.out" & link=$!
			until grep -q ready "$work/link.out"; do kill -0 $link || break; sleep 0.1; done
			ip netns exec "$here" "$build/tests/store-server" "$work/objects" 9711 0 0.0.0.0 <"$work/hold" >/dev/null & server=$!
		else
			note "a program from an object store over a line: needs root, for network namespaces"
		fi
		[ "$run" ] || { "$build/tests/store-server" "$work/objects" 9711 <"$work/hold" >/dev/null & server=$!; }
		export AWS_ENDPOINT_URL=http://127.0.0.1:9711
		sleep 1
	fi
	{
		if [ "$run" ]; then
			HOME=$work/empty "$build/thaw" run --every 0 --image "$work/heap.thaw" "$work/heap.js" >"$work/built" & local maker=$!
			until grep -q built "$work/built"; do kill -0 $maker || break; sleep 0.2; done
			kill -TERM $maker; wait $maker || true
			ip netns exec "$here" "$build/thaw" push -q "$work/heap.thaw" $place >&2
			HOME=$work/empty "$build/thaw" exec --every 0 --image "$work/noise.thaw" python3 "$work/noise.py" >"$work/built" & maker=$!
			until grep -q built "$work/built"; do kill -0 $maker || break; sleep 0.2; done
			"$build/thaw" checkpoint "$work/noise.thaw" >&2
			kill -KILL $maker; wait $maker 2>/dev/null || true
			ip netns exec "$here" "$build/thaw" push -q "$work/noise.thaw" s3://test/noise >&2
			for mode in lazy whole; do
				for what in heap.js noise.py; do
					[ $what = heap.js ] && local row="$mib MiB of JavaScript" || row="$mib MiB of random bytes (Python)"
					job "Thaw, $mode" 'an object store: start to first result' "$row" '' $run env AWS_ENDPOINT_URL=http://10.99.0.1:9711 \
						"$build/tests/bench/store" $mode "$build/thaw" s3://test/${what%.*} "$work/$what" "$work/home"
				done
			done
		fi
		for programs in 1 8; do
			job Thaw 'an object store: durable remote' "$programs programs" '' ${run:+ip netns exec $here} \
				"$build/tests/bench/store" rate "$build/thaw" "${THAW_TEST_STORE:-s3://test}/rate" "$work/rate.js" "$work/home" $programs 5
		done
	} >"$work/store.jobs"
	measure <"$work/store.jobs"
	kill $server $link ${holder-} 2>/dev/null || true
	[ -z "$run" ] || { ip netns del "$here"; ip netns del "$there"; }
}

if [ $quick ]; then store 256; else store 1024; fi
