/* What Python hands over: weights, memory, and one step's tokens. `structures.py` has the same ones.

   Letters: N tokens of the step, D hidden size, H query heads, G key-value heads, C size of a query or key, U of a value,
   E experts, K experts of a token, F feed-forward size, V vocabulary. */
#ifndef MODEL_H
#define MODEL_H

#include <stdint.h>

enum { BLOCK_TOKENS = 64, PANEL = 64, FACTOR_INPUTS = 128 };

/* A weight [outputs, inputs], stored in panels of 64 outputs (the last one narrower, in sixteens, zeros at its end): in
   each panel the numbers of one input lie side by side. Numbers are float32; or, where that loses nothing, bfloat16 and
   a factor for each output and each 128 inputs, [tiles, width] for each panel. */
struct matrix {
    const void *panels;
    const float *factors; /* NULL: float32 */
    int64_t inputs, outputs;
};

struct attention {
    struct matrix qkv, out;
    const float *sinks; /* [H], or NULL */
    int64_t heads, kv_heads, head_dim, v_head_dim;
    int64_t rotary_dim;
    int64_t reach; /* how many tokens before itself a token sees; -1 for all */
    float value_scale;
};

struct feed_forward {
    struct matrix gate_up, down; /* gate rows, then up rows */
};

struct layer {
    const float *attention_norm, *feed_norm;
    struct attention attention;
    const struct feed_forward *feeds; /* one, or one for each expert */
    int64_t experts, experts_chosen;  /* 0 and 0 where the feed-forward is dense */
    struct matrix router;
    const float *correction;
    float routed_scaling;
    int32_t normalised;
};

/* A block of multi-token prediction. */
struct block {
    const float *embedding_norm, *hidden_norm, *final_norm;
    struct matrix joined;
    struct layer layer;
};

struct model {
    int64_t hidden, vocabulary, layer_count;
    const float *embedding, *final_norm;
    const struct layer *layers;
    const struct block *blocks;
    struct matrix head;
    float epsilon;
};

/* Keys and values of one layer. A token lies in a unit (its request's row of a ring, or one of its blocks) at a place. */
struct memory {
    float *keys, *values;
    int64_t *positions;   /* of a ring's slots, [rows, slots + 1]; NULL elsewhere */
    int64_t slots;        /* of a ring; 0 for blocks */
    int64_t unit_keys, group_keys, unit_values, group_values; /* from one unit, or head, to the next */
    const float *cosines, *sines; /* [positions, rotary_dim / 2] */
};

/* Tokens of one request that follow one another. */
struct segment {
    int32_t row;    /* of rings */
    int32_t start;  /* position of the first */
    int32_t count;
    int32_t blocks; /* where the numbers of its blocks begin in `step.tables` */
};

struct step {
    int64_t tokens, segment_count;
    const struct segment *segments;
    const int32_t *tables;
    const int32_t *ids;
    const struct memory *memories; /* one for each layer */
    const float *const *given;     /* for blocks: hidden states of the main model, a pointer for each token */
    float *hidden;                 /* out: [N, D] */
    uint8_t *chosen;               /* out: [N, layers, K], zeros where there are no experts; NULL if nobody asks */
    int64_t most_chosen;           /* K of `chosen` */
    float *scratch;                /* as much as `envfarm_scratch_floats` says */
};

/* Rows that want logits. */
struct head {
    int64_t count;
    const float *const *hidden;
    float *const *logits; /* out: [V] each */
    int32_t *likeliest;   /* out: [count] */
    float *total_chances; /* out: [count] */
    uint8_t *finite;      /* out: [count] */
};

#endif
