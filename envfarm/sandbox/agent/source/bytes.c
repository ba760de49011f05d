#include "bytes.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

enum { LARGE = 1 << 16, IDLE_ROOM = 1 << 18 };

static bool is_large(size_t size) {
#ifdef PLAIN_MEMORY /* sanitizers watch malloc only */
    (void)size;
    return false;
#else
    return size >= LARGE;
#endif
}

void *pages_take(size_t size) {
    if (!is_large(size))
        return malloc(size ? size : 1);
    void *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED)
        return NULL;
    madvise(pages, size, MADV_DONTFORK);
    return pages;
}

void pages_give(void *pages, size_t size) {
    if (pages == NULL)
        return;
    if (is_large(size))
        munmap(pages, size);
    else
        free(pages);
}

bool bytes_reserve(struct bytes *bytes, size_t more) {
    size_t left = bytes->size - bytes->taken;
    if (bytes->room - bytes->size >= more)
        return true;
    if (bytes->taken > 0 && bytes->taken >= left && bytes->room - left >= more) {
        memmove(bytes->at, bytes->at + bytes->taken, left);
    } else {
        size_t room = bytes->room ? bytes->room : 256;
        while (room - left < more) {
            if (room > (size_t)1 << 40)
                return false;
            room *= 2;
        }
        uint8_t *at = pages_take(room);
        if (at == NULL)
            return false;
        if (left > 0)
            memcpy(at, bytes->at + bytes->taken, left);
        pages_give(bytes->at, bytes->room);
        bytes->at = at;
        bytes->room = room;
    }
    bytes->size = left;
    bytes->taken = 0;
    return true;
}

bool bytes_add(struct bytes *bytes, const void *data, size_t size) {
    if (!bytes_reserve(bytes, size))
        return false;
    if (size > 0)
        memcpy(bytes->at + bytes->size, data, size);
    bytes->size += size;
    return true;
}

void bytes_take(struct bytes *bytes, size_t size) {
    bytes->taken += size;
    if (bytes->taken < bytes->size)
        return;
    bytes->taken = bytes->size = 0;
    if (bytes->room > IDLE_ROOM)
        bytes_free(bytes);
}

struct span bytes_left(const struct bytes *bytes) {
    return (struct span){bytes->at == NULL ? NULL : bytes->at + bytes->taken, bytes->size - bytes->taken};
}

void bytes_free(struct bytes *bytes) {
    pages_give(bytes->at, bytes->room);
    *bytes = (struct bytes){0};
}
