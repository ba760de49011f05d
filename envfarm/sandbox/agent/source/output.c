#include "output.h"

#include <string.h>

void output_open(struct output *output, size_t limit, bool keep_tail) {
    *output = (struct output){0};
    output->tail_limit = keep_tail ? limit / 2 : 0;
    output->head_limit = limit - output->tail_limit;
}

static void add_to_tail(struct output *output, const uint8_t *data, size_t size) {
    if (output->ring == NULL && output->tail_limit > 0) {
        output->ring = pages_take(output->tail_limit);
        if (output->ring == NULL)
            output->tail_limit = 0; /* without memory bytes are dropped, and counted */
    }
    size_t limit = output->tail_limit;
    if (limit == 0)
        return;
    uint64_t position = output->total - output->head_limit;
    if (size > limit) {
        position += size - limit;
        data += size - limit;
        size = limit;
    }
    size_t place = position % limit, first = size < limit - place ? size : limit - place;
    memcpy(output->ring + place, data, first);
    memcpy(output->ring, data + first, size - first);
}

void output_add(struct output *output, const uint8_t *data, size_t size) {
    size_t room = output->head_limit - output->head.size;
    if (output->total == output->head.size && room > 0) {
        size_t part = size < room ? size : room;
        if (bytes_add(&output->head, data, part)) {
            output->total += part;
            data += part;
            size -= part;
        } else {
            output->head_limit = output->head.size;
        }
    }
    if (size == 0)
        return;
    add_to_tail(output, data, size);
    output->total += size;
}

uint64_t output_tail_start(const struct output *output) {
    uint64_t past_head = output->total - output->head.size;
    return output->total - (past_head < output->tail_limit ? past_head : output->tail_limit);
}

uint64_t output_dropped(const struct output *output) {
    return output_tail_start(output) - output->head.size;
}

struct span output_peek(const struct output *output, uint64_t *offset) {
    if (*offset < output->head.size)
        return (struct span){output->head.at + *offset, output->head.size - *offset};
    uint64_t start = output_tail_start(output);
    if (*offset < start)
        *offset = start;
    if (*offset >= output->total)
        return (struct span){NULL, 0};
    size_t place = (*offset - output->head_limit) % output->tail_limit;
    uint64_t size = output->total - *offset;
    if (size > output->tail_limit - place)
        size = output->tail_limit - place;
    return (struct span){output->ring + place, size};
}

void output_free(struct output *output) {
    bytes_free(&output->head);
    pages_give(output->ring, output->tail_limit);
    output->ring = NULL;
}
