#include "transformer.h"

enum {
    MOST_ROWS = 128, /* that pass through a layer at once; a longer sequence is read in pieces */
    /* Of weights: less than that is not worth being taken alone. */
    UNIT_BYTES = 24 * 1024,
    /* Of a unit's results. */
    MOST_VECTORS = 64,
    /* Shares that adapters' first halves are computed in. */
    SHRINKING = 8,
    /* Fewer numbers than that are not worth a meeting. */
    FEW_NUMBERS = 4096,
};

/* The phases of a pass, in their order. Those called ROWS have a unit for each row. */
enum {
    ENTER_ROWS, /* x → h, rounded */
    QKV_SHRINK, /* what adapters make of h; like all that is called SHRINK only where there are any */
    QKV_PRODUCT, /* → queries, keys, values */
    ROPE_ROWS,   /* rotated; keys and values → the cache */
    ATTENTION,   /* → attended, rounded */
    OUTPUT_ROWS, /* attended, rounded for adapters */
    OUTPUT_SHRINK,
    OUTPUT_PRODUCT, /* output · attended → delta */
    MLP_ROWS,       /* x + delta → h, rounded */
    GATED_SHRINK,
    GATED_PRODUCT, /* → silu(gate) · up, rounded */
    DOWN_ROWS,     /* that, rounded for adapters */
    DOWN_SHRINK,
    DOWN_PRODUCT, /* down · that → delta; then the next layer */
    LEAVE_ROWS,   /* x + delta → h of each sequence's last position */
    ROUND_ROWS,   /* h, rounded for an output */
    HEAD_PRODUCT, /* → what is asked; then the next output */
};

static int largest(int a, int b) { return a > b ? a : b; }
static int smallest(int a, int b) { return a < b ? a : b; }
static int between(int least, int value, int most) {
    return value < least ? least : smallest(value, most);
}
static int divide_up(int a, int b) { return (a + b - 1) / b; }

static int greatest_divisor(int a, int b) { return b ? greatest_divisor(b, a % b) : a; }

/* KV heads that are attended together, so that their outputs are whole blocks of the next layer. */
static int heads_together(const Transformer *t, const Layer *layer) {
    const int outputs = t->heads / t->kv_heads * t->head_size, block = layer->output.block;
    return block / greatest_divisor(block, outputs);
}

void *arena_take(char **at, size_t bytes) {
    void *taken = *at;
    *at += (bytes + 63) / 64 * 64;
    return taken;
}

static void take_rounded(char **at, Rounded *rounded, size_t rows, size_t inputs) {
    rounded->codes = arena_take(at, rows * inputs);
    rounded->scales = arena_take(at, rows * (inputs / LEAST_BLOCK) * sizeof(float));
    rounded->offsets = arena_take(at, rows * (inputs / LEAST_BLOCK) * sizeof(int32_t));
}

size_t lay_out(const Transformer *t, int batch, int threads, char *room, Workspace *space) {
    const size_t rows = (size_t)largest(MOST_ROWS, batch), real = sizeof(float);
    const int queries = t->heads * t->head_size;
    int block = 0;
    for (int n = 0; n < t->layers; n++) block = largest(block, t->layer[n].down.block);
    /* Of a unit: gate and up, of as many tiles as make a block. */
    const size_t vectors = 2 * largest(MOST_VECTORS, (int)rows * divide_up(block, LANES));
    char *at = room;
    space->x = arena_take(&at, rows * t->width * real);
    space->h = arena_take(&at, rows * t->width * real);
    space->delta = arena_take(&at, rows * t->width * real);
    space->qkv = arena_take(&at, rows * (queries + 2 * t->kv_heads * t->head_size) * real);
    take_rounded(&at, &space->h_rounded, rows, t->width);
    take_rounded(&at, &space->h_rounded_for_value, rows, t->width);
    take_rounded(&at, &space->attended, rows, queries);
    take_rounded(&at, &space->gated, rows, t->mlp_width);
    const int inputs = largest(largest(t->width, queries), t->mlp_width);
    const size_t pieces = MOST_ALIKE * (size_t)adapt_pieces(inputs);
    space->whole = arena_take(&at, rows * inputs * real);
    take_rounded(&at, &space->adapter_inputs, rows, inputs);
    take_rounded(&at, &space->adapter_middle, MOST_ALIKE * rows, MOST_RANK);
    space->adapter_partial = arena_take(&at, pieces * rows * MOST_RANK * real);
    space->scores_at = largest((int)(vectors * LANES * real), (int)(queries * real));
    space->room_bytes = space->scores_at + (t->positions + LANES) * real;
    space->room_bytes = (space->room_bytes + 127) / 128 * 128;
    space->rooms = arena_take(&at, space->room_bytes * threads);
    return (size_t)(at - room);
}

