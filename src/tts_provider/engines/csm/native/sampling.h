/* Drawing codes: temperature, top-k and random numbers by code, as sampling.py defines them. */

#pragma once

#include <stdint.h>

enum { NO_CODE = -1 };

/* How one row draws in a frame. */
typedef struct {
    uint64_t key;
    int64_t frame;
    double temperature, depth_temperature; /* the latter of all codebooks but the first */
    int32_t top_k, depth_top_k;
} Sampling;

/* The code of codebook `book` from `count` logits; NO_CODE where one is not a number or infinite, or
   all are minus infinity. `keys` has room for them in whole vectors. */
int32_t
draw_code(const Sampling *sampling, int book, const float *logits, int count, int32_t *keys);
