/* Sums of a block's products, by what the processor multiplies bytes with. All are exact, so every
   processor finds the same. */

#pragma once

#if defined(__x86_64__)
#include <immintrin.h>
#else
#include <arm_neon.h>
#endif

#include <stdbool.h>

#include "linear.h"

#define INLINE static inline __attribute__((always_inline))

enum {
    GROUP = 4 * LANES, /* bytes */
    /* What a thread asks of the memory before it needs it. A processor fetches ahead by itself, but
       not beyond a page of 4 KiB: docs/performance-notes.md. */
    AHEAD = 4096,
};

/* Sums of all rows stay in registers where no loop over the rows is left. */
#define EACH_ROW _Pragma("clang loop unroll(full)")

INLINE int32_t four_codes(const int8_t *from) {
    int32_t four;
    memcpy(&four, from, sizeof four);
    return four;
}

/* The codes of eight inputs of all lanes: the first four, and the others. Returns what is behind. */
INLINE const uint8_t *load_codes(const uint8_t *tile, const int bits, Bytes *w) {
    memcpy(w, tile, GROUP);
    __builtin_prefetch(tile + AHEAD);
    if (bits == 4) {
        const Bytes low_half = (Bytes){0} + 15;
        w[1] = (Bytes)((Ints)w[0] >> 4) & low_half;
        w[0] &= low_half;
        return tile + GROUP;
    }
    memcpy(w + 1, tile + GROUP, GROUP);
    __builtin_prefetch(tile + GROUP + AHEAD);
    return tile + 2 * GROUP;
}

#if defined(__AVX2__) && !defined(__AVX512VNNI__) && !defined(__AVXVNNI__)

typedef int16_t Shorts __attribute__((vector_size(4 * LANES))); /* two in each lane */

/* To each lane and half of it two bytes of `w` times two signed ones of `a`. */
INLINE Shorts multiply_pairs(Bytes w, int32_t a, const int bits) {
    __m256i halves[2];
    memcpy(halves, &w, sizeof w);
    for (int i = 0; i < 2; i++) {
        const __m256i four = _mm256_set1_epi32(a);
        /* Codes of 8 bits are unsigned, too large for two products in 16 bits; what is signed has
           128 at most, and its sign goes to the inputs. */
        const __m256i weights = bits == 4 ? halves[i] : _mm256_abs_epi8(halves[i]);
        const __m256i inputs = bits == 4 ? four : _mm256_sign_epi8(four, halves[i]);
        halves[i] = _mm256_maddubs_epi16(weights, inputs);
    }
    Shorts found;
    memcpy(&found, halves, sizeof found);
    return found;
}

INLINE Ints widen(Shorts pairs) {
    __m256i halves[2];
    memcpy(halves, &pairs, sizeof pairs);
    for (int i = 0; i < 2; i++) halves[i] = _mm256_madd_epi16(halves[i], _mm256_set1_epi16(1));
    Ints found;
    memcpy(&found, halves, sizeof found);
    return found;
}

/* A block's weights times codes of `rows` rows, four of each in turn: sums[r] of row r. `offsets` are
   what the weights' codes count too much. Returns the tile behind. */
INLINE const uint8_t *sum_block(
    const uint8_t *tile, const int block, const int bits, const int8_t *codes, const int rows,
    const int32_t *offsets, int offset_distance, Ints *sums
) {
    /* 15 · 127 · 16 fit into 16 bits, so codes of 4 bits are widened after 32 inputs. */
    const int together = bits == 4 ? 32 : 8;
    for (int r = 0; r < rows; r++) sums[r] = ints(bits == 4 ? offsets[r * offset_distance] : 0);
    for (int k = 0; k < block;) {
        Shorts pairs[ROWS];
        for (int r = 0; r < rows; r++) pairs[r] = (Shorts){0};
        const int end = block - k < together ? block : k + together;
        for (; k < end; k += 8, codes += 8 * rows) {
            Bytes w[2];
            tile = load_codes(tile, bits, w);
            if (bits == 8) w[0] ^= 128, w[1] ^= 128;
            for (int r = 0; r < rows; r++) {
                const int32_t a = four_codes(codes + 4 * r), b = four_codes(codes + 4 * (rows + r));
                if (bits == 4) {
                    pairs[r] += multiply_pairs(w[0], a, 4) + multiply_pairs(w[1], b, 4);
                } else {
                    sums[r] += widen(multiply_pairs(w[0], a, 8));
                    sums[r] += widen(multiply_pairs(w[1], b, 8));
                }
            }
        }
        if (bits == 4)
            for (int r = 0; r < rows; r++) sums[r] += widen(pairs[r]);
    }
    return tile;
}

