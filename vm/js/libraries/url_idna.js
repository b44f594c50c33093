// SPDX-License-Identifier: MIT
//
// url_idna.js - tr46 as whatwg-url wants it: of plain domains the result is known without its tables.
export function toASCII(domain, options) {
	if (/^[\x00-\x7f]*$/.test(domain) && !options.useSTD3ASCIIRules && !/(^|\.)xn--/i.test(domain))
		return domain.toLowerCase();
	return need('idna').toASCII(domain, options);
}
