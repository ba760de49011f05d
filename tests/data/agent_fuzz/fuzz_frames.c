/* A libFuzzer target for all that the agent does with bytes from outside before it acts on them: frames, joining,
   tags, counters, requests, entries, and what is kept of output.

   The first byte of an input chooses. Even: the rest is what a stranger sends. Odd: the rest is a row of frames of the
   holder, each behind 2 bytes with its size; their size, flag, counter and tag are put right, so that the fuzzer gets
   past the tag. */
#include <stdlib.h>
#include <string.h>

#include "output.h"
#include "plan.h"
#include "session.h"

static void demand(bool claim) {
    if (!claim)
        abort();
}

static void take_request(const struct frame *frame) {
    static struct request request, entry;
    struct span rest, value;
    struct plan plan;
    if (!request_known(frame->kind) || !request_read(frame->kind, frame->fields, &request))
        return;
    for (rest = request.fields; request_each(&rest, FIELD_ENTRY, &value);)
        if (request_read(KIND_ENTRY, value, &entry))
            demand(entry.value[FIELD_PATH].size > 0 && entry.value[FIELD_PATH].size < PATH_LIMIT);
    if (frame->kind == KIND_START && plan_read(&request, &plan) == STATUS_OK) {
        demand(plan.arguments[0] != NULL && plan.folder[0] == '/');
        for (char **word = plan.arguments; *word != NULL; word++)
            demand(strlen(*word) <= request.fields.size);
        for (char **word = plan.variables; *word != NULL; word++)
            demand(strchr(*word, '=') != NULL);
        plan_free(&plan);
    }
}

static void keep_output(const uint8_t *data, size_t size) {
    struct output output;
    uint64_t offset = 0, seen = 0;
    size_t limit = size > 0 ? data[0] : 0;
    output_open(&output, limit, size % 2 == 0);
    for (size_t at = 0, part; at < size; at += part) {
        part = data[at] % 40 + 1;
        part = part < size - at ? part : size - at;
        output_add(&output, data + at, part);
    }
    demand(output.total == size && size - output_dropped(&output) <= limit);
    for (struct span part; (part = output_peek(&output, &offset)).size > 0; offset += part.size) {
        demand(memcmp(part.at, data + offset, part.size) == 0);
        seen += part.size;
    }
    demand(seen + output_dropped(&output) == output.total);
    output_free(&output);
}

/* Whether the connection stays open. */
static bool take_frame(struct session *session, struct claim *claim, const struct frame *frame, struct bytes *out) {
    uint16_t status = 0;
    bool trusted = session->trusted;
    enum verdict verdict = session_judge(session, claim, frame, 1, &status);
    demand((verdict == VERDICT_REFUSE) == (status != STATUS_OK));
    demand(verdict != VERDICT_PASS || trusted);
    if (verdict == VERDICT_PASS)
        take_request(frame);
    struct writer writer;
    frame_begin(&writer, out, frame->kind | KIND_REPLY, frame->request);
    field_number(&writer, FIELD_ERRNO, 1);
    frame_fields_end(&writer);
    session_send(session, &writer, status);
    demand(!writer.failed);
    return verdict != VERDICT_REFUSE;
}

static void take_stream(struct session *session, struct claim *claim, struct span input, struct bytes *out) {
    struct frame frame;
    size_t size = 0;
    size_t limit = session->trusted ? FRAME_LIMIT : STRANGER_FRAME_LIMIT;
    while (frame_read(input, limit, &frame, &size) == PARSED_FRAME) {
        demand(size >= HEADER_SIZE && size <= input.size);
        if (!take_frame(session, claim, &frame, out))
            return;
        input.at += size;
        input.size -= size;
    }
}

/* Put right what a stranger could not, and take the frame. */
static void take_signed(struct session *session, struct claim *claim, uint8_t *data, size_t size, struct bytes *out) {
    struct hmac mac;
    struct frame frame;
    if (size < HEADER_SIZE + TAG_SIZE)
        return;
    write_number(data, size, 4);
    data[5] = FLAG_TAGGED;
    write_number(data + 16, session->counter_in, 8);
    size_t most = size - HEADER_SIZE - TAG_SIZE, fields = read_number(data + 12, 4);
    if (fields > most)
        write_number(data + 12, fields = most, 4);
    hmac_begin(&mac, session->key_in, KEY_SIZE);
    hmac_add(&mac, data, HEADER_SIZE + fields);
    hmac_end(&mac, data + size - TAG_SIZE);
    demand(frame_read((struct span){data, size}, FRAME_LIMIT, &frame, &size) == PARSED_FRAME);
    demand(take_frame(session, claim, &frame, out));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct claim claim = {.made = true, .id = "fuzz", .id_size = 4, .lease_ms = 1000};
    struct session session = {0};
    struct bytes out = {0};
    if (size == 0)
        return 0;
    bool holder = data[0] & 1;
    claim.made = data[0] & 2 || holder;
    uint8_t *copy = malloc(size);
    memcpy(copy, data, size);
    if (!holder) {
        take_stream(&session, &claim, (struct span){copy + 1, size - 1}, &out);
    } else {
        session.trusted = true;
        session_derive(&claim, session.nonce, session.nonce, session.key_in, session.key_out);
        for (size_t at = 1; at + 2 <= size;) {
            size_t part = read_number(copy + at, 2);
            at += 2;
            part = part < size - at ? part : size - at;
            take_signed(&session, &claim, copy + at, part, &out);
            at += part;
        }
    }
    keep_output(copy, size);
    free(copy);
    bytes_free(&out);
    return 0;
}
