/* Vectors of 16 lanes: one register with AVX-512, two with AVX2. */

#pragma once

#include <immintrin.h>
#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(4 * LANES))); /* four in each lane */

static inline Floats floats(float value) { return value - (Floats){0}; }
static inline Ints ints(int32_t value) { return value - (Ints){0}; }
static inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

static inline Floats load(const float *from) {
    Floats x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline void store(float *to, Floats x) { memcpy(to, &x, sizeof x); }

static inline float sum(Floats x) {
    typedef float Eight __attribute__((vector_size(32)));
    typedef float Four __attribute__((vector_size(16)));
    Eight halves[2];
    Four quarters[2];
    memcpy(halves, &x, sizeof x);
    halves[0] += halves[1];
    memcpy(quarters, halves, sizeof quarters);
    quarters[0] += quarters[1];
    return (quarters[0][0] + quarters[0][2]) + (quarters[0][1] + quarters[0][3]);
}

/* To the nearest integer, halves to even; |x| < 2^22. */
static inline Ints to_nearest(Floats x) {
    const Floats big = floats(0x1.8p23f); /* beside it a float has no room for a fraction */
    return (Ints)(x + big) - (Ints)big;
}

/* e^x, as good as float32 is, for -87 <= x <= 88 and cut off there: 2^n · e^r with |r| <= ln 2 / 2. */
static inline Floats exponential(Floats x) {
    x = __builtin_elementwise_min(__builtin_elementwise_max(x, floats(-87)), floats(88));
    Ints n = to_nearest(x * floats(1.44269504f));
    Floats r = x - to_floats(n) * floats(0x1.62e4p-1f) - to_floats(n) * floats(0x1.7f7d1cp-20f);
    Floats series = floats(1.0f / 720);
    series = series * r + floats(1.0f / 120);
    series = series * r + floats(1.0f / 24);
    series = series * r + floats(1.0f / 6);
    series = series * r + floats(1.0f / 2);
    series = series * r + floats(1);
    series = series * r + floats(1);
    return (Floats)((Ints)series + (n << 23));
}

/* To each lane its four bytes of `w` times the four signed ones of `a`. The bytes of `w` are below
   16 where `bits` is 4. Exact: every processor finds the same. */
static inline Ints dot(Ints to, Bytes w, int32_t a, int bits) {
#if defined(__AVX512VNNI__)
    (void)bits;
    return (Ints)_mm512_dpbusd_epi32((__m512i)to, (__m512i)w, _mm512_set1_epi32(a));
#else
    const __m256i four = _mm256_set1_epi32(a), one = _mm256_set1_epi16(1);
    __m256i totals[2], halves[2];
    memcpy(totals, &to, sizeof to);
    memcpy(halves, &w, sizeof w);
    for (int i = 0; i < 2; i++) {
        __m256i found;
        if (bits == 4) {
            found = _mm256_madd_epi16(_mm256_maddubs_epi16(halves[i], four), one);
        } else { /* the sum of two products with 255 does not fit into maddubs' 16 bits */
            __m256i even = _mm256_and_si256(halves[i], _mm256_set1_epi16(255));
            __m256i odd = _mm256_srli_epi16(halves[i], 8);
            __m256i even_a = _mm256_srai_epi16(_mm256_slli_epi16(four, 8), 8);
            __m256i odd_a = _mm256_srai_epi16(four, 8);
            found =
                _mm256_add_epi32(_mm256_madd_epi16(even, even_a), _mm256_madd_epi16(odd, odd_a));
        }
        totals[i] = _mm256_add_epi32(totals[i], found);
    }
    memcpy(&to, totals, sizeof to);
    return to;
#endif
}
