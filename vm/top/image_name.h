/* SPDX-License-Identifier: MIT */
/*
 * image_name.h - by which name the image of a program can be found now. One thread.
 *
 * An image is made without a name and linked to it when it is whole (uffd/image/newfile.c): for the
 * process that made it, the kernel then tells "DIRECTORY/#INODE (deleted)" for ever. So it is
 * looked for in that directory.
 */
#ifndef VM_TOP_IMAGE_NAME_H
#define VM_TOP_IMAGE_NAME_H

#include "programs.h"

/* Sets its place, path and link. 0; -ENOMEM. */
int image_name_update(struct running_program *program);

#endif
