/* Losses of tokens from their logits, and the logits' gradient. */
#include "number.h"
#include "training.h"

INLINE float number_at(const void *numbers, int64_t place, const bool halves) {
    return load_numbers(numbers, place, 1, halves)[0];
}

INLINE void surprise_row(const struct surprise *surprise, int64_t row, const bool halves) {
    int64_t size = surprise->vocabulary, begin = row * size, target = surprise->targets[row];
    if (target < 0) {
        for (int64_t i = 0; i < size && surprise->wants_gradient; i += LANES)
            store_numbers(surprise->logits, begin + i, vector_of(0), size - i, halves);
        surprise->distances[row] = 0;
        surprise->totals[row] = 1;
        return;
    }
    vector highest = vector_of(number_at(surprise->logits, begin, halves));
    for (int64_t i = 0; i + LANES <= size; i += LANES)
        highest = __builtin_elementwise_max(highest, load_number(surprise->logits, begin + i, halves));
    float most = largest(highest);
    for (int64_t i = size / LANES * LANES; i < size; i++) {
        float x = number_at(surprise->logits, begin + i, halves);
        most = x > most ? x : most;
    }
    vector totals = vector_of(0);
    int64_t whole = size / LANES * LANES;
    for (int64_t i = 0; i < whole; i += LANES)
        totals += exponential(load_number(surprise->logits, begin + i, halves) - vector_of(most));
    float total = sum(totals);
    for (int64_t i = whole; i < size; i++)
        total += exponential(vector_of(number_at(surprise->logits, begin + i, halves) - most))[0];
    float own = number_at(surprise->logits, begin + target, halves) - most;
    surprise->distances[row] = -own;
    surprise->totals[row] = total;
    if (!surprise->wants_gradient)
        return;
    vector factor = vector_of(surprise->share / total);
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_numbers(surprise->logits, begin + i, size - i, halves) - vector_of(most);
        store_numbers(surprise->logits, begin + i, exponential(x) * factor, size - i, halves);
    }
    float of_own = (exponential(vector_of(own))[0] / total - 1) * surprise->share;
    store_numbers(surprise->logits, begin + target, vector_of(of_own), 1, halves);
}

EXPORTED void envfarm_surprise(const struct surprise *surprise, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        if (surprise->halves)
            surprise_row(surprise, row, true);
        else
            surprise_row(surprise, row, false);
}
