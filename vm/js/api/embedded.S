/* SPDX-License-Identifier: MIT */
/* The JavaScript that is part of the binary, without comments and indentation (vm/engine.mk). Assembled from the repository's top. */
	.macro embed name, path
	.global js_\name\()_start
	.global js_\name\()_end
	.balign 16
js_\name\()_start:
	.incbin "build/js/\path"
js_\name\()_end:
	.byte 0
	.endm

	.section .rodata
	embed primordials, vm/js/api/primordials.js
	embed errors, vm/js/api/errors.js
	embed later, vm/js/api/later.js
	embed inspect, vm/js/api/inspect.js
	embed format, vm/js/api/format.js
	embed console, vm/js/api/console.js
	embed timers, vm/js/api/timers.js
	embed web, vm/js/api/web.js
	embed hot, vm/js/api/hot.js
	embed table, vm/js/api/table.js
	embed structured_clone, vm/js/api/structured_clone.js
	embed events, vm/js/api/events.js
	embed messages, vm/js/api/messages.js
	embed blob, vm/js/api/blob.js
	embed url, vm/js/api/url.js
	embed streams, vm/js/api/streams.js
	embed compression, vm/js/api/compression.js
	embed performance, vm/js/api/performance.js
	embed navigator, vm/js/api/navigator.js
	embed files, vm/js/api/files.js
	embed der, vm/js/api/der.js
	embed crypto, vm/js/api/crypto.js
	embed shell, vm/js/api/shell.js
	embed crypto_algorithms, vm/js/api/crypto_algorithms.js
	embed prelude, vm/js/api/prelude.js
	embed thaw_module, vm/js/api/thaw.js

	.section .note.GNU-stack, "", @progbits
