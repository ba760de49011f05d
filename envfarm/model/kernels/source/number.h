/* Numbers that are float32 or bfloat16, as their caller says; rounding is to the nearest, and to even between two. */
#ifndef NUMBER_H
#define NUMBER_H

#include "vector.h"

INLINE vector load_number(const void *from, int64_t place, const bool halves) {
    return halves ? load_halves((const uint16_t *)from + place) : load((const float *)from + place);
}

INLINE void store_number(void *to, int64_t place, vector x, const bool halves) {
    if (!halves) {
        store((float *)to + place, x);
        return;
    }
    typedef uint32_t bits __attribute__((vector_size(64)));
    bits raw = (bits)x;
    bits rounded = raw + 0x7fff + ((raw >> 16) & 1);
    bits none = (bits)(x != x); /* rounding could make a number of what is none */
    rounded = (rounded & ~none) | ((raw | 0x400000) & none);
    uint16_t __attribute__((vector_size(32))) upper =
        __builtin_convertvector(rounded >> 16, uint16_t __attribute__((vector_size(32))));
    memcpy((uint16_t *)to + place, &upper, sizeof upper);
}

/* The first `count` numbers, zeros behind them. */
INLINE vector load_numbers(const void *from, int64_t place, int64_t count, const bool halves) {
    if (count >= LANES)
        return load_number(from, place, halves);
    float whole[LANES] = {0};
    if (!halves) {
        memcpy(whole, (const float *)from + place, (size_t)count * sizeof(float));
        return load(whole);
    }
    uint16_t half[LANES] = {0};
    memcpy(half, (const uint16_t *)from + place, (size_t)count * sizeof(uint16_t));
    return load_halves(half);
}

INLINE void store_numbers(void *to, int64_t place, vector x, int64_t count, const bool halves) {
    if (count >= LANES) {
        store_number(to, place, x, halves);
        return;
    }
    uint32_t numbers[LANES];
    store_number(numbers, 0, x, halves);
    size_t size = halves ? sizeof(uint16_t) : sizeof(float);
    memcpy((char *)to + (size_t)place * size, numbers, (size_t)count * size);
}

#endif
