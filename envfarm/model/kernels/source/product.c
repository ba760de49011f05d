#include "product.h"

#include <stddef.h>

#include "vector.h"

/* How many tokens and vectors of outputs are summed in registers at once. */
#if defined(__AVX512F__)
enum { TOKENS_AT_ONCE = 6, VECTORS_AT_ONCE = 4 };
#else
enum { TOKENS_AT_ONCE = 6, VECTORS_AT_ONCE = 1 };
#endif
enum { MOST_VECTORS = PANEL / LANES, AHEAD_BYTES = 4096 };

struct place {
    const void *weights;  /* of the panel's vectors that are summed */
    const float *factors; /* of their sums; NULL: 1 */
    int64_t width;        /* of the panel */
    int64_t first;        /* input */
    int64_t inputs;       /* how many */
    int64_t column;       /* where the outputs are written, */
    int64_t left;         /* and how many of them there are */
    bool adds;
};

INLINE vector load_weight(const void *weights, int64_t number, const bool halves) {
    if (halves)
        return load_halves((const uint16_t *)weights + number);
    return load((const float *)weights + number);
}

INLINE void sum_tile(const struct place *place, const float *const *inputs, float *const *outputs, const int tokens,
                     const int vectors, const bool halves) {
    vector sums[TOKENS_AT_ONCE][MOST_VECTORS];
#pragma clang loop unroll(full)
    for (int token = 0; token < tokens; token++)
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++)
            sums[token][v] = vector_of(0);
    const char *weights = place->weights;
    int64_t row_bytes = place->width * (halves ? 2 : 4);
    for (int64_t k = place->first; k < place->first + place->inputs; k++, weights += row_bytes) {
        vector weight[MOST_VECTORS];
#pragma clang loop unroll(full)
        for (int v = 0; v < vectors; v++) {
            weight[v] = load_weight(weights, v * LANES, halves);
            if (!halves || v % 2 == 0)
                __builtin_prefetch(weights + v * LANES * (halves ? 2 : 4) + AHEAD_BYTES);
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
            vector factor = place->factors ? load(place->factors + v * LANES) : vector_of(1);
            store_first(to, fused(sums[token][v], factor, before), left);
        }
}

#define CASE(tokens, vectors, halves)                                 \
    case tokens:                                                      \
        sum_tile(place, inputs, outputs, tokens, vectors, halves);    \
        break;

#define SUM_SOME(name, vectors, halves)                                                             \
    static void name(const struct place *place, const float *const *inputs, float *const *outputs, \
                     int64_t tokens) {                                                              \
        switch (tokens) {                                                                           \
            CASE(1, vectors, halves)                                                                \
            CASE(2, vectors, halves)                                                                \
            CASE(3, vectors, halves)                                                                \
            CASE(4, vectors, halves)                                                                \
            CASE(5, vectors, halves)                                                                \
            CASE(6, vectors, halves)                                                                \
        }                                                                                           \
    }

SUM_SOME(sum_1, 1, false)
SUM_SOME(sum_2, 2, false)
SUM_SOME(sum_3, 3, false)
SUM_SOME(sum_4, 4, false)
SUM_SOME(sum_halves_1, 1, true)
SUM_SOME(sum_halves_2, 2, true)
SUM_SOME(sum_halves_3, 3, true)
SUM_SOME(sum_halves_4, 4, true)

/* Sums over some inputs of a panel, for all tokens. */
static void sum_panel(struct place place, const float *const *inputs, float *const *outputs, int64_t count, bool halves) {
    void (*const sums[2][MOST_VECTORS])(const struct place *, const float *const *, float *const *, int64_t) = {
        {sum_1, sum_2, sum_3, sum_4}, {sum_halves_1, sum_halves_2, sum_halves_3, sum_halves_4}};
    struct place part = place;
    for (int64_t token = 0; token < count; token += TOKENS_AT_ONCE) {
        int64_t tokens = count - token < TOKENS_AT_ONCE ? count - token : TOKENS_AT_ONCE;
        int64_t most = tokens == 1 ? MOST_VECTORS : VECTORS_AT_ONCE;
        for (int64_t done = 0; done < place.width / LANES; done += most) {
            int64_t vectors = place.width / LANES - done < most ? place.width / LANES - done : most;
            part.weights = (const char *)place.weights + done * LANES * (halves ? 2 : 4);
            part.factors = place.factors ? place.factors + done * LANES : NULL;
            part.column = place.column + done * LANES;
            part.left = place.left - done * LANES;
            sums[halves][vectors - 1](&part, inputs + token, outputs + token, tokens);
        }
    }
}

/* The same with halves; where many tokens want them they are widened once. */
static void sum_halves(struct place place, const float *const *inputs, float *const *outputs, int64_t count) {
    float wide[PANEL * FACTOR_INPUTS] __attribute__((aligned(64)));
    if (count > TOKENS_AT_ONCE) {
        const uint16_t *halves = place.weights;
        for (int64_t i = 0; i < place.width * place.inputs; i += LANES)
            store(wide + i, load_halves(halves + i));
        place.weights = wide;
    }
    sum_panel(place, inputs, outputs, count, place.weights != wide);
}

void product(const struct matrix *matrix, const float *const *inputs, float *const *outputs, int64_t count, bool adds) {
    const char *panel = matrix->panels;
    const float *factors = matrix->factors;
    for (int64_t column = 0; column < matrix->outputs; column += PANEL) {
        int64_t left = matrix->outputs - column;
        struct place place = {.weights = panel, .column = column, .left = left, .adds = adds};
        place.width = left >= PANEL ? PANEL : (left + LANES - 1) / LANES * LANES;
        if (matrix->factors == NULL) {
            place.inputs = matrix->inputs;
            sum_panel(place, inputs, outputs, count, false);
            panel += place.width * matrix->inputs * 4;
            continue;
        }
        for (; place.first < matrix->inputs; place.first += FACTOR_INPUTS) {
            int64_t more = matrix->inputs - place.first;
            place.inputs = more < FACTOR_INPUTS ? more : FACTOR_INPUTS;
            place.weights = panel;
            place.factors = factors;
            sum_halves(place, inputs, outputs, count);
            panel += place.width * place.inputs * 2;
            factors += place.width;
            place.adds = true;
        }
    }
}
