#include "session.h"

#include <string.h>

enum { LONGEST_LEASE_MS = 30 * 24 * 3600 * 1000U };

/* What BIND and RESUME carry. */
struct joining {
    struct span claim, key, nonce;
    uint64_t lease_ms;
};

static void hmac_of_text(const uint8_t *key, const char *text, uint8_t tag[32]) {
    struct hmac mac;
    hmac_begin(&mac, key, KEY_SIZE);
    hmac_add(&mac, text, strlen(text));
    hmac_end(&mac, tag);
}

void session_derive(const struct claim *claim, const uint8_t *agent_nonce, const uint8_t *client_nonce,
                    uint8_t key_to_agent[KEY_SIZE], uint8_t key_from_agent[KEY_SIZE]) {
    uint8_t base[KEY_SIZE];
    struct hmac mac;
    hmac_begin(&mac, claim->key, KEY_SIZE);
    hmac_add(&mac, "envfarm agent 1", 15);
    hmac_add(&mac, agent_nonce, NONCE_SIZE);
    hmac_add(&mac, client_nonce, NONCE_SIZE);
    hmac_add(&mac, claim->id, claim->id_size);
    hmac_end(&mac, base);
    hmac_of_text(base, "to agent", key_to_agent);
    hmac_of_text(base, "from agent", key_from_agent);
}

static bool read_joining(const struct frame *frame, struct joining *joining) {
    struct span fields = frame->fields;
    struct field field;
    bool malformed = false;
    *joining = (struct joining){0};
    while (field_next(&fields, &field, &malformed)) {
        if (field.tag == FIELD_CLAIM && joining->claim.at == NULL)
            joining->claim = field.value;
        else if (field.tag == FIELD_KEY && joining->key.at == NULL)
            joining->key = field.value;
        else if (field.tag == FIELD_NONCE && joining->nonce.at == NULL)
            joining->nonce = field.value;
        else if (field.tag == FIELD_LEASE_MS && joining->lease_ms == 0)
            malformed |= !span_number(field.value, LONGEST_LEASE_MS, &joining->lease_ms) || joining->lease_ms == 0;
        else if (field.tag < FIELD_MAY_BE_IGNORED)
            malformed = true;
    }
    size_t key_size = frame->kind == KIND_BIND ? KEY_SIZE : 0;
    return !malformed && joining->claim.size >= 1 && joining->claim.size <= CLAIM_LIMIT && joining->lease_ms > 0 &&
           joining->nonce.size == NONCE_SIZE && joining->key.size == key_size && frame->bulk.size == 0;
}

static bool is_holder(const struct claim *claim, struct span id) {
    return claim->made && claim->id_size == id.size && memcmp(claim->id, id.at, id.size) == 0;
}

static void make_claim(struct claim *claim, const struct joining *joining) {
    claim->made = true;
    claim->id_size = joining->claim.size;
    memcpy(claim->id, joining->claim.at, joining->claim.size);
    memcpy(claim->key, joining->key.at, KEY_SIZE);
}

static bool tag_is_right(const uint8_t *key, const struct frame *frame) {
    struct hmac mac;
    uint8_t tag[TAG_SIZE];
    if ((frame->flags & FLAG_TAGGED) == 0)
        return false;
    hmac_begin(&mac, key, KEY_SIZE);
    hmac_add(&mac, frame->covered.at, frame->covered.size);
    hmac_end(&mac, tag);
    return equal_in_constant_time(tag, frame->tag.at, TAG_SIZE);
}

static uint16_t join(struct session *session, struct claim *claim, const struct frame *frame, uint64_t now_ms) {
    struct joining joining;
    if (!read_joining(frame, &joining) || (frame->kind == KIND_BIND) == ((frame->flags & FLAG_TAGGED) != 0))
        return STATUS_MALFORMED;
    if (frame->counter != 0)
        return STATUS_BAD_COUNTER;
    if (frame->kind == KIND_RESUME && !claim->made)
        return STATUS_NOT_BOUND;
    if (claim->made && !is_holder(claim, joining.claim))
        return STATUS_HELD;
    if (frame->kind == KIND_BIND && claim->made && !equal_in_constant_time(claim->key, joining.key.at, KEY_SIZE))
        return STATUS_HELD;
    if (!claim->made)
        make_claim(claim, &joining);
    session_derive(claim, session->nonce, joining.nonce.at, session->key_in, session->key_out);
    if (frame->kind == KIND_RESUME && !tag_is_right(session->key_in, frame))
        return STATUS_BAD_TAG;
    session->trusted = true;
    session->counter_in = frame->kind == KIND_RESUME ? 1 : 0;
    claim->lease_ms = joining.lease_ms;
    claim->deadline_ms = now_ms + claim->lease_ms;
    return STATUS_OK;
}

enum verdict session_judge(struct session *session, struct claim *claim, const struct frame *frame, uint64_t now_ms,
                           uint16_t *status) {
    if (!session->trusted) {
        bool joins = frame->kind == KIND_BIND || frame->kind == KIND_RESUME;
        *status = joins ? join(session, claim, frame, now_ms) : STATUS_NOT_BOUND;
        return *status == STATUS_OK ? VERDICT_JOINED : VERDICT_REFUSE;
    }
    if (!tag_is_right(session->key_in, frame)) {
        *status = STATUS_BAD_TAG;
        return VERDICT_REFUSE;
    }
    if (frame->counter != session->counter_in) {
        *status = STATUS_BAD_COUNTER;
        return VERDICT_REFUSE;
    }
    session->counter_in++;
    claim->deadline_ms = now_ms + claim->lease_ms;
    *status = STATUS_OK;
    return VERDICT_PASS;
}

void session_send(struct session *session, struct writer *writer, uint16_t status) {
    if (!session->trusted) {
        frame_end(writer, status, 0, false);
        return;
    }
    uint8_t *header = frame_end(writer, status, session->counter_out, true);
    if (header == NULL)
        return;
    struct hmac mac;
    hmac_begin(&mac, session->key_out, KEY_SIZE);
    hmac_add(&mac, header, frame_covered(header));
    hmac_end(&mac, header + frame_size(writer) - TAG_SIZE);
    session->counter_out++;
}