#else

#if defined(__ARM_FEATURE_DOTPROD) && !defined(__ARM_FEATURE_MATMUL_INT8)
enum { HAS_SIGNED_CODES = 1 }; /* of 8 bits, as signed numbers */
#else
enum { HAS_SIGNED_CODES = 0 };
#endif
#if defined(__AVX512F__)
enum { SPLIT_ROWS = ROWS };
#else
enum { SPLIT_ROWS = 2 };
#endif

/* To each lane its four bytes of `w` times the four signed ones of `a`. */
INLINE Ints dot(Ints to, Bytes w, int32_t a) {
#if defined(__AVX512VNNI__)
    return (Ints)_mm512_dpbusd_epi32((__m512i)to, (__m512i)w, _mm512_set1_epi32(a));
#elif defined(__AVXVNNI__)
    __m256i totals[2], halves[2];
    memcpy(totals, &to, sizeof to);
    memcpy(halves, &w, sizeof w);
    for (int i = 0; i < 2; i++)
        totals[i] = _mm256_dpbusd_avx_epi32(totals[i], halves[i], _mm256_set1_epi32(a));
    memcpy(&to, totals, sizeof to);
    return to;
#else
    int32x4_t totals[4];
    uint8x16_t quarters[4];
    const int8x16_t four = vreinterpretq_s8_s32(vdupq_n_s32(a));
    memcpy(totals, &to, sizeof to);
    memcpy(quarters, &w, sizeof w);
    for (int i = 0; i < 4; i++)
#if defined(__ARM_FEATURE_MATMUL_INT8)
        totals[i] = vusdotq_s32(totals[i], quarters[i], four);
#else
        totals[i] = vdotq_s32(totals[i], vreinterpretq_s8_u8(quarters[i]), four);
#endif
    memcpy(&to, totals, sizeof to);
    return to;
#endif
}

/* A block's weights times codes of `rows` rows, four of each in turn: sums[r] of row r. `offsets` are
   what the weights' codes count too much. Returns the tile behind. */
INLINE const uint8_t *sum_block(
    const uint8_t *tile, const int block, const int bits, const int8_t *codes, const int rows,
    const int32_t *offsets, int offset_distance, Ints *sums
) {
    const bool is_signed = bits == 8 && HAS_SIGNED_CODES;
    /* Two sums a row, since a product waits for the one before it. More rows are enough by
       themselves, and 16 or 32 registers hold no more. */
    const bool is_split = rows <= SPLIT_ROWS;
    Ints second[ROWS];
    EACH_ROW for (int r = 0; r < rows; r++) {
        sums[r] = ints(is_signed ? 0 : offsets[r * offset_distance]);
        second[r] = ints(0);
    }
    for (int k = 0; k < block; k += 8, codes += 8 * rows) {
        Bytes w[2];
        tile = load_codes(tile, bits, w);
        if (is_signed) w[0] ^= 128, w[1] ^= 128;
        EACH_ROW for (int r = 0; r < rows; r++) {
            const int32_t a = four_codes(codes + 4 * r), b = four_codes(codes + 4 * (rows + r));
            sums[r] = dot(sums[r], w[0], a);
            if (is_split) second[r] = dot(second[r], w[1], b);
            else sums[r] = dot(sums[r], w[1], b);
        }
    }
    if (is_split) EACH_ROW for (int r = 0; r < rows; r++) sums[r] += second[r];
    return tile;
}

#endif