void begin_pass(Pass *pass) {
    pass->from = pass->layer = pass->stage = 0;
    pass->count = smallest(pass->sequence, largest(1, MOST_ROWS / pass->batch));
}

/* Whether there is another piece of the sequence. */
static bool go_on(Pass *pass) {
    const int from = pass->from + pass->count;
    if (from == pass->sequence) return false;
    const int most = pass->count;
    pass->from = from;
    pass->layer = pass->stage = 0;
    pass->count = smallest(pass->sequence - from, most);
    return true;
}

/* The product that a stage is, or prepares, as adapters know it; MATRICES where it is none. */
static enum Matrix product_of(int stage) {
    switch (stage) {
    case QKV_SHRINK:
    case QKV_PRODUCT: return QUERY;
    case OUTPUT_SHRINK:
    case OUTPUT_PRODUCT: return OUTPUT;
    case GATED_SHRINK:
    case GATED_PRODUCT: return GATE;
    case DOWN_SHRINK:
    case DOWN_PRODUCT: return DOWN;
    default: return MATRICES;
    }
}

static bool is_of_adapters(int stage) {
    return stage == QKV_SHRINK || stage == OUTPUT_ROWS || stage == OUTPUT_SHRINK ||
           stage == GATED_SHRINK || stage == DOWN_ROWS || stage == DOWN_SHRINK;
}

static Adapting adapting_of(const Pass *pass, const Phase *phase) {
    return (Adapting){
        .adapters = pass->adapters,
        .layer = phase->layer,
        .rows = phase->rows,
        .rows_each = phase->count,
        .inputs = pass->space.adapter_inputs,
        .partial = pass->space.adapter_partial,
        .middle = pass->space.adapter_middle
    };
}

/* How many tiles a unit of a product has, of so many bytes each. */
static int unit_tiles(size_t tile_bytes, int rows, int multiple) {
    const int wanted = divide_up(UNIT_BYTES, (int)tile_bytes * divide_up(rows, 2));
    const int tiles = smallest(wanted, largest(1, MOST_VECTORS / rows));
    return divide_up(tiles, multiple) * multiple;
}

static void divide_product(Phase *phase, Linear layer, int tiles, int at_once, int multiple) {
    const size_t bytes = at_once * (tiles_bytes(layer) / whole_tiles(layer.outputs));
    phase->tiles = unit_tiles(bytes, phase->rows, multiple);
    phase->units = divide_up(tiles, phase->tiles);
    phase->is_repeatable = true;
}

