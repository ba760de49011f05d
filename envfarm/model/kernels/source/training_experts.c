/* Tokens to their experts and back. */
#include <stddef.h>

#include "number.h"
#include "training.h"

/* Gives every pair of token and expert a place: pairs of one expert lie together in their order, and each expert's
   places are filled up to a multiple with sources of -1. `ends` has each expert's end, the last one all there are;
   `sources` has room for all pairs and a multiple for each expert. */
EXPORTED void envfarm_arrange(const int64_t *experts_of, int64_t pairs, int64_t experts, int64_t multiple,
                              int32_t *places, int32_t *sources, int64_t *ends) {
    memset(ends, 0, (size_t)experts * sizeof(int64_t));
    for (int64_t pair = 0; pair < pairs; pair++)
        ends[experts_of[pair]]++;
    int64_t begin = 0;
    for (int64_t expert = 0; expert < experts; expert++) {
        int64_t count = ends[expert];
        ends[expert] = begin;
        int64_t end = begin + (count + multiple - 1) / multiple * multiple;
        for (int64_t place = begin + count; place < end; place++)
            sources[place] = -1;
        begin = end;
    }
    for (int64_t pair = 0; pair < pairs; pair++) {
        int64_t place = ends[experts_of[pair]]++;
        places[pair] = (int32_t)place;
        sources[place] = (int32_t)pair;
    }
    for (int64_t expert = 0; expert < experts; expert++)
        ends[expert] = (ends[expert] + multiple - 1) / multiple * multiple;
}

INLINE void spread_row(const struct spread *spread, int64_t place, const bool halves) {
    int64_t size = spread->size, source = spread->sources[place];
    if (source < 0) {
        for (int64_t i = 0; i < size; i += LANES)
            store_numbers(spread->placed, place * size + i, vector_of(0), size - i, halves);
        return;
    }
    int64_t row = source / spread->chosen;
    vector factor = vector_of(spread->factors == NULL ? 1 : spread->factors[source]), products = vector_of(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_numbers(spread->rows, row * size + i, size - i, halves);
        if (spread->others != NULL)
            products = fused(x, load_numbers(spread->others, place * size + i, size - i, halves), products);
        store_numbers(spread->placed, place * size + i, x * factor, size - i, halves);
    }
    if (spread->others != NULL)
        spread->products[source] = sum(products);
}

EXPORTED void envfarm_spread(const struct spread *spread, int64_t first, int64_t last) {
    for (int64_t place = first; place < last; place++)
        if (spread->halves)
            spread_row(spread, place, true);
        else
            spread_row(spread, place, false);
}

INLINE void collect_row(const struct collect *collect, int64_t row, const bool halves) {
    int64_t size = collect->size;
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = vector_of(0);
        for (int64_t pair = row * collect->chosen; pair < (row + 1) * collect->chosen; pair++) {
            vector factor = vector_of(collect->factors == NULL ? 1 : collect->factors[pair]);
            x = fused(load_numbers(collect->placed, collect->places[pair] * size + i, size - i, halves), factor, x);
        }
        store_numbers(collect->rows, row * size + i, x, size - i, halves);
    }
}

EXPORTED void envfarm_collect(const struct collect *collect, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        if (collect->halves)
            collect_row(collect, row, true);
        else
            collect_row(collect, row, false);
}
