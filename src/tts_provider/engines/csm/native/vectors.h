/* Vectors of 16 lanes: one register with AVX-512, two with AVX2, four with NEON. */

#pragma once

#include <stdint.h>
#include <string.h>

enum { LANES = 16 };

typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint8_t Bytes __attribute__((vector_size(4 * LANES))); /* four in each lane */

/* Keys and values as they are kept: 16 bits, rounded to the nearest, infinite from 65520 on. */
typedef _Float16 Half;
typedef Half Halves __attribute__((vector_size(2 * LANES)));

static inline Floats floats(float value) { return value - (Floats){0}; }
static inline Ints ints(int32_t value) { return value - (Ints){0}; }
static inline Floats to_floats(Ints x) { return __builtin_convertvector(x, Floats); }

static inline Floats load(const float *from) {
    Floats x;
    memcpy(&x, from, sizeof x);
    return x;
}

static inline void store(float *to, Floats x) { memcpy(to, &x, sizeof x); }

static inline Floats load_halves(const Half *from) {
    Halves x;
    memcpy(&x, from, sizeof x);
    return __builtin_convertvector(x, Floats);
}

static inline void store_halves(Half *to, Floats x) {
    const Halves rounded = __builtin_convertvector(x, Halves);
    memcpy(to, &rounded, sizeof rounded);
}

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