/* The phase that the pass is at. */
static void describe_phase(const Pass *pass, Phase *phase) {
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + pass->layer;
    *phase = (Phase){
        .about = pass,
        .kind = pass->stage,
        .layer = pass->layer,
        .from = pass->start + pass->from,
        .count = pass->count,
        .rows = pass->batch * pass->count
    };
    phase->units = phase->rows;
    const Linear *asked = pass->stage >= LEAVE_ROWS ? &pass->output[pass->layer].layer : NULL;
    switch (pass->stage) {
    case QKV_PRODUCT: {
        const int tiles = whole_tiles(layer->query_key.outputs) + whole_tiles(layer->value.outputs);
        divide_product(phase, layer->query_key, tiles, 1, 1);
        break;
    }
    case ATTENTION:
        phase->units = phase->rows * (t->kv_heads / heads_together(t, layer));
        phase->is_repeatable = true;
        break;
    case OUTPUT_PRODUCT: divide_product(phase, layer->output, whole_tiles(t->width), 1, 1); break;
    case GATED_PRODUCT:
        divide_product(
            phase, layer->gate, whole_tiles(t->mlp_width), 2, divide_up(layer->down.block, LANES)
        );
        break;
    case DOWN_PRODUCT: divide_product(phase, layer->down, whole_tiles(t->width), 1, 1); break;
    case QKV_SHRINK:
    case OUTPUT_SHRINK:
    case GATED_SHRINK:
    case DOWN_SHRINK: phase->units = SHRINKING; break;
    case LEAVE_ROWS:
    case ROUND_ROWS: phase->units = phase->rows = pass->batch; break;
    case HEAD_PRODUCT:
        phase->rows = pass->batch;
        divide_product(phase, *asked, whole_tiles(asked->outputs), 1, 1);
        break;
    default: break;
    }
}

/* To the stage behind; false where there is none. */
static bool go_to_next_stage(Pass *pass) {
    const bool is_last_piece = pass->from + pass->count == pass->sequence;
    switch (pass->stage++) {
    case DOWN_PRODUCT:
        if (++pass->layer < pass->transformer->layers) {
            pass->stage = ENTER_ROWS;
            return true;
        }
        pass->layer = 0;
        if (is_last_piece) return true;
        return go_on(pass);
    case LEAVE_ROWS: return pass->outputs > 0;
    case HEAD_PRODUCT: pass->stage = ROUND_ROWS; return ++pass->layer < pass->outputs;
    default: return true;
    }
}

static bool is_of_rows(int stage) {
    return stage == ENTER_ROWS || stage == ROPE_ROWS || stage == OUTPUT_ROWS || stage == MLP_ROWS ||
           stage == DOWN_ROWS || stage == LEAVE_ROWS || stage == ROUND_ROWS;
}

/* Whether a phase of rows is so small that one thread does it. */
static bool is_little(const Pass *pass, const Phase *phase) {
    return is_of_rows(phase->kind) &&
           (phase->rows == 1 || phase->rows * pass->transformer->width < FEW_NUMBERS);
}

