/* What adapters (LoRA) add to a layer's products: y += up · (down · x), a row by its own adapter.

   Rows that follow each other in a group of ROWS and have the same adapter are a run, which is
   computed together. A row is computed alike in any run. Matrices with the same input are a
   product; `product` is the first of them. A step calls, where any of its sequences has an adapter:

   adapt_round    where the rows of x are rounded for the layer itself;
   adapt_shrink   in a phase behind that: down · x in pieces, shared out;
   adapt_gather   behind that phase, by one thread: the sums of the pieces, rounded;
   adapt_tiles    after tiles of the layer itself. */

#pragma once

#include "linear.h"

enum Matrix { QUERY, KEY, VALUE, OUTPUT, GATE, UP, DOWN, MATRICES };
enum { MOST_RANK = 256, MOST_ALIKE = 3 /* matrices with the same input */ };

/* Both have 8 bits, all `down` of a product the same block. `tiles` are NULL where the adapter does
   not change the matrix. */
typedef struct {
    Linear down; /* A: [rank, inputs], a multiple of LANES filled up with zeros */
    Linear up;   /* scale · B: [outputs, rank] */
} LowRank;

/* What an adapter changes in one layer. */
typedef struct {
    LowRank of[MATRICES];
} LayerAdapter;

typedef struct {
    const LayerAdapter *const *adapters; /* [sequences] each its layers', NULL where it has none */
    int layer, rows, rows_each;          /* a sequence has `rows_each` rows */
    Rounded inputs;                      /* [rows]; a run's pieces one after the other */
    float *partial;                      /* [alike · pieces, rows, MOST_RANK] */
    Rounded middle;                      /* down · x, [MOST_ALIKE, rows, MOST_RANK] */
} Adapting;

/* How many pieces `inputs` are cut into. */
int adapt_pieces(int inputs);

void adapt_round(const Adapting *a, enum Matrix product, const float *x, int row);

/* One of `shares`. */
void adapt_shrink(const Adapting *a, enum Matrix product, int share, int shares);

void adapt_gather(const Adapting *a, enum Matrix product);

/* Adds tiles [from, from + count) of all rows to out[row · distance + tile - from]. */
void adapt_tiles(
    const Adapting *a, enum Matrix matrix, int from, int count, Floats *out, int distance
);
