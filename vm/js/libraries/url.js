// SPDX-License-Identifier: MIT
//
// url.js - the library whatwg-url, for api/url.js. What it takes of other libraries is replaced (libraries.mk): of IDNA, which is
// large, by what is loaded with the first domain that needs it; of encodings by the one that URLs have.
import wrapper from 'whatwg-url/webidl2js-wrapper.js';

const world = { Array, Object, Promise, String, TypeError };
wrapper.URL.install(world, ['Window']);
wrapper.URLSearchParams.install(world, ['Window']);
export const { URL, URLSearchParams } = world;
