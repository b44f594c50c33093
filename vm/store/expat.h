/* SPDX-License-Identifier: MIT */
/* expat.h - the functions of expat, which parses what a store answers (XML), in a table: expat.NAME is XML_NAME. libcurl_load()
 * fills it. */
#ifndef VM_STORE_EXPAT_H
#define VM_STORE_EXPAT_H

#include <expat.h>

#define EXPAT_FUNCTIONS(F)            \
	F(ParserCreate)               \
	F(SetUserData)                \
	F(SetElementHandler)          \
	F(SetCharacterDataHandler)    \
	F(SetStartDoctypeDeclHandler) \
	F(StopParser)                 \
	F(Parse)                      \
	F(ParserFree)

struct expat {
#define EXPAT_POINTER(name) __typeof__(XML_##name) *name;
	EXPAT_FUNCTIONS(EXPAT_POINTER)
#undef EXPAT_POINTER
};
extern struct expat expat;

#endif
