/* SPDX-License-Identifier: MIT */
/*
 * embedded.h - the JavaScript that is part of the binary (embedded.S).
 */
#ifndef VM_JS_EMBEDDED_H
#define VM_JS_EMBEDDED_H

#define EMBEDDED(name) extern const char js_##name##_start[], js_##name##_end[]
/* What makes a fresh VM, in the order of install_prelude.c. */
EMBEDDED(primordials);
EMBEDDED(errors);
EMBEDDED(later);
EMBEDDED(inspect);
EMBEDDED(format);
EMBEDDED(console);
EMBEDDED(timers);
EMBEDDED(web);
EMBEDDED(hot);
EMBEDDED(table);
EMBEDDED(structured_clone);
EMBEDDED(events);
EMBEDDED(messages);
EMBEDDED(blob);
EMBEDDED(url);
EMBEDDED(streams);
EMBEDDED(compression);
EMBEDDED(performance);
EMBEDDED(navigator);
EMBEDDED(files);
EMBEDDED(der);
EMBEDDED(crypto);
EMBEDDED(shell);
EMBEDDED(crypto_algorithms);
EMBEDDED(prelude);
EMBEDDED(thaw_module); /* thaw.js: the module "thaw" */
#undef EMBEDDED

#endif
