/* Vectors of 16 floats: one register of AVX-512, two of AVX2, four of NEON. Every function here gives the same bits for
   the same arguments wherever it is used: a token's numbers must not depend on who else is in the step. */
#ifndef VECTOR_H
#define VECTOR_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

typedef float vector __attribute__((vector_size(64)));
typedef int32_t whole_vector __attribute__((vector_size(64)));

#define INLINE static inline __attribute__((always_inline))

INLINE vector vector_of(float x) {
    return (vector){x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x};
}

INLINE vector load(const float *from) {
    vector x;
    memcpy(&x, from, sizeof x);
    return x;
}

INLINE void store(float *to, vector x) {
    memcpy(to, &x, sizeof x);
}

/* Sixteen numbers of bfloat16, which are the upper halves of float32. */
INLINE vector load_halves(const uint16_t *from) {
    uint16_t __attribute__((vector_size(32))) halves;
    memcpy(&halves, from, sizeof halves);
    return (vector)(__builtin_convertvector(halves, whole_vector) << 16);
}

/* The first `count` numbers, zeros behind them. */
INLINE vector load_first(const float *from, int64_t count) {
    if (count >= LANES)
        return load(from);
    vector x = vector_of(0);
    memcpy(&x, from, (size_t)count * sizeof(float));
    return x;
}

INLINE void store_first(float *to, vector x, int64_t count) {
    if (count >= LANES)
        store(to, x);
    else
        memcpy(to, &x, (size_t)count * sizeof(float));
}

INLINE vector fused(vector a, vector b, vector c) {
    return __builtin_elementwise_fma(a, b, c);
}

INLINE vector chosen(whole_vector mask, vector yes, vector no) {
    return (vector)((mask & (whole_vector)yes) | (~mask & (whole_vector)no));
}

INLINE float sum(vector x) {
    vector a = x + __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7);
    vector b = a + __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11);
    vector c = b + __builtin_shufflevector(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13);
    return c[0] + c[1];
}

/* The largest. */
INLINE float largest(vector x) {
    vector a = __builtin_elementwise_max(
        x, __builtin_shufflevector(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
    vector b = __builtin_elementwise_max(
        a, __builtin_shufflevector(a, a, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11));
    vector c = __builtin_elementwise_max(
        b, __builtin_shufflevector(b, b, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13));
    return c[0] > c[1] ? c[0] : c[1];
}

/* e^x within 2 units of the last place; at least e^-87 and at most e^88; not a number for what is none. */
INLINE vector exponential(vector x) {
    const float rounder = 12582912.0f; /* 1.5 * 2^23: adding it leaves a whole number in the low bits */
    x = chosen(x < vector_of(-87.0f), vector_of(-87.0f), x);
    x = chosen(x > vector_of(88.0f), vector_of(88.0f), x);
    vector shifted = fused(x, vector_of(1.44269504088896341f), vector_of(rounder));
    vector count = shifted - vector_of(rounder);
    /* ln 2 in two parts, the first one with zeros at its end: the products are exact. */
    vector rest = fused(count, vector_of(-0.693359375f), x);
    rest = fused(count, vector_of(2.12194440054690583e-4f), rest);
    vector y = vector_of(1.0f / 5040);
    y = fused(y, rest, vector_of(1.0f / 720));
    y = fused(y, rest, vector_of(1.0f / 120));
    y = fused(y, rest, vector_of(1.0f / 24));
    y = fused(y, rest, vector_of(1.0f / 6));
    y = fused(y, rest, vector_of(0.5f));
    y = fused(y, rest, vector_of(1.0f));
    y = fused(y, rest, vector_of(1.0f));
    whole_vector power = (whole_vector)shifted - (whole_vector)vector_of(rounder) + 127;
    return y * (vector)(power << 23);
}

INLINE vector sigmoid(vector x) {
    return vector_of(1.0f) / (vector_of(1.0f) + exponential(-x));
}

/* Turns 16 rows of 16 numbers into columns, in place. */
INLINE void transpose(vector rows[LANES]) {
#define SWAP(distance, first, second)                       \
    _Pragma("clang loop unroll(full)") for (int row = 0; row < LANES; row++) {  \
        if (row & (distance))                               \
            continue;                                       \
        vector a = rows[row], b = rows[row + (distance)];   \
        rows[row] = __builtin_shufflevector(a, b, first);   \
        rows[row + (distance)] = __builtin_shufflevector(a, b, second); \
    }
#define LIST(...) __VA_ARGS__
    SWAP(8, LIST(0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23),
         LIST(8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31))
    SWAP(4, LIST(0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27),
         LIST(4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31))
    SWAP(2, LIST(0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29),
         LIST(2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31))
    SWAP(1, LIST(0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30),
         LIST(1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31))
#undef LIST
#undef SWAP
}

#endif
