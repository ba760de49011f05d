/* Memory of one step, cut from one piece that Python gives. */
#ifndef SCRATCH_H
#define SCRATCH_H

#include <stddef.h>
#include <stdint.h>

struct scratch {
    float *next; /* NULL: nothing is cut, the sizes are only counted */
    int64_t floats;
};

/* Cuts a piece that begins at a cache line. */
static inline void *cut(struct scratch *scratch, int64_t count, size_t size) {
    int64_t floats = ((int64_t)((size_t)count * size) + 63) / 64 * 16;
    float *piece = scratch->next;
    if (piece != NULL)
        scratch->next += floats;
    scratch->floats += floats;
    return piece;
}

#endif
