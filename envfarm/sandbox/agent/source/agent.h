/* What there is one of in an agent. */
#ifndef AGENT_H
#define AGENT_H

#include "connection.h"
#include "spawn.h"

struct agent {
    struct claim claim;
    uint8_t instance[NONCE_SIZE];
    uint64_t facts;
    struct inheritance inheritance;
    bool ending;
    int exit_code;
    bool answers_end;      /* an END waits for its reply */
    struct address end_at;
};

extern struct agent agent;

/* Kill everything; the loop ends when nothing is left. Only the first call counts. */
void agent_end(int exit_code);

/* Perform a trusted request. */
void dispatch(struct address from, const struct frame *frame);

/* Handlers, by subject. */
void job_request(struct address from, const struct request *request);
void file_request(struct address from, const struct request *request, struct span bulk);

#endif
