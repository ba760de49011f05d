/* What is kept of one output stream: its first and last bytes, within a bound, and how many there were. */
#ifndef OUTPUT_H
#define OUTPUT_H

#include "bytes.h"

struct output {
    struct bytes head;
    size_t head_limit, tail_limit;
    uint8_t *ring; /* byte number p of the stream lies at (p - head_limit) % tail_limit */
    uint64_t total;
};

void output_open(struct output *output, size_t limit, bool keep_tail);
void output_add(struct output *output, const uint8_t *data, size_t size);
/* Number of the first byte of the tail: from the end of the head to here bytes were dropped. */
uint64_t output_tail_start(const struct output *output);
uint64_t output_dropped(const struct output *output);
/* Kept bytes from *offset on, as far as they lie in one piece; *offset moves over what was dropped. */
struct span output_peek(const struct output *output, uint64_t *offset);
void output_free(struct output *output);

#endif
