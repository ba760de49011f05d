/* SHA-256 by the processor's own instructions: SHA-NI of x86_64, the cryptography extension of aarch64. */
#include "sha256.h"

#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>

static bool has_instructions(void) {
    static int known; /* 0 unknown, 1 no, 2 yes */
    unsigned a, b, c, d;
    if (known == 0) {
        bool yes = __get_cpuid(1, &a, &b, &c, &d) && (c & bit_SSE4_1) && (c & bit_SSSE3);
        yes = yes && __get_cpuid_count(7, 0, &a, &b, &c, &d) && (b & 1U << 29);
        known = yes ? 2 : 1;
    }
    return known == 2;
}

__attribute__((target("sha,sse4.1,ssse3"))) static void compress_all(uint32_t state[8], const uint8_t *data,
                                                                     size_t count) {
    const __m128i order = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
    __m128i low = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xB1);
    __m128i high = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1B);
    __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
    for (; count > 0; count--, data += 64) {
        __m128i w[4], old_abef = abef, old_cdgh = cdgh;
        for (int i = 0; i < 4; i++)
            w[i] = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(data + 16 * i)), order);
        for (int round = 0; round < 16; round++) {
            __m128i now = w[round & 3];
            __m128i sum = _mm_add_epi32(now, _mm_loadu_si128((const __m128i *)(sha256_constants + 4 * round)));
            cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
            abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
            if (round < 12) {
                __m128i last = w[(round + 3) & 3];
                __m128i next = _mm_sha256msg1_epu32(now, w[(round + 1) & 3]);
                next = _mm_add_epi32(next, _mm_alignr_epi8(last, w[(round + 2) & 3], 4));
                w[round & 3] = _mm_sha256msg2_epu32(next, last);
            }
        }
        abef = _mm_add_epi32(abef, old_abef);
        cdgh = _mm_add_epi32(cdgh, old_cdgh);
    }
    low = _mm_shuffle_epi32(abef, 0x1B);
    high = _mm_shuffle_epi32(cdgh, 0xB1);
    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(low, high, 0xF0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(high, low, 8));
}

#elif defined(__aarch64__)
#include <arm_neon.h>
#include <sys/auxv.h>

static bool has_instructions(void) {
    return (getauxval(AT_HWCAP) & 1UL << 6) != 0; /* HWCAP_SHA2 */
}

__attribute__((target("sha2"))) static void compress_all(uint32_t state[8], const uint8_t *data, size_t count) {
    uint32x4_t abcd = vld1q_u32(state), efgh = vld1q_u32(state + 4);
    for (; count > 0; count--, data += 64) {
        uint32x4_t w[4], old_abcd = abcd, old_efgh = efgh;
        for (int i = 0; i < 4; i++)
            w[i] = vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(data + 16 * i)));
        for (int round = 0; round < 16; round++) {
            uint32x4_t now = w[round & 3];
            uint32x4_t sum = vaddq_u32(now, vld1q_u32(sha256_constants + 4 * round)), before = abcd;
            abcd = vsha256hq_u32(abcd, efgh, sum);
            efgh = vsha256h2q_u32(efgh, before, sum);
            if (round < 12)
                w[round & 3] = vsha256su1q_u32(vsha256su0q_u32(now, w[(round + 1) & 3]), w[(round + 2) & 3],
                                               w[(round + 3) & 3]);
        }
        abcd = vaddq_u32(abcd, old_abcd);
        efgh = vaddq_u32(efgh, old_efgh);
    }
    vst1q_u32(state, abcd);
    vst1q_u32(state + 4, efgh);
}

#else
static bool has_instructions(void) {
    return false;
}

static void compress_all(uint32_t state[8], const uint8_t *data, size_t count) {
    (void)state, (void)data, (void)count;
}
#endif

bool sha256_blocks_by_processor(uint32_t state[8], const uint8_t *data, size_t count) {
    if (!has_instructions())
        return false;
    compress_all(state, data, count);
    return true;
}
