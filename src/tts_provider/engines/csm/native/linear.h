/* Linear layers whose weights have 4 or 8 bits, with a scale for each block of a row's inputs.

   A layer is stored in tiles of 16 outputs, the last one filled up with zeros. A tile holds, block
   by block of the inputs, 16 float32 scales and then groups of 64 bytes, in which every output has
   four: four inputs of 8 bits; or eight of 4 bits, the first four in the low halves. A thread reads
   its tiles from end to end, and a vector's lane is an output.

   A weight is (code - 2^(bits - 1)) · scale. Inputs are rounded to 8 bits with a scale of their own
   for each block, so that products are sums of integers. Every row is computed alike, whatever
   rows are beside it. */

#pragma once

#include <stddef.h>
#include <stdint.h>

#include "vectors.h"

typedef struct {
    const uint8_t *tiles;
    int32_t outputs, inputs, bits, block; /* inputs / block and block / LEAST_BLOCK are whole */
} Linear;

enum { LEAST_BLOCK = 16 };

/* As many rows as the registers hold beside the weights. */
#if defined(__AVX512F__)
enum { ROWS = 8 };
#else
enum { ROWS = 4 };
#endif

/* Rows of inputs, rounded for the blocks of one layer. ROWS of them at a time lie together, four
   inputs of each row in turn; the last ones may be fewer. */
typedef struct {
    int8_t *codes;    /* [rows / ROWS, inputs / 4, ROWS, 4] */
    float *scales;    /* [rows, blocks] */
    int32_t *offsets; /* [rows, blocks]: what weights' codes count too much in a block, negative */
} Rounded;

static inline int32_t whole_tiles(int32_t outputs) { return (outputs + LANES - 1) / LANES; }

size_t tiles_bytes(Linear layer);

/* Codes [outputs, blocks, block · bits / 8], of 4 bits the even input in the low half, and scales
   [outputs, blocks] → tiles. */
void pack_tiles(Linear layer, const uint8_t *codes, const float *scales, uint8_t *tiles);

/* x [count] → inputs `from` and on of row `row` of `to`, which has `rows`; both are whole blocks. */
void round_part(Linear layer, const float *x, int count, Rounded to, int row, int rows, int from);

/* x [inputs] → the row. */
static inline void round_row(Linear layer, const float *x, Rounded to, int row, int rows) {
    round_part(layer, x, layer.inputs, to, row, rows, 0);
}

/* Tiles [from, from + count) times all `rows` → a vector for each, out[row · distance + tile - from]. */
void multiply_tiles(
    Linear layer, int from, int count, Rounded in, int rows, Floats *out, int distance
);
