/* Who may speak: the claim of the agent, and per connection the keys and counters that follow from it.
   Reads no clock, draws no randomness and does no I/O. */
#ifndef SESSION_H
#define SESSION_H

#include "sha256.h"
#include "wire.h"

/* The one claim of an agent: made once, never changed. */
struct claim {
    bool made;
    uint8_t id[CLAIM_LIMIT];
    size_t id_size;
    uint8_t key[KEY_SIZE];
    uint64_t lease_ms, deadline_ms;
};

/* One connection: untrusted until it bound the agent or proved that it has the key. */
struct session {
    bool trusted;
    uint8_t nonce[NONCE_SIZE];
    uint8_t key_in[KEY_SIZE], key_out[KEY_SIZE];
    uint64_t counter_in, counter_out;
};

enum verdict {
    VERDICT_PASS,   /* a frame of who holds the claim: to be performed */
    VERDICT_JOINED, /* BIND or RESUME was right: to be answered with STATUS_OK */
    VERDICT_REFUSE, /* to be answered with *status, and the connection closed */
};

/* Judge a frame; the lease is renewed by every frame that is not refused. */
enum verdict session_judge(struct session *session, struct claim *claim, const struct frame *frame, uint64_t now_ms,
                           uint16_t *status);

/* Complete a frame: counter and tag where the connection is trusted. */
void session_send(struct session *session, struct writer *writer, uint16_t status);

void session_derive(const struct claim *claim, const uint8_t *agent_nonce, const uint8_t *client_nonce,
                    uint8_t key_to_agent[KEY_SIZE], uint8_t key_from_agent[KEY_SIZE]);

#endif
