/* Attention of a step's tokens over their requests' earlier tokens and over one another. */
#ifndef ATTENTION_H
#define ATTENTION_H

#include "model.h"
#include "scratch.h"

/* Memory for one tile of queries and one block of positions. */
struct attention_room {
    float *columns; /* keys of a block, turned: [C, 64] */
    float *values;  /* values of a block, where they have to be filled up: [64, U] */
    float *zeros;
    float *shares; /* [queries, 64] */
    float *sums;   /* [queries, U] */
    float *largest, *totals, *corrections; /* [queries] */
};

struct attention_room cut_attention_room(struct scratch *scratch, const struct attention *attention);

/* Takes queries, keys and values [N, `stride`] as they were projected and leaves each head's output in `out` [N, H * U].
   Turns queries and keys by their positions, scales values, and keeps keys and values in memory. */
void attend(const struct attention *attention, const struct memory *memory, const struct step *step, float *projected,
            int64_t stride, float *out, const struct attention_room *room);

#endif
