/* Where connections come from. */
#ifndef LISTEN_H
#define LISTEN_H

#include <stdbool.h>
#include <sys/socket.h>

/* Listen, and say "ready unix" or "ready tcp PORT" in a line on standard output. */
bool listen_unix(const char *path);
/* `where` is ADDRESS:PORT, an address of version 6 in brackets; port 0 is chosen by the kernel. */
bool listen_tcp(const char *where);
bool listen_read_address(const char *where, struct sockaddr_storage *address, socklen_t *size);
/* Take no more connections; removes the socket's path. */
void listen_end(void);

#endif
