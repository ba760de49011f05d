/* What Python hands over for training; `training_structures.py` has the same ones. Every call does some rows (items,
   places, chunks of rows) from `first` up to, not including, `last`: threads share them, and no number depends on how.

   `halves`: what products read and write is bfloat16; float32 otherwise. Letters are those of model.h. */
#ifndef TRAINING_H
#define TRAINING_H

#include <stdint.h>

#include "exported.h"

enum { CHUNK_ROWS = 64 };

/* sum = stream + added; normal = sum / root of its mean square * weight. */
struct norm {
    const float *stream;
    const void *added; /* [N, D], or NULL */
    const float *weight;
    float *sum;     /* out, [N, D]; NULL where nothing is added */
    void *normal;   /* out, [N, D] */
    float *wide;    /* out, [N, D]: the same, not rounded; or NULL */
    float *factors; /* out, [N] */
    int64_t rows, size;
    float epsilon;
    int32_t halves;
};

struct norm_gradient {
    const float *sum, *weight, *factors;
    const float *of_sum;   /* [N, D], or NULL */
    const void *of_normal; /* [N, D], or NULL */
    const float *of_wide;  /* [N, D], or NULL */
    float *of_stream;      /* out, [N, D] */
    void *of_added;        /* out, [N, D], or NULL */
    float *of_weight;      /* out, [chunks, D] */
    int64_t rows, size;
    int32_t halves;
};

/* inner = silu(gate) * up. */
struct gate {
    const void *gate_up; /* [N, 2F] */
    void *inner;         /* out, [N, F]; or NULL */
    const void *of_inner;
    void *of_gate_up; /* out, [N, 2F] */
    int64_t size;
    int32_t halves;
};

/* Rows to their places among those of one expert: placed[i] = factor * rows[source / K]; zeros where source < 0. */
struct spread {
    const void *rows; /* [N, D] */
    const int32_t *sources;
    const float *factors; /* [N * K], or NULL: 1 */
    void *placed;         /* out, [places, D] */
    const void *others;   /* [places, D], or NULL */
    float *products;      /* out, [N * K]: of `rows` and `others` */
    int64_t chosen, size;
    int32_t halves;
};

/* And back: rows[n] = sum over k of factor * placed[places[n, k]]. */
struct collect {
    const void *placed;
    const int32_t *places; /* [N * K] */
    const float *factors;  /* [N * K], or NULL: 1 */
    void *rows;            /* out, [N, D] */
    int64_t chosen, size;
    int32_t halves;
};

/* Losses of tokens; logits become the gradient of their sum times `share`. */
struct surprise {
    void *logits;           /* [N, V], in and out */
    const int64_t *targets; /* [N]; negative: no loss */
    float *distances;       /* out, [N]: the largest logit minus the target's */
    float *totals;          /* out, [N]: sum of e^(logit - largest); the loss is distance + ln(total) */
    int64_t vocabulary;
    float share;
    int32_t halves, wants_gradient;
};

/* Attention of whole rows of tokens. A row has all queries, then all keys, then all values. */
struct lesson {
    const void *projected;  /* [B * T, stride] */
    const int32_t *firsts;  /* [B * T]: the first place of its row that a token sees; it sees from there to itself */
    const float *cosines, *sines; /* [B * T, rotary_dim / 2] */
    const float *sinks;     /* [H], or NULL */
    void *out;              /* out, [B * T, H * U]; NULL for a gradient, and where float32 is enough */
    float *exact;           /* [B * T, H * U]: out, not rounded; read by the gradient */
    float *largest;         /* [B, H, T], likewise */
    float *shares;          /* [B, H, T], likewise: 1 / sum of e^(score - largest) */
    const void *of_out;     /* [B * T, H * U] */
    void *of_projected;     /* out, [B * T, stride] */
    float *of_sinks;        /* out, [B, H] */
    int64_t tokens, heads, kv_heads, head_dim, v_head_dim, rotary_dim;
    float value_scale;
    int32_t halves;
};

/* A call in parts: part i goes from bounds[i] up to, not including, bounds[i + 1]. */
struct team {
    void (*call)(void);
    const void *structure;
    const int64_t *bounds;  /* [parts + 1] */
    float *const *memories; /* one for each thread; NULL where the call takes none */
    int (*thread_number)(void);
    int (*thread_count)(void);
    int64_t parts;
};

#endif
