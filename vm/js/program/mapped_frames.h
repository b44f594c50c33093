/* SPDX-License-Identifier: MIT */
/*
 * mapped_frames.h - stacks name the places of the sources, where a module has a source map.
 */
#ifndef VM_JS_PROGRAM_MAPPED_FRAMES_H
#define VM_JS_PROGRAM_MAPPED_FRAMES_H

#include "program.h"

/*
 * `frames`: of an error, as the engine has them. The same with the places of the sources, malloc'ed; NULL: no module
 * among them has a map, or what it says cannot be told.
 */
char *mapped_frames(struct program *program, const char *frames);

#endif
