/* Normalisation and gates, and their gradients. */
#include <stddef.h>

#include "number.h"
#include "training.h"

INLINE void norm_row(const struct norm *norm, int64_t row, const bool halves) {
    int64_t size = norm->size, begin = row * size;
    const float *sum_row = norm->stream + begin;
    vector squares = vector_of(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_first(sum_row + i, size - i);
        if (norm->added != NULL) {
            x += load_numbers(norm->added, begin + i, size - i, halves);
            store_first(norm->sum + begin + i, x, size - i);
        }
        squares = fused(x, x, squares);
    }
    if (norm->added != NULL)
        sum_row = norm->sum + begin;
    float factor = 1.0f / __builtin_sqrtf(sum(squares) / (float)size + norm->epsilon);
    norm->factors[row] = factor;
    for (int64_t i = 0; i < size; i += LANES) {
        vector y = load_first(sum_row + i, size - i) * vector_of(factor) * load_first(norm->weight + i, size - i);
        store_numbers(norm->normal, begin + i, y, size - i, halves);
        if (norm->wide != NULL)
            store_first(norm->wide + begin + i, y, size - i);
    }
}

EXPORTED void envfarm_norm(const struct norm *norm, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        if (norm->halves)
            norm_row(norm, row, true);
        else
            norm_row(norm, row, false);
}

INLINE vector of_normal(const struct norm_gradient *norm, int64_t place, int64_t left, const bool halves) {
    vector y = vector_of(0);
    if (norm->of_normal != NULL)
        y = load_numbers(norm->of_normal, place, left, halves);
    if (norm->of_wide != NULL)
        y += load_first(norm->of_wide + place, left);
    return y;
}

INLINE void norm_gradient_row(const struct norm_gradient *norm, int64_t row, float *of_weight, const bool halves) {
    int64_t size = norm->size, begin = row * size;
    vector factor = vector_of(norm->factors[row]), products = vector_of(0);
    for (int64_t i = 0; i < size; i += LANES) {
        vector unit = load_first(norm->sum + begin + i, size - i) * factor;
        vector y = of_normal(norm, begin + i, size - i, halves) * unit;
        store_first(of_weight + i, load_first(of_weight + i, size - i) + y, size - i);
        products = fused(y, load_first(norm->weight + i, size - i), products);
    }
    vector mean = vector_of(sum(products) / (float)size);
    for (int64_t i = 0; i < size; i += LANES) {
        vector unit = load_first(norm->sum + begin + i, size - i) * factor;
        vector y = of_normal(norm, begin + i, size - i, halves) * load_first(norm->weight + i, size - i);
        vector x = factor * fused(-unit, mean, y);
        if (norm->of_sum != NULL)
            x += load_first(norm->of_sum + begin + i, size - i);
        store_first(norm->of_stream + begin + i, x, size - i);
        if (norm->of_added != NULL)
            store_numbers(norm->of_added, begin + i, x, size - i, halves);
    }
}

EXPORTED void envfarm_norm_gradient(const struct norm_gradient *norm, int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; chunk++) {
        float *of_weight = norm->of_weight + chunk * norm->size;
        int64_t begin = chunk * CHUNK_ROWS, end = begin + CHUNK_ROWS < norm->rows ? begin + CHUNK_ROWS : norm->rows;
        memset(of_weight, 0, (size_t)norm->size * sizeof(float));
        for (int64_t row = begin; row < end; row++)
            if (norm->halves)
                norm_gradient_row(norm, row, of_weight, true);
            else
                norm_gradient_row(norm, row, of_weight, false);
    }
}

INLINE void gate_row(const struct gate *gate, int64_t row, const bool halves) {
    int64_t size = gate->size, begin = row * 2 * size;
    for (int64_t i = 0; i < size; i += LANES) {
        vector x = load_numbers(gate->gate_up, begin + i, size - i, halves);
        vector up = load_numbers(gate->gate_up, begin + size + i, size - i, halves);
        vector share = sigmoid(x), silu = x * share;
        if (gate->inner != NULL)
            store_numbers(gate->inner, row * size + i, silu * up, size - i, halves);
        if (gate->of_inner == NULL)
            continue;
        vector y = load_numbers(gate->of_inner, row * size + i, size - i, halves);
        vector slope = share * fused(x, vector_of(1) - share, vector_of(1));
        store_numbers(gate->of_gate_up, begin + i, y * up * slope, size - i, halves);
        store_numbers(gate->of_gate_up, begin + size + i, y * silu, size - i, halves);
    }
}

EXPORTED void envfarm_gate(const struct gate *gate, int64_t first, int64_t last) {
    for (int64_t row = first; row < last; row++)
        if (gate->halves)
            gate_row(gate, row, true);
        else
            gate_row(gate, row, false);
}
