// SPDX-License-Identifier: MIT
//
// url.js - URL and URLSearchParams: the library whatwg-url.
//
// Called when it is first needed (later.js).
(function (host, parts) {
	'use strict';

	const { URL, URLSearchParams } = parts.library('url');
	parts.late.URL = URL;
	parts.late.URLSearchParams = URLSearchParams;
})
