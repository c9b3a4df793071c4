/* Attention of one KV head's queries over a row of the cache, with rotary position embeddings. */

#pragma once

#include "vectors.h"

enum { WIDEST_HEAD = 16 * LANES };

/* RoPE in place: each of a head's first `half` channels is rotated with the one half a head on. */
void apply_rope(float *head, const float *cos, const float *sin, int half);

/* A query [size] over keys and values [count, size] → out [size]; `scores` has room for whole
   vectors. What is not finite makes all of `out` not finite. */
void attend(
    const float *query, const Half *keys, const Half *values, int count, int size, float *scores,
    float *out
);
