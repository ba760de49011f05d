/* Joins a port of the box's loopback to a unix socket: the one way out of a box without a network. */
#ifndef FORWARD_H
#define FORWARD_H

int forward(const char *address, const char *path);

#endif
