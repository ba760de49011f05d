/* Connections: bytes in and out of sockets, and answers to requests, also much later than they came. */
#ifndef CONNECTION_H
#define CONNECTION_H

#include "loop.h"
#include "request.h"
#include "session.h"

struct connection {
    struct connection *next;
    struct watch in, out; /* for a socket `out` is a descriptor of its own, made by dup */
    struct session session;
    struct bytes input, output;
    uint64_t since_ms;
    bool lasting; /* standard input and output: never closed for being strange */
    bool closing; /* to be closed when `output` is sent */
    bool dead;    /* to be freed before the next event */
};

/* Where a reply goes. */
struct address {
    struct connection *connection;
    uint32_t request;
    uint8_t kind;
};

struct reply {
    struct connection *connection;
    struct writer writer;
};

/* Greet and serve who came. The descriptors belong to the connection. */
void connection_open(int in, int out, bool lasting);
/* Send what is to be sent, close what is to be closed, tell strangers to go. Returns when to be called again. */
uint64_t connections_tend(void);
/* Wait, at most `patience_ms`, until everything is sent; for the end of the agent. */
void connections_drain(uint64_t patience_ms);

void reply_begin(struct reply *reply, struct address to);
/* False where there was no memory for it: then the connection is closed. */
bool reply_end(struct reply *reply, enum status status);
void reply_plain(struct address to, enum status status, const char *message);
/* STATUS_SYSTEM and an error number. */
void reply_error(struct address to, int error);
/* Room for data that a reply may still carry before the peer has to read. */
size_t connection_room(const struct connection *connection);

#endif
