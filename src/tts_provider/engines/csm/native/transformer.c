/* Steps of a transformer of Llama's shape: RMSNorm, grouped-query attention with RoPE, SiLU-gated
   MLP, no biases. Activations, keys and values are float32.

   A team computes a step together: rows and heads are shared out where those are the work, tiles of
   outputs where weights are read. Nothing depends on the number of threads, on the rows beside a
   row, or on how a sequence is cut, not to the last bit. */

#include <stdbool.h>

#include "linear.h"
#include "team.h"

enum {
    MOST_ROWS = 128, /* that pass through a layer at once; a longer sequence is read in pieces */
    LEAST_BLOCK = 16,
    WIDEST_HEAD = 16 * LANES,
};

typedef struct {
    Linear query_key, value, output, gate, up, down;
    const float *attention_norm, *mlp_norm; /* [width] */
    float *keys, *values;                   /* [slots, kv_heads, positions, head_size] */
} Layer;

typedef struct {
    int32_t layers, width, heads, kv_heads, head_size, mlp_width, positions;
    float norm_eps;
    const Layer *layer;
    const float *norm;      /* [width] */
    const float *cos, *sin; /* [positions, head_size / 2] */
} Transformer;

/* A linear layer of the last position's hidden state; `out` is [batch, outputs], in whole tiles. */
typedef struct {
    Linear layer;
    float *out;
} Head;

typedef struct {
    const Transformer *transformer;
    const float *x;         /* [batch, sequence, width] */
    const int32_t *lengths; /* [batch]: positions that the batch's slots hold already */
    const Head *head;
    void *workspace; /* of `workspace_bytes`, at a multiple of 64 */
    int32_t batch, sequence, first_slot, heads;
} Step;

/* What the layers hand each other; a row is a position of one sequence. */
typedef struct {
    float *x, *h, *delta; /* [rows, width] */
    float *qkv;           /* [rows, (heads + 2 kv_heads) · head_size] */
    float *attended;      /* [rows, heads · head_size] */
    float *gated;         /* [rows, mlp_width] */
    float *scores;        /* [threads, positions] */
    Rounded rounded, rounded_for_value;
} Workspace;

static int largest(int a, int b) { return a > b ? a : b; }

static int pieces_length(int batch) { return largest(1, MOST_ROWS / batch); }

static void *take(char **at, size_t bytes) {
    void *taken = *at;
    *at += (bytes + 63) / 64 * 64;
    return taken;
}

/* Returns how many bytes it takes from `room` on. */
static size_t lay_out(const Transformer *t, int batch, int threads, char *room, Workspace *space) {
    const size_t rows = largest(MOST_ROWS, batch), real = sizeof(float);
    const int queries = t->heads * t->head_size;
    const size_t inputs = largest(largest(t->width, queries), t->mlp_width);
    char *at = room;
    space->x = take(&at, rows * t->width * real);
    space->h = take(&at, rows * t->width * real);
    space->delta = take(&at, rows * t->width * real);
    space->qkv = take(&at, rows * (queries + 2 * t->kv_heads * t->head_size) * real);
    space->attended = take(&at, rows * queries * real);
    space->gated = take(&at, rows * t->mlp_width * real);
    space->scores = take(&at, (size_t)threads * (t->positions + LANES) * real);
    for (int i = 0; i < 2; i++) {
        Rounded *rounded = i ? &space->rounded_for_value : &space->rounded;
        rounded->codes = take(&at, rows * inputs);
        rounded->scales = take(&at, rows * (inputs / LEAST_BLOCK) * real);
        rounded->offsets = take(&at, rows * (inputs / LEAST_BLOCK) * sizeof(int32_t));
    }
    return (size_t)(at - room);
}

size_t workspace_bytes(const Transformer *transformer, int batch, int threads) {
    Workspace space;
    return lay_out(transformer, batch, threads, NULL, &space);
}

/* x += delta, where there is one; h = RMSNorm of x. */
static void
add_and_norm(const Transformer *t, const float *gain, float *x, const float *delta, float *h) {
    Floats squares = floats(0);
    for (int i = 0; i < t->width; i += LANES) {
        Floats value = load(x + i);
        if (delta) value += load(delta + i);
        store(x + i, value);
        squares += value * value;
    }
    const Floats inverse = floats(1 / __builtin_sqrtf(sum(squares) / t->width + t->norm_eps));
    for (int i = 0; i < t->width; i += LANES) store(h + i, load(x + i) * inverse * load(gain + i));
}

