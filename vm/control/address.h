/* SPDX-License-Identifier: MIT */
/*
 * address.h - where a program that runs from an image can be spoken to.
 *
 * A Unix socket beside the image, IMAGE.ctl, for whoever sees that directory; and the same with an abstract name that is made
 * of the image's device and inode, for what a path cannot do: directories that cannot be written to, names that are too
 * long, images that were renamed. The abstract one is of the network namespace, and anybody can take such a
 * name: who connects looks at who listens, and says which image is meant.
 */
#ifndef VM_CONTROL_ADDRESS_H
#define VM_CONTROL_ADDRESS_H

#include <limits.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#define CONTROL_SUFFIX ".ctl"
#define CONTROL_ID_ROOM 48

/* "MAJOR:MINOR:INODE", hexadecimal: which image is meant, whatever it is called. */
void control_id(const struct stat *image, char id[CONTROL_ID_ROOM]);
socklen_t control_abstract_address(const char *id, struct sockaddr_un *address);

struct control_place {	     /* beside an image */
	int directory;	     /* AT_FDCWD; or open, for as long as the address is used */
	char name[PATH_MAX]; /* in it */
	struct sockaddr_un address;
	socklen_t length;
};
/* Follows symbolic links. 0; -ENAMETOOLONG: no address can hold it; -errno. */
int control_place_open(const char *image, struct control_place *place);
void control_place_close(struct control_place *place);

/* A socket that listens, and that its owner alone can connect to. In place of one of his that has that name. -errno. */
int control_listen_at(struct control_place *place, struct stat *made);
int control_listen_abstract(const char *id);
/* Remove it, if it is still the one that was made. */
void control_remove(const struct control_place *place, const struct stat *made);

/* May this peer ask: the user who runs the program, or root? */
bool control_may_ask(int fd);

#endif
