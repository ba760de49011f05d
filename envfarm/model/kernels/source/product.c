#include "product.h"

#include "vector.h"

/* How many tokens and vectors of outputs are summed in registers at once. */
#if defined(__AVX512F__)
enum { TOKENS_AT_ONCE = 6, VECTORS_AT_ONCE = 4 };
#else
enum { TOKENS_AT_ONCE = 6, VECTORS_AT_ONCE = 1 };
#endif
enum { MOST_VECTORS = PANEL / LANES, AHEAD = 1024 };

struct place {
    const float *weights; /* of the panel's vectors that are summed */
    int64_t width;        /* of the panel */
    int64_t inputs;
    int64_t column; /* where the outputs are written, */
    int64_t left;   /* and how many of them there are */
    bool adds;
};

INLINE void sum_tile(const struct place *place, const float *const *inputs, float *const *outputs, const int tokens,
                     const int vectors) {
    vector sums[TOKENS_AT_ONCE][MOST_VECTORS];
#pragma clang loop unroll(full)
    for (int token = 0; token < tokens; token++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            sums[token][v] = vector_of(0);
    const float *weights = place->weights;
    for (int64_t k = 0; k < place->inputs; k++, weights += place->width) {
        vector weight[MOST_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            weight[v] = load(weights + v * LANES);
            __builtin_prefetch(weights + v * LANES + AHEAD);
        }
#pragma clang loop unroll(full)
        for (int token = 0; token < tokens; token++) {
            vector x = vector_of(inputs[token][k]);
#pragma clang loop unroll(full)
            for (int v = 0; v < vectors; v++)
                sums[token][v] = fused(x, weight[v], sums[token][v]);
        }
    }
#pragma clang loop unroll(full)
    for (int token = 0; token < tokens; token++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            float *to = outputs[token] + place->column + v * LANES;
            int64_t left = place->left - v * LANES;
            vector before = place->adds ? load_first(to, left) : vector_of(0);
            store_first(to, before + sums[token][v], left);
        }
}

#define CASE(tokens, vectors)                                 \
    case tokens:                                              \
        sum_tile(place, inputs, outputs, tokens, vectors);    \
        break;

#define SUM_SOME(vectors)                                                                                 \
    static void sum_##vectors(const struct place *place, const float *const *inputs, float *const *outputs, \
                              int64_t tokens) {                                                           \
        switch (tokens) {                                                                                 \
            CASE(1, vectors)                                                                              \
            CASE(2, vectors)                                                                              \
            CASE(3, vectors)                                                                              \
            CASE(4, vectors)                                                                              \
            CASE(5, vectors)                                                                              \
            CASE(6, vectors)                                                                              \
        }                                                                                                 \
    }

SUM_SOME(1)
SUM_SOME(2)
SUM_SOME(3)
SUM_SOME(4)

static void sum_tokens(const struct place *place, const float *const *inputs, float *const *outputs, int64_t tokens,
                       int64_t vectors) {
    void (*const sums[])(const struct place *, const float *const *, float *const *, int64_t) = {sum_1, sum_2, sum_3,
                                                                                                 sum_4};
    sums[vectors - 1](place, inputs, outputs, tokens);
}

void product(const struct matrix *matrix, const float *const *inputs, float *const *outputs, int64_t count, bool adds) {
    struct place place = {.inputs = matrix->inputs, .adds = adds};
    const float *panel = matrix->panels;
    for (int64_t column = 0; column < matrix->outputs; column += PANEL) {
        int64_t left = matrix->outputs - column;
        place.width = left >= PANEL ? PANEL : (left + LANES - 1) / LANES * LANES;
        for (int64_t token = 0; token < count; token += TOKENS_AT_ONCE) {
            int64_t tokens = count - token < TOKENS_AT_ONCE ? count - token : TOKENS_AT_ONCE;
            int64_t most = tokens == 1 ? MOST_VECTORS : VECTORS_AT_ONCE;
            for (int64_t done = 0; done < place.width / LANES; done += most) {
                int64_t vectors = place.width / LANES - done < most ? place.width / LANES - done : most;
                place.weights = panel + done * LANES;
                place.column = column + done * LANES;
                place.left = left - done * LANES;
                sum_tokens(&place, inputs + token, outputs + token, tokens, vectors);
            }
        }
        panel += place.width * matrix->inputs;
    }
}
