// SPDX-License-Identifier: MIT
//
// navigator.js - navigator: what runs here, as of this process.
//
// Called when it is first needed (later.js).
(function (host, parts) {
	'use strict';

	const { TypeError, freeze } = parts.primordials;
	const OURS = {};

	class Navigator {
		constructor(ours) {
			if (ours !== OURS)
				throw new TypeError('Illegal constructor');
		}
		get userAgent() { return host.about('userAgent'); }
		get hardwareConcurrency() { return host.about('processors'); }
		get platform() { return host.about('platform'); }
		get language() { return 'en-US'; }
		get languages() { return freeze(['en-US']); }
	}
	parts.expose(Navigator, 'Navigator');

	parts.late.Navigator = Navigator;
	parts.late.navigator = new Navigator(OURS);
})
