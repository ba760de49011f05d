/* Feed-forwards: dense ones, and experts with their router. */
#ifndef FEED_FORWARD_H
#define FEED_FORWARD_H

#include "model.h"
#include "scratch.h"

/* Memory for the feed-forward of one layer; N * max(K, 1) rows where the layer has experts. */
struct feed_room {
    float *scores;                        /* [N, E] */
    int32_t *experts;                     /* [N, K] */
    float *weights;                       /* [N, K] */
    float *gates;                         /* [rows, 2F] */
    float *products;                      /* [rows, D] */
    const float **inputs;                 /* [rows] */
    float **outputs, **rows;              /* [rows] */
};

struct feed_room cut_feed_room(struct scratch *scratch, const struct layer *layer, int64_t tokens);

/* Adds a layer's feed-forward of `normal` [N, D] to `stream` [N, D]; writes down the experts where `chosen` is given,
   a token's in `chosen_stride` bytes. */
void feed_forward(const struct layer *layer, const float *normal, float *stream, int64_t tokens, uint8_t *chosen,
                  int64_t chosen_stride, const struct feed_room *room);

#endif