/* RoPE, a channel paired with the one half a head further on. */
static void turn(float *head, const float *cos, const float *sin, int half) {
    for (int i = 0; i < half; i++) {
        const float a = head[i], b = head[i + half];
        head[i] = a * cos[i] - b * sin[i];
        head[i + half] = b * cos[i] + a * sin[i];
    }
}

/* A query [size] over keys and values [count, size]; `scores` has room for whole vectors. */
static void attend(
    const float *query, const float *keys, const float *values, int count, int size, float *scores,
    float *out
) {
    const int whole = (count + LANES - 1) / LANES * LANES, vectors = size / LANES;
    const float scale = 1 / __builtin_sqrtf((float)size), nothing = -1e30f;
    float most = nothing;
    for (int p = 0; p < count; p++) {
        const float *key = keys + (size_t)p * size;
        Floats products = floats(0);
        for (int i = 0; i < vectors; i++)
            products += load(query + i * LANES) * load(key + i * LANES);
        scores[p] = scale * sum(products);
        if (scores[p] > most) most = scores[p];
    }
    for (int p = count; p < whole; p++) scores[p] = nothing;
    Floats weights = floats(0);
    for (int p = 0; p < whole; p += LANES) {
        const Floats weight = exponential(load(scores + p) - floats(most));
        store(scores + p, weight);
        weights += weight;
    }
    const Floats inverse = floats(1 / sum(weights));
    Floats sums[WIDEST_HEAD / LANES];
    for (int i = 0; i < vectors; i++) sums[i] = floats(0);
    for (int p = 0; p < count; p++)
        for (int i = 0; i < vectors; i++)
            sums[i] += floats(scores[p]) * load(values + (size_t)p * size + i * LANES);
    for (int i = 0; i < vectors; i++) store(out + i * LANES, sums[i] * inverse);
}

/* One KV head of one slot: each position's key and value are kept, then its queries look back. */
static void attend_head(
    const Transformer *t, const Layer *layer, Workspace space, int slot, int kv_head, int past,
    int row, int count, float *scores
) {
    const int size = t->head_size, group = t->heads / t->kv_heads;
    const int queries = t->heads * size, kv = t->kv_heads * size;
    const size_t head = ((size_t)slot * t->kv_heads + kv_head) * t->positions * size;
    float *keys = layer->keys + head, *values = layer->values + head;
    for (int end = past + count; past < end; past++, row++) {
        float *query = space.qkv + (size_t)row * (queries + 2 * kv) + kv_head * group * size;
        float *key = space.qkv + (size_t)row * (queries + 2 * kv) + queries + kv_head * size;
        const float *cos = t->cos + (size_t)past * (size / 2);
        const float *sin = t->sin + (size_t)past * (size / 2);
        turn(key, cos, sin, size / 2);
        memcpy(keys + (size_t)past * size, key, size * sizeof(float));
        memcpy(values + (size_t)past * size, key + kv, size * sizeof(float));
        float *out = space.attended + (size_t)row * queries + kv_head * group * size;
        for (int g = 0; g < group; g++) {
            turn(query + g * size, cos, sin, size / 2);
            attend(query + g * size, keys, values, past + 1, size, scores, out + g * size);
        }
    }
}

/* out[row, …] = layer · in[row]; a member's share of the tiles. */
static void
multiply(Linear layer, Rounded in, int rows, float *out, int stride, int member, int size) {
    const Range tiles = share(whole_tiles(layer.outputs), member, size);
    Floats found[ROWS];
    for (int tile = tiles.from; tile < tiles.to; tile++)
        for (int row = 0; row < rows; row += ROWS) {
            const int count = rows - row < ROWS ? rows - row : ROWS;
            multiply_tile(layer, tile, in, row, count, found);
            for (int r = 0; r < count; r++)
                store(out + (size_t)(row + r) * stride + tile * LANES, found[r]);
        }
}

/* out[row, …] = silu(gate · in[row]) · (up · in[row]). */
static void
multiply_gated(const Layer *layer, Rounded in, int rows, float *out, int member, int size) {
    const int width = layer->gate.outputs;
    const Range tiles = share(whole_tiles(width), member, size);
    Floats gate[ROWS], up[ROWS];
    for (int tile = tiles.from; tile < tiles.to; tile++)
        for (int row = 0; row < rows; row += ROWS) {
            const int count = rows - row < ROWS ? rows - row : ROWS;
            multiply_tile(layer->gate, tile, in, row, count, gate);
            multiply_tile(layer->up, tile, in, row, count, up);
            for (int r = 0; r < count; r++) {
                const Floats silu = gate[r] / (floats(1) + exponential(-gate[r]));
                store(out + (size_t)(row + r) * width + tile * LANES, silu * up[r]);
            }
        }
}