bool next_of_pass(Pass *pass, Phase *phase) {
    while (pass->stage >= 0) {
        if (is_of_adapters(pass->stage) && !pass->adapters) {
            pass->stage++;
            continue;
        }
        describe_phase(pass, phase);
        if (!go_to_next_stage(pass)) pass->stage = -1;
        const enum Matrix product = product_of(phase->kind);
        if (pass->adapters && product != MATRICES && phase->is_repeatable) {
            const Adapting adapting = adapting_of(pass, phase);
            adapt_gather(&adapting, product);
        }
        if (!is_little(pass, phase)) return true;
        for (int row = 0; row < phase->rows; row++) compute_of_pass(phase, row, NULL);
    }
    return false;
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

static bool is_rounded_alike(Linear a, Linear b) { return a.bits == b.bits && a.block == b.block; }

static void round_for_adapter(
    const Pass *pass, const Phase *phase, enum Matrix product, const float *x, int row
) {
    if (!pass->adapters) return;
    const Adapting adapting = adapting_of(pass, phase);
    adapt_round(&adapting, product, x, row);
}

static int past_of(const Pass *pass, const Phase *phase, int row) {
    const int sequence = row / phase->count, position = phase->from + row % phase->count;
    return position + (pass->lengths ? pass->lengths[sequence] : 0);
}

static void enter_row(const Pass *pass, const Phase *phase, int row) {
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + phase->layer;
    const Workspace *space = &pass->space;
    const size_t at = (size_t)row * t->width;
    if (phase->layer == 0) {
        const size_t position = (size_t)(row / phase->count) * pass->sequence +
                                (phase->from - pass->start) + row % phase->count;
        memcpy(space->x + at, pass->x + position * t->width, t->width * sizeof(float));
    }
    const float *delta = phase->layer ? space->delta + at : NULL;
    add_and_norm(t, layer->attention_norm, space->x + at, delta, space->h + at);
    round_row(layer->query_key, space->h + at, space->h_rounded, row, phase->rows);
    if (!is_rounded_alike(layer->value, layer->query_key))
        round_row(layer->value, space->h + at, space->h_rounded_for_value, row, phase->rows);
    round_for_adapter(pass, phase, QUERY, space->h + at, row);
}

static int qkv_width(const Transformer *t) { return (t->heads + 2 * t->kv_heads) * t->head_size; }

static size_t cache_at(const Pass *pass, int sequence, int kv_head) {
    const Transformer *t = pass->transformer;
    return ((size_t)pass->rows[sequence] * t->kv_heads + kv_head) * t->positions * t->head_size;
}

static void rope_row(const Pass *pass, const Phase *phase, int row) {
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + phase->layer;
    const int size = t->head_size, past = past_of(pass, phase, row);
    const float *cos = t->cos + (size_t)past * (size / 2);
    const float *sin = t->sin + (size_t)past * (size / 2);
    float *head = pass->space.qkv + (size_t)row * qkv_width(t);
    for (int n = 0; n < t->heads; n++, head += size) apply_rope(head, cos, sin, size / 2);
    for (int n = 0; n < t->kv_heads; n++, head += size) {
        const size_t to = cache_at(pass, row / phase->count, n) + (size_t)past * size;
        apply_rope(head, cos, sin, size / 2);
        for (int i = 0; i < size; i += LANES) {
            store_halves(layer->keys + to + i, load(head + i));
            store_halves(layer->values + to + i, load(head + t->kv_heads * size + i));
        }
    }
}

static void mlp_row(const Pass *pass, const Phase *phase, int row) {
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + phase->layer;
    const Workspace *space = &pass->space;
    const size_t at = (size_t)row * t->width;
    add_and_norm(t, layer->mlp_norm, space->x + at, space->delta + at, space->h + at);
    round_row(layer->gate, space->h + at, space->h_rounded, row, phase->rows);
    round_for_adapter(pass, phase, GATE, space->h + at, row);
}

/* What a unit of attention or of the gate kept for adapters. */
static void
round_whole(const Pass *pass, const Phase *phase, enum Matrix product, int row, int width) {
    round_for_adapter(pass, phase, product, pass->space.whole + (size_t)row * width, row);
}

static size_t last_of(const Pass *pass, const Phase *phase, int sequence) {
    return ((size_t)(sequence + 1) * phase->count - 1) * pass->transformer->width;
}

static void leave_row(const Pass *pass, const Phase *phase, int sequence) {
    const Workspace *space = &pass->space;
    const size_t at = last_of(pass, phase, sequence);
    add_and_norm(
        pass->transformer, pass->transformer->norm, space->x + at, space->delta + at, space->h + at
    );
}

static void round_for_output(const Pass *pass, const Phase *phase, int sequence) {
    const float *h = pass->space.h + last_of(pass, phase, sequence);
    round_row(pass->output[phase->layer].layer, h, pass->space.h_rounded, sequence, phase->rows);
}

static int phase_tiles(const Pass *pass, const Phase *phase) {
    const Layer *layer = pass->transformer->layer + phase->layer;
    switch (phase->kind) {
    case QKV_PRODUCT:
        return whole_tiles(layer->query_key.outputs) + whole_tiles(layer->value.outputs);
    case GATED_PRODUCT: return whole_tiles(pass->transformer->mlp_width);
    case HEAD_PRODUCT: return whole_tiles(pass->output[phase->layer].layer.outputs);
    default: return whole_tiles(pass->transformer->width);
    }
}

/* gate → silu(gate) · up. */
static void gate(Floats *gate, const Floats *up, int count) {
    for (int i = 0; i < count; i++) gate[i] = gate[i] / (floats(1) + exponential(-gate[i])) * up[i];
}

/* Tiles of a layer that adapters know as `matrix`, of all rows → `to`. */
static void multiply(
    const Pass *pass, const Phase *phase, Linear layer, enum Matrix matrix, int from, int count,
    Rounded in, Floats *to
) {
    if (count <= 0) return; /* `from` may lie before the layer then */
    multiply_tiles(layer, from, count, in, phase->rows, to, phase->tiles);
    if (!pass->adapters || matrix == MATRICES) return;
    const Adapting adapting = adapting_of(pass, phase);
    const int queries = pass->transformer->heads * pass->transformer->head_size / LANES;
    const int of_query = matrix == QUERY ? between(0, queries - from, count) : count;
    if (of_query > 0) adapt_tiles(&adapting, matrix, from, of_query, to, phase->tiles);
    if (of_query < count)
        adapt_tiles(
            &adapting, KEY, from + of_query - queries, count - of_query, to + of_query, phase->tiles
        );
}

static void multiply_qkv(const Pass *pass, const Phase *phase, int from, int count, Floats *to) {
    const Layer *layer = pass->transformer->layer + phase->layer;
    const Workspace *space = &pass->space;
    const int before = whole_tiles(layer->query_key.outputs);
    const int first = between(0, before - from, count);
    const bool is_alike = is_rounded_alike(layer->value, layer->query_key);
    const Rounded for_value = is_alike ? space->h_rounded : space->h_rounded_for_value;
    multiply(pass, phase, layer->query_key, QUERY, from, first, space->h_rounded, to);
    from += first - before;
    multiply(pass, phase, layer->value, VALUE, from, count - first, for_value, to + first);
}

static void multiply_gated(const Pass *pass, const Phase *phase, int from, int count, Floats *to) {
    const Layer *layer = pass->transformer->layer + phase->layer;
    const Rounded in = pass->space.h_rounded;
    Floats *up = to + (size_t)phase->rows * phase->tiles;
    multiply(pass, phase, layer->gate, GATE, from, count, in, to);
    multiply(pass, phase, layer->up, UP, from, count, in, up);
    for (int row = 0; row < phase->rows; row++)
        gate(to + (size_t)row * phase->tiles, up + (size_t)row * phase->tiles, count);
}

static void compute_product(const Pass *pass, const Phase *phase, int unit, Floats *to) {
    const Layer *layer = pass->transformer->layer + phase->layer;
    const Workspace *space = &pass->space;
    const int from = unit * phase->tiles;
    const int count = smallest(phase_tiles(pass, phase) - from, phase->tiles);
    switch (phase->kind) {
    case QKV_PRODUCT: multiply_qkv(pass, phase, from, count, to); break;
    case OUTPUT_PRODUCT:
        multiply(pass, phase, layer->output, OUTPUT, from, count, space->attended, to);
        break;
    case GATED_PRODUCT: multiply_gated(pass, phase, from, count, to); break;
    case DOWN_PRODUCT:
        multiply(pass, phase, layer->down, DOWN, from, count, space->gated, to);
        break;
    default: {
        const Linear asked = pass->output[phase->layer].layer;
        multiply(pass, phase, asked, MATRICES, from, count, space->h_rounded, to);
    }
    }
}

/* A few KV heads of one row. */
static void compute_attention(const Pass *pass, const Phase *phase, int unit, char *room) {
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + phase->layer;
    const int size = t->head_size, group = t->heads / t->kv_heads;
    const int together = heads_together(t, layer), units = t->kv_heads / together;
    const int row = unit / units, past = past_of(pass, phase, row);
    const float *query = pass->space.qkv + (size_t)row * qkv_width(t);
    float *scores = (float *)(room + pass->space.scores_at), *out = (float *)room;
    query += (size_t)(unit % units) * together * group * size;
    for (int n = 0; n < together; n++) {
        const size_t at = cache_at(pass, row / phase->count, unit % units * together + n);
        for (int g = 0; g < group; g++, query += size, out += size)
            attend(query, layer->keys + at, layer->values + at, past + 1, size, scores, out);
    }
}

void compute_of_pass(const Phase *phase, int unit, char *room) {
    const Pass *pass = phase->about;
    switch (phase->kind) {
    case ENTER_ROWS: enter_row(pass, phase, unit); break;
    case ROPE_ROWS: rope_row(pass, phase, unit); break;
    case ATTENTION: compute_attention(pass, phase, unit, room); break;
    case OUTPUT_ROWS:
        round_whole(
            pass, phase, OUTPUT, unit, pass->transformer->heads * pass->transformer->head_size
        );
        break;
    case MLP_ROWS: mlp_row(pass, phase, unit); break;
    case DOWN_ROWS: round_whole(pass, phase, DOWN, unit, pass->transformer->mlp_width); break;
    case QKV_SHRINK:
    case OUTPUT_SHRINK:
    case GATED_SHRINK:
    case DOWN_SHRINK: {
        const Adapting adapting = adapting_of(pass, phase);
        adapt_shrink(&adapting, product_of(phase->kind), unit, phase->units);
        break;
    }
    case LEAVE_ROWS: leave_row(pass, phase, unit); break;
    case ROUND_ROWS: round_for_output(pass, phase, unit); break;
    default: compute_product(pass, phase, unit, (Floats *)room);
    }
}

/* [rows] of a unit's tiles → where they belong in rows of `width` numbers. */
static void keep_product(const Phase *phase, int unit, const char *room, float *to, int width) {
    const int from = unit * phase->tiles * LANES;
    const int count = smallest(phase->tiles * LANES, width - from);
    const float *found = (const float *)room;
    for (int row = 0; row < phase->rows; row++)
        memcpy(
            to + (size_t)row * width + from, found + (size_t)row * phase->tiles * LANES,
            count * sizeof(float)
        );
}

/* Inputs [from, from + count) of a row for the next product. */
static void keep_rounded(
    const Pass *pass, const Phase *phase, Linear next, const float *found, int row, int from,
    int count
) {
    const Rounded to = phase->kind == GATED_PRODUCT ? pass->space.gated : pass->space.attended;
    round_part(next, found, count, to, row, phase->rows, from);
    if (!pass->adapters) return;
    memcpy(pass->space.whole + (size_t)row * next.inputs + from, found, count * sizeof(float));
}

void keep_of_pass(const Phase *phase, int unit, const char *room) {
    const Pass *pass = phase->about;
    const Transformer *t = pass->transformer;
    const Layer *layer = t->layer + phase->layer;
    const Workspace *space = &pass->space;
    const float *found = (const float *)room;
    switch (phase->kind) {
    case QKV_PRODUCT: keep_product(phase, unit, room, space->qkv, qkv_width(t)); break;
    case ATTENTION: {
        const int together = heads_together(t, layer), units = t->kv_heads / together;
        const int outputs = together * (t->heads / t->kv_heads) * t->head_size;
        keep_rounded(
            pass, phase, layer->output, found, unit / units, unit % units * outputs, outputs
        );
        break;
    }
    case GATED_PRODUCT: {
        const int width = phase->tiles * LANES, from = unit * width;
        for (int row = 0; row < phase->rows; row++, found += width)
            keep_rounded(
                pass, phase, layer->down, found, row, from, smallest(width, t->mlp_width - from)
            );
        break;
    }
    case HEAD_PRODUCT: {
        const Output *output = pass->output + phase->layer;
        keep_product(phase, unit, room, output->out, LANES * whole_tiles(output->layer.outputs));
        break;
    }
    default: keep_product(phase, unit, room, space->delta, t->width);
    }
}
