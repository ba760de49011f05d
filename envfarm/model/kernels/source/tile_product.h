/* Products of small matrices of float32 that lie in the nearest memory. */
#ifndef TILE_PRODUCT_H
#define TILE_PRODUCT_H

#include "vector.h"

enum { TILE_WIDTH = 2 * LANES };

#if defined(__AVX512F__)
enum { TILE_ROWS = 8, TILE_VECTORS = 2 };
#else
enum { TILE_ROWS = 4, TILE_VECTORS = 1 };
#endif

/* out[i, j] (+)= sum over k of left[i * left_row + k * left_step] * right[k * right_row + j]; numbers of `right` and
   `out` lie side by side. `rows` is a multiple of 8, `columns` one of `TILE_WIDTH`. */
struct tile_product {
    const float *left, *right;
    float *out;
    int64_t left_row, left_step, right_row, out_row;
    int64_t rows, columns, inputs;
};

INLINE void multiply(struct tile_product p, const bool adds) {
    for (int64_t column = 0; column < p.columns; column += TILE_VECTORS * LANES)
        for (int64_t row = 0; row < p.rows; row += TILE_ROWS) {
            vector sums[TILE_ROWS][TILE_VECTORS];
            float *out = p.out + row * p.out_row + column;
#pragma clang loop unroll(full)
            for (int r = 0; r < TILE_ROWS; r++)
#pragma clang loop unroll(full)
                for (int v = 0; v < TILE_VECTORS; v++)
                    sums[r][v] = adds ? load(out + r * p.out_row + v * LANES) : vector_of(0);
            const float *left = p.left + row * p.left_row, *right = p.right + column;
            for (int64_t k = 0; k < p.inputs; k++, left += p.left_step, right += p.right_row) {
                vector number[TILE_VECTORS];
#pragma clang loop unroll(full)
                for (int v = 0; v < TILE_VECTORS; v++)
                    number[v] = load(right + v * LANES);
#pragma clang loop unroll(full)
                for (int r = 0; r < TILE_ROWS; r++) {
                    vector x = vector_of(left[r * p.left_row]);
#pragma clang loop unroll(full)
                    for (int v = 0; v < TILE_VECTORS; v++)
                        sums[r][v] = fused(x, number[v], sums[r][v]);
                }
            }
#pragma clang loop unroll(full)
            for (int r = 0; r < TILE_ROWS; r++)
#pragma clang loop unroll(full)
                for (int v = 0; v < TILE_VECTORS; v++)
                    store(out + r * p.out_row + v * LANES, sums[r][v]);
        }
}

#endif
