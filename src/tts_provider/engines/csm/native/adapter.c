#include "adapter.h"

/* Inputs that one thread multiplies at a time: the few outputs of `down` are no work for many. */
enum { PIECE = 512 };

/* Rows with the same adapter. */
typedef struct {
    const LayerAdapter *adapter;
    int from, count;
} Run;

static const LayerAdapter *adapter_of(const Adapting *a, int row) {
    const LayerAdapter *layers = a->adapters[row / a->rows_each];
    return layers ? layers + a->layer : NULL;
}

static Run run_from(const Adapting *a, int row) {
    const int group_end = row / ROWS * ROWS + ROWS;
    const int most = group_end < a->rows ? group_end : a->rows;
    Run run = {adapter_of(a, row), row, 1};
    while (row + run.count < most && adapter_of(a, row + run.count) == run.adapter) run.count++;
    return run;
}

static Run run_around(const Adapting *a, int row) {
    Run run = run_from(a, row / ROWS * ROWS);
    while (run.from + run.count <= row) run = run_from(a, run.from + run.count);
    return run;
}

/* The first matrix that does not belong to the product any more. */
static int end_of(enum Matrix product) {
    switch (product) {
    case QUERY: return OUTPUT;
    case GATE: return DOWN;
    default: return product + 1;
    }
}

static int first_of(enum Matrix matrix) {
    switch (matrix) {
    case KEY:
    case VALUE: return QUERY;
    case UP: return GATE;
    default: return matrix;
    }
}

static size_t block_bytes(Linear layer) {
    return tiles_bytes(layer) / whole_tiles(layer.outputs) / (layer.inputs / layer.block);
}

int adapt_pieces(int inputs) { return (inputs + PIECE - 1) / PIECE; }

/* Inputs from `from` on as a layer of their own. */
static Linear piece_of(Linear layer, int from) {
    const int left = layer.inputs - from;
    layer.inputs = left < PIECE ? left : PIECE;
    return layer;
}

/* A run's codes from `from` on, of rows that have `width`. Adapters' blocks may differ, so places go
   by the smallest. */
static Rounded part_of(Rounded all, Run run, int width, int from) {
    const size_t at = (size_t)run.from * width + (size_t)from * run.count;
    return (Rounded){all.codes + at, all.scales + at / LEAST_BLOCK, all.offsets + at / LEAST_BLOCK};
}

static Rounded inputs_of(const Adapting *a, Run run, Linear down, int from) {
    return part_of(a->inputs, run, down.inputs, from);
}

static Rounded middle_of(const Adapting *a, int alike, Run run) {
    run.from += alike * a->rows;
    return part_of(a->middle, run, MOST_RANK, 0);
}

static float *partial_of(const Adapting *a, int alike, int pieces, int piece, int row) {
    const size_t part = (size_t)alike * pieces + piece;
    return a->partial + (part * a->rows + row) * MOST_RANK;
}

void adapt_round(const Adapting *a, enum Matrix product, const float *x, int row) {
    const LayerAdapter *adapter = adapter_of(a, row);
    if (!adapter) return;
    int matrix = product;
    while (matrix < end_of(product) && !adapter->of[matrix].down.tiles) matrix++;
    if (matrix == end_of(product)) return;
    const Linear down = adapter->of[matrix].down;
    const Run run = run_around(a, row);
    for (int from = 0; from < down.inputs; from += PIECE)
        round_row(
            piece_of(down, from), x + from, inputs_of(a, run, down, from), row - run.from, run.count
        );
}

/* One tile of one piece of `down`, times a run. */
static void shrink(const Adapting *a, Run run, Linear down, int alike, int tile, int from) {
    Floats found[ROWS];
    Linear piece = piece_of(down, from);
    const int blocks = down.inputs / down.block;
    piece.tiles += block_bytes(down) * ((size_t)tile * blocks + from / down.block);
    multiply_tiles(piece, 0, 1, inputs_of(a, run, down, from), run.count, found, 1);
    const int pieces = adapt_pieces(down.inputs);
    for (int r = 0; r < run.count; r++)
        store(partial_of(a, alike, pieces, from / PIECE, run.from + r) + tile * LANES, found[r]);
}

void adapt_shrink(const Adapting *a, enum Matrix product, int share, int shares) {
    int turn = 0;
    for (Run run = {0}; run.from < a->rows; run.from += run.count) {
        run = run_from(a, run.from);
        for (int matrix = product; run.adapter && matrix < end_of(product); matrix++) {
            const Linear down = run.adapter->of[matrix].down;
            for (int tile = 0; down.tiles && tile < whole_tiles(down.outputs); tile++)
                for (int from = 0; from < down.inputs; from += PIECE)
                    if (turn++ % shares == share)
                        shrink(a, run, down, matrix - product, tile, from);
        }
    }
}

void adapt_gather(const Adapting *a, enum Matrix product) {
    float sums[MOST_RANK];
    for (Run run = {0}; run.from < a->rows; run.from += run.count) {
        run = run_from(a, run.from);
        for (int matrix = product; run.adapter && matrix < end_of(product); matrix++) {
            const LowRank low = run.adapter->of[matrix];
            const int alike = matrix - product, pieces = adapt_pieces(low.down.inputs);
            for (int r = 0; low.down.tiles && r < run.count; r++) {
                for (int i = 0; i < low.up.inputs; i += LANES) {
                    Floats total = floats(0);
                    for (int piece = 0; piece < pieces; piece++)
                        total += load(partial_of(a, alike, pieces, piece, run.from + r) + i);
                    store(sums + i, total);
                }
                round_row(low.up, sums, middle_of(a, alike, run), r, run.count);
            }
        }
    }
}

void adapt_tiles(
    const Adapting *a, enum Matrix matrix, int from, int count, Floats *out, int distance
) {
    const int alike = matrix - first_of(matrix);
    Floats found[ROWS];
    for (Run run = {0}; run.from < a->rows; run.from += run.count) {
        run = run_from(a, run.from);
        if (!run.adapter || !run.adapter->of[matrix].up.tiles) continue;
        const Linear up = run.adapter->of[matrix].up;
        for (int tile = 0; tile < count; tile++) {
            multiply_tiles(up, from + tile, 1, middle_of(a, alike, run), run.count, found, 1);
            for (int r = 0; r < run.count; r++)
                out[(size_t)(run.from + r) * distance + tile] += found[r];
        }
    }
}
