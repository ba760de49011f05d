/* Frames and fields, as PROTOCOL.md draws them. Reads no clock and does no I/O: this is what the fuzzer feeds. */
#ifndef WIRE_H
#define WIRE_H

#include "bytes.h"
#include "numbers.h"

struct frame {
    uint8_t kind, flags;
    uint16_t status;
    uint32_t request;
    uint64_t counter;
    struct span fields, bulk, tag;
    struct span covered; /* what the tag speaks for: header and fields */
};

struct field {
    uint8_t tag;
    struct span value;
};

enum parsed { PARSED_FRAME, PARSED_PARTLY, PARSED_MALFORMED, PARSED_TOO_LARGE };

/* Read the first frame of `input`, of at most `limit` bytes; *size tells how many bytes it takes.
   A header that is at fault is told as soon as it is there, with kind and request set. */
enum parsed frame_read(struct span input, size_t limit, struct frame *frame, size_t *size);

/* Take the next field off `fields`. False at the end, and where what is left is no field: then *malformed is set. */
bool field_next(struct span *fields, struct field *field, bool *malformed);

uint64_t read_number(const uint8_t *at, int size);
void write_number(uint8_t *at, uint64_t value, int size);

/* Whether the value is an integer (8 bytes) of at most `most`; sets *number. */
bool span_number(struct span value, uint64_t most, uint64_t *number);

/* A frame that is being written at the end of `out`. Where memory ends, `failed` is set and nothing is sent. */
struct writer {
    struct bytes *out;
    size_t start;    /* of the frame, counted from the front of what is left in `out` */
    size_t nested;   /* of the entry that is being written, as above; 0 where there is none */
    bool failed;
};

void frame_begin(struct writer *writer, struct bytes *out, uint8_t kind, uint32_t request);
void field_bytes(struct writer *writer, uint8_t tag, const void *value, size_t size);
void field_number(struct writer *writer, uint8_t tag, uint64_t value);
void field_text(struct writer *writer, uint8_t tag, const char *text);
/* Add a field of `size` bytes to be filled in; NULL where there is no memory. */
uint8_t *field_space(struct writer *writer, uint8_t tag, size_t size);
/* Fields between these two are an entry's own. */
void entry_begin(struct writer *writer);
void entry_end(struct writer *writer);
size_t frame_size(const struct writer *writer);
/* Say that the fields are complete and what follows is bulk. */
void frame_fields_end(struct writer *writer);
/* Write size, status and counter into the header; room for the tag is added where `tagged`. */
uint8_t *frame_end(struct writer *writer, uint16_t status, uint64_t counter, bool tagged);
/* Return how many bytes of a written frame its tag speaks for. */
size_t frame_covered(const uint8_t *header);
/* Take back all that was written since frame_begin. */
void frame_drop(struct writer *writer);

#endif
