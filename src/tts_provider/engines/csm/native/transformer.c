/* Steps of a transformer of Llama's shape: RMSNorm, grouped-query attention with RoPE, SiLU-gated
   MLP, no biases. Activations, keys and values are float32.

   A pool computes a step together: rows and heads are shared out where those are the work, tiles of
   outputs where weights are read. Nothing depends on the number of threads, on the rows beside a
   row, or on how a sequence is cut, not to the last bit. */

#include <limits.h>
#include <stdbool.h>

#include "adapter.h"
#include "linear.h"
#include "thread_pool.h"

enum {
    MOST_ROWS = 128, /* that pass through a layer at once; a longer sequence is read in pieces */
    WIDEST_HEAD = 16 * LANES,
};

typedef struct {
    Linear query_key, value, output, gate, up, down;
    const float *attention_norm, *mlp_norm; /* [width] */
    float *keys, *values;                   /* [rows, kv_heads, positions, head_size] */
} Layer;

typedef struct {
    int32_t layers, width, heads, kv_heads, head_size, mlp_width, positions;
    float norm_eps;
    const Layer *layer;
    const float *norm;      /* [width] */
    const float *cos, *sin; /* [positions, head_size / 2] */
} Transformer;

/* What is asked of the last position's hidden state: a linear layer, `out` [batch, outputs] in whole
   tiles. */
typedef struct {
    Linear layer;
    float *out;
} Output;

typedef struct {
    const Transformer *transformer;
    const float *x;         /* [batch, sequence, width] */
    const int32_t *lengths; /* [batch]: positions that the batch's rows of the cache hold already */
    const Output *output;
    const LayerAdapter *const *adapters; /* [batch], as `Adapting` has them; NULL: nobody has one */
    void *workspace;                     /* of `workspace_bytes`, at a multiple of 64 */
    int32_t batch, sequence, first_row, outputs;
} Step;

/* What Python's structures must agree with. */
void describe(int32_t *sizes) {
    const int32_t found[] = {
        LANES,          WIDEST_HEAD,          MOST_RANK,
        sizeof(Linear), sizeof(Layer),        sizeof(Transformer),
        sizeof(Output), sizeof(LayerAdapter), sizeof(Step),
    };
    memcpy(sizes, found, sizeof found);
}

/* What the layers hand each other; a row is a position of one sequence. */
typedef struct {
    float *x, *h, *delta; /* [rows, width] */
    float *qkv;           /* [rows, (heads + 2 kv_heads) · head_size] */
    float *attended;      /* [rows, heads · head_size] */
    float *gated;         /* [rows, mlp_width] */
    float *scores;        /* [threads, positions] */
    Rounded rounded, rounded_for_value;
    /* Where a row has an adapter: its inputs, down · x in pieces, and rounded by each thread. */
    Rounded adapter_inputs,
        adapter_middle; /* of the latter [threads, MOST_ALIKE, rows, MOST_RANK] */
    float *adapter_partial;
} Workspace;

static int largest(int a, int b) { return a > b ? a : b; }

static int pieces_length(int batch) { return largest(1, MOST_ROWS / batch); }

static void *take(char **at, size_t bytes) {
    void *taken = *at;
    *at += (bytes + 63) / 64 * 64;
    return taken;
}