/* Positions [from, from + count) of every sequence, through all layers. */
static void run_piece(
    const Step *step, Workspace space, int from, int count, Team *team, int member, int size
) {
    const Transformer *t = step->transformer;
    const int rows = step->batch * count, width = t->width, queries = t->heads * t->head_size;
    const int kv = t->kv_heads * t->head_size, qkv = queries + 2 * kv;
    const Range mine = share(rows, member, size);
    const Range heads = share(step->batch * t->kv_heads, member, size);
    float *scores = space.scores + (size_t)member * (t->positions + LANES);

    for (int row = mine.from; row < mine.to; row++) {
        const size_t position = (size_t)(row / count) * step->sequence + from + row % count;
        memcpy(space.x + (size_t)row * width, step->x + position * width, width * sizeof(float));
    }
    for (int n = 0; n < t->layers; n++) {
        const Layer *layer = t->layer + n;
        const bool is_alike = layer->value.bits == layer->query_key.bits &&
                              layer->value.block == layer->query_key.block;
        const Rounded for_value = is_alike ? space.rounded : space.rounded_for_value;
        for (int row = mine.from; row < mine.to; row++) {
            float *h = space.h + (size_t)row * width;
            const float *delta = n ? space.delta + (size_t)row * width : NULL;
            add_and_norm(t, layer->attention_norm, space.x + (size_t)row * width, delta, h);
            round_row(layer->query_key, h, space.rounded, row);
            if (!is_alike) round_row(layer->value, h, for_value, row);
        }
        team_meet(team);
        multiply(layer->query_key, space.rounded, rows, space.qkv, qkv, member, size);
        multiply(layer->value, for_value, rows, space.qkv + queries + kv, qkv, member, size);
        team_meet(team);
        for (int i = heads.from; i < heads.to; i++) {
            const int sequence = i / t->kv_heads;
            attend_head(
                t, layer, space, step->first_slot + sequence, i % t->kv_heads,
                step->lengths[sequence] + from, sequence * count, count, scores
            );
        }
        team_meet(team);
        for (int row = mine.from; row < mine.to; row++)
            round_row(layer->output, space.attended + (size_t)row * queries, space.rounded, row);
        team_meet(team);
        multiply(layer->output, space.rounded, rows, space.delta, width, member, size);
        team_meet(team);
        for (int row = mine.from; row < mine.to; row++) {
            const size_t at = (size_t)row * width;
            add_and_norm(t, layer->mlp_norm, space.x + at, space.delta + at, space.h + at);
            round_row(layer->gate, space.h + at, space.rounded, row);
        }
        team_meet(team);
        multiply_gated(layer, space.rounded, rows, space.gated, member, size);
        team_meet(team);
        for (int row = mine.from; row < mine.to; row++)
            round_row(layer->down, space.gated + (size_t)row * t->mlp_width, space.rounded, row);
        team_meet(team);
        multiply(layer->down, space.rounded, rows, space.delta, width, member, size);
        team_meet(team);
    }
    if (from + count < step->sequence) return;

    const Range sequences = share(step->batch, member, size);
    for (int n = 0; n < step->heads; n++) {
        const Head head = step->head[n];
        for (int i = sequences.from; i < sequences.to; i++) {
            const size_t last = ((size_t)(i + 1) * count - 1) * width;
            if (n == 0)
                add_and_norm(t, t->norm, space.x + last, space.delta + last, space.h + last);
            round_row(head.layer, space.h + last, space.rounded, i);
        }
        team_meet(team);
        multiply(
            head.layer, space.rounded, step->batch, head.out,
            LANES * whole_tiles(head.layer.outputs), member, size
        );
        team_meet(team);
    }
}

static void run_step(const void *task, Team *team, int member, int size) {
    const Step *step = task;
    const int length = pieces_length(step->batch);
    Workspace space;
    lay_out(step->transformer, step->batch, size, step->workspace, &space);
    for (int from = 0; from < step->sequence; from += length) {
        const int left = step->sequence - from;
        run_piece(step, space, from, left < length ? left : length, team, member, size);
    }
}

void transformer_run(Team *team, const Step *step) { team_do(team, run_step, step); }
