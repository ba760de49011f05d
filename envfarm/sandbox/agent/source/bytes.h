/* Growing byte buffers. Large ones are not shared with forked children: a job's peak of memory would count them. */
#ifndef BYTES_H
#define BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct span {
    const uint8_t *at;
    size_t size;
};

/* `size` bytes are in use from `at`; the first `taken` of them are consumed already. */
struct bytes {
    uint8_t *at;
    size_t taken, size, room;
};

void *pages_take(size_t size);
void pages_give(void *pages, size_t size);

/* Make room for `more` bytes behind the end; false, and nothing changed, where there is no memory. */
bool bytes_reserve(struct bytes *bytes, size_t more);
bool bytes_add(struct bytes *bytes, const void *data, size_t size);
/* Consume from the front. */
void bytes_take(struct bytes *bytes, size_t size);
struct span bytes_left(const struct bytes *bytes);
void bytes_free(struct bytes *bytes);

#endif