static Rounded take_rounded(char **at, size_t codes) {
    Rounded rounded = {.codes = take(at, codes)};
    rounded.scales = take(at, codes / LEAST_BLOCK * sizeof(float));
    rounded.offsets = take(at, codes / LEAST_BLOCK * sizeof(int32_t));
    return rounded;
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
    space->rounded = take_rounded(&at, rows * inputs);
    space->rounded_for_value = take_rounded(&at, rows * inputs);
    space->adapter_inputs = take_rounded(&at, rows * inputs);
    space->adapter_middle = take_rounded(&at, threads * MOST_ALIKE * rows * MOST_RANK);
    const size_t pieces = MOST_ALIKE * (size_t)adapt_pieces(inputs);
    space->adapter_partial = take(&at, pieces * rows * MOST_RANK * real);
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
    float most = nothing, odd = 0; /* NaN once a score is not finite, which e^x would not show */
    for (int p = 0; p < count; p++) {
        const float *key = keys + (size_t)p * size;
        Floats products = floats(0);
        for (int i = 0; i < vectors; i++)
            products += load(query + i * LANES) * load(key + i * LANES);
        scores[p] = scale * sum(products);
        odd += scores[p] - scores[p];
        if (scores[p] > most) most = scores[p];
    }
    for (int p = count; p < whole; p++) scores[p] = nothing;
    Floats weights = floats(0);
    for (int p = 0; p < whole; p += LANES) {
        const Floats weight = exponential(load(scores + p) - floats(most));
        store(scores + p, weight);
        weights += weight;
    }
    const Floats inverse = floats(1 / sum(weights) + odd);
    Floats sums[WIDEST_HEAD / LANES];
    for (int i = 0; i < vectors; i++) sums[i] = floats(0);
    for (int p = 0; p < count; p++)
        for (int i = 0; i < vectors; i++)
            sums[i] += floats(scores[p]) * load(values + (size_t)p * size + i * LANES);
    for (int i = 0; i < vectors; i++) store(out + i * LANES, sums[i] * inverse);
}

/* One KV head of a row of the cache: each position's key and value are kept, then its queries look
   back. */
static void attend_head(
    const Transformer *t, const Layer *layer, Workspace space, int cache_row, int kv_head, int past,
    int row, int count, float *scores
) {
    const int size = t->head_size, group = t->heads / t->kv_heads;
    const int queries = t->heads * size, kv = t->kv_heads * size;
    const size_t head = ((size_t)cache_row * t->kv_heads + kv_head) * t->positions * size;
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

/* One member's part of a piece of a step: positions [from, from + count) of every sequence. */
typedef struct {
    const Step *step;
    const Transformer *t;
    Workspace space;
    int from, count, rows;
    ThreadPool *pool;
    int member, members;
    const Adapting *adapting; /* NULL where nobody has an adapter */
} Part;

static Range share_of(const Part *part, int count) {
    return share(count, part->member, part->members);
}

/* Between the rounding of a product's inputs and the product. */
static void prepare_adapters(const Part *part, enum Matrix product) {
    if (!part->adapting) return;
    adapt_shrink(part->adapting, product);
    thread_pool_barrier(part->pool);
    adapt_gather(part->adapting, product);
}

static void round_for_adapters(const Part *part, enum Matrix product, const float *x, int row) {
    if (part->adapting) adapt_round(part->adapting, product, x, row);
}

/* What the layer is to adapters: from tile `second_from` on it is the matrix after `matrix`. */
typedef struct {
    enum Matrix matrix;
    int second_from;
} Adapted;

static const Adapted NOT_ADAPTED = {MATRICES, 0};

static Adapted whole(enum Matrix matrix) { return (Adapted){matrix, INT_MAX}; }

static void adapt(const Part *part, Adapted adapted, int tile, int row, int count, Floats *found) {
    if (!part->adapting || adapted.matrix == MATRICES) return;
    const bool is_second = tile >= adapted.second_from;
    adapt_tile(
        part->adapting, adapted.matrix + is_second, is_second ? tile - adapted.second_from : tile,
        row, count, found
    );
}

/* out[row, …] = layer · in[row]; a share of the tiles. */
static void multiply(
    const Part *part, Linear layer, Adapted adapted, Rounded in, int rows, float *out, int stride
) {
    const Range tiles = share_of(part, whole_tiles(layer.outputs));
    Floats found[ROWS];
    for (int tile = tiles.from; tile < tiles.to; tile++)
        for (int row = 0; row < rows; row += ROWS) {
            const int count = rows - row < ROWS ? rows - row : ROWS;
            multiply_tile(layer, tile, in, row, count, found);
            adapt(part, adapted, tile, row, count, found);
            for (int r = 0; r < count; r++)
                store(out + (size_t)(row + r) * stride + tile * LANES, found[r]);
        }
}

/* gated[row, …] = silu(gate · in[row]) · (up · in[row]); a share of the tiles. */
static void multiply_gated(const Part *part, const Layer *layer) {
    const int width = layer->gate.outputs;
    const Range tiles = share_of(part, whole_tiles(width));
    Floats gate[ROWS], up[ROWS];
    for (int tile = tiles.from; tile < tiles.to; tile++)
        for (int row = 0; row < part->rows; row += ROWS) {
            const int count = part->rows - row < ROWS ? part->rows - row : ROWS;
            multiply_tile(layer->gate, tile, part->space.rounded, row, count, gate);
            multiply_tile(layer->up, tile, part->space.rounded, row, count, up);
            adapt(part, whole(GATE), tile, row, count, gate);
            adapt(part, whole(UP), tile, row, count, up);
            for (int r = 0; r < count; r++) {
                const Floats silu = gate[r] / (floats(1) + exponential(-gate[r]));
                store(part->space.gated + (size_t)(row + r) * width + tile * LANES, silu * up[r]);
            }
        }
}

static bool is_rounded_alike(Linear a, Linear b) { return a.bits == b.bits && a.block == b.block; }

/* x → delta. At each meeting the pool has what the next lines read of others' rows or tiles. */
static void run_attention(const Part *part, const Layer *layer, const float *delta) {
    const Transformer *t = part->t;
    const Workspace space = part->space;
    const int width = t->width, rows = part->rows;
    const int queries = t->heads * t->head_size, kv = t->kv_heads * t->head_size;
    const bool is_alike = is_rounded_alike(layer->value, layer->query_key);
    const Rounded for_value = is_alike ? space.rounded : space.rounded_for_value;
    const Range mine = share_of(part, rows);

    for (int row = mine.from; row < mine.to; row++) {
        const size_t at = (size_t)row * width;
        add_and_norm(
            t, layer->attention_norm, space.x + at, delta ? delta + at : NULL, space.h + at
        );
        round_row(layer->query_key, space.h + at, space.rounded, row, rows);
        if (!is_alike) round_row(layer->value, space.h + at, for_value, row, rows);
        round_for_adapters(part, QUERY, space.h + at, row);
    }
    thread_pool_barrier(part->pool);
    prepare_adapters(part, QUERY);
    const Adapted query_key = {QUERY, queries / LANES};
    const int stride = queries + 2 * kv;
    multiply(part, layer->query_key, query_key, space.rounded, rows, space.qkv, stride);
    multiply(part, layer->value, whole(VALUE), for_value, rows, space.qkv + queries + kv, stride);
    thread_pool_barrier(part->pool);
    const Range heads = share_of(part, part->step->batch * t->kv_heads);
    float *scores = space.scores + (size_t)part->member * (t->positions + LANES);
    for (int i = heads.from; i < heads.to; i++) {
        const int sequence = i / t->kv_heads, past = part->step->lengths[sequence] + part->from;
        attend_head(
            t, layer, space, part->step->first_row + sequence, i % t->kv_heads, past,
            sequence * part->count, part->count, scores
        );
    }
    thread_pool_barrier(part->pool);
    for (int row = mine.from; row < mine.to; row++) {
        const float *attended = space.attended + (size_t)row * queries;
        round_row(layer->output, attended, space.rounded, row, rows);
        round_for_adapters(part, OUTPUT, attended, row);
    }
    thread_pool_barrier(part->pool);
    prepare_adapters(part, OUTPUT);
    multiply(part, layer->output, whole(OUTPUT), space.rounded, rows, space.delta, width);
    thread_pool_barrier(part->pool);
}

/* x + delta → delta. */
static void run_mlp(const Part *part, const Layer *layer) {
    const Workspace space = part->space;
    const int width = part->t->width, mlp_width = part->t->mlp_width, rows = part->rows;
    const Range mine = share_of(part, rows);

    for (int row = mine.from; row < mine.to; row++) {
        const size_t at = (size_t)row * width;
        add_and_norm(part->t, layer->mlp_norm, space.x + at, space.delta + at, space.h + at);
        round_row(layer->gate, space.h + at, space.rounded, row, rows);
        round_for_adapters(part, GATE, space.h + at, row);
    }
    thread_pool_barrier(part->pool);
    prepare_adapters(part, GATE);
    multiply_gated(part, layer);
    thread_pool_barrier(part->pool);
    for (int row = mine.from; row < mine.to; row++) {
        const float *gated = space.gated + (size_t)row * mlp_width;
        round_row(layer->down, gated, space.rounded, row, rows);
        round_for_adapters(part, DOWN, gated, row);
    }
    thread_pool_barrier(part->pool);
    prepare_adapters(part, DOWN);
    multiply(part, layer->down, whole(DOWN), space.rounded, rows, space.delta, width);
    thread_pool_barrier(part->pool);
}

/* x + delta of each sequence's last position → what is asked of it. */
static void run_outputs(const Part *part) {
    const Workspace space = part->space;
    const int width = part->t->width, batch = part->step->batch;
    const Range mine = share_of(part, batch);

    for (int i = mine.from; i < mine.to; i++) {
        const size_t last = ((size_t)(i + 1) * part->count - 1) * width;
        add_and_norm(part->t, part->t->norm, space.x + last, space.delta + last, space.h + last);
    }
    for (int n = 0; n < part->step->outputs; n++) {
        const Output output = part->step->output[n];
        for (int i = mine.from; i < mine.to; i++) {
            const size_t last = ((size_t)(i + 1) * part->count - 1) * width;
            round_row(output.layer, space.h + last, space.rounded, i, batch);
        }
        thread_pool_barrier(part->pool);
        const int stride = LANES * whole_tiles(output.layer.outputs);
        multiply(part, output.layer, NOT_ADAPTED, space.rounded, batch, output.out, stride);
        thread_pool_barrier(part->pool);
    }
}

static Adapting adapting_of(const Part *part) {
    const Rounded middle = part->space.adapter_middle;
    Adapting adapting = {
        .adapters = part->step->adapters,
        .rows = part->rows,
        .rows_each = part->count,
        .member = part->member,
        .members = part->members,
        .inputs = part->space.adapter_inputs,
        .partial = part->space.adapter_partial,
    };
    for (int alike = 0; alike < MOST_ALIKE; alike++) {
        const size_t at = ((size_t)part->member * MOST_ALIKE + alike) * part->rows * MOST_RANK;
        adapting.middle[alike] = (Rounded){
            middle.codes + at, middle.scales + at / LEAST_BLOCK, middle.offsets + at / LEAST_BLOCK
        };
    }
    return adapting;
}

static void run_piece(Part *part) {
    const Step *step = part->step;
    Adapting adapting = adapting_of(part);
    part->adapting = step->adapters ? &adapting : NULL;
    const int width = part->t->width, count = part->count;
    const Range mine = share_of(part, part->rows);
    for (int row = mine.from; row < mine.to; row++) {
        const size_t position = (size_t)(row / count) * step->sequence + part->from + row % count;
        float *to = part->space.x + (size_t)row * width;
        memcpy(to, step->x + position * width, width * sizeof(float));
    }
    for (int n = 0; n < part->t->layers; n++) {
        adapting.layer = n;
        run_attention(part, part->t->layer + n, n ? part->space.delta : NULL);
        run_mlp(part, part->t->layer + n);
    }
    if (part->from + count == step->sequence) run_outputs(part);
}

static void run_step(const void *task, ThreadPool *pool, int member, int members) {
    const Step *step = task;
    Part part = {
        .step = step, .t = step->transformer, .pool = pool, .member = member, .members = members
    };
    lay_out(part.t, step->batch, members, step->workspace, &part.space);
    const int most = pieces_length(step->batch);
    for (part.from = 0; part.from < step->sequence; part.from += part.count) {
        const int left = step->sequence - part.from;
        part.count = left < most ? left : most;
        part.rows = step->batch * part.count;
        run_piece(&part);
    }
}

void transformer_run(ThreadPool *pool, const Step *step) { thread_pool_run(pool, run_step, step); }
