/* A transformer of Llama's shape: RMSNorm, grouped-query attention with RoPE, SiLU-gated MLP, no
   biases. Activations are float32, keys and values are kept in 16 bits.

   What a pass of positions through it computes depends neither on the number of threads, nor on the
   rows beside a row, nor on how a sequence is cut, not to the last bit. */

#pragma once

#include "adapter.h"
#include "attention.h"
#include "linear.h"
#include "thread_pool.h"

typedef struct {
    Linear query_key, value, output, gate, up, down;
    const float *attention_norm, *mlp_norm; /* [width] */
    Half *keys, *values;                    /* [rows, kv_heads, positions, head_size] */
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

/* What the layers hand each other; a row is a position of one sequence. */
typedef struct {
    float *x, *h, *delta; /* [rows, width] */
    float *qkv;           /* [rows, (heads + 2 kv_heads) · head_size] */
    Rounded h_rounded, h_rounded_for_value, attended, gated;
    /* Where a row has an adapter: what its inputs are that nobody else needs in full, what they are
       rounded to, and what `down` makes of them. */
    float *whole; /* [rows, mlp_width or heads · head_size] */
    Rounded adapter_inputs, adapter_middle;
    float *adapter_partial;
    char *rooms;
    size_t room_bytes; /* of each thread: a unit's results, and behind them attention's scores */
    size_t scores_at;
} Workspace;

/* A pass of `sequence` new positions of each of `batch` rows, and where it is. */
typedef struct {
    const Transformer *transformer;
    const float *x;         /* [batch, sequence, width] */
    const int32_t *rows;    /* [batch]: of the cache */
    const int32_t *lengths; /* [batch]: positions that these hold already; NULL: `start` each */
    const Output *output;
    const LayerAdapter *const *adapters; /* [batch], as `Adapting` has them; NULL: nobody has one */
    int32_t batch, sequence, outputs, start;
    Workspace space;
    int32_t from, count, layer, stage;
} Pass;

/* The next bytes of a piece of memory, at a multiple of 64 where it begins at one. */
void *arena_take(char **at, size_t bytes);

/* Bytes of a workspace, which begins at a multiple of 64, for passes of up to `batch` rows; where
   `room` is not NULL it is laid out there. */
size_t lay_out(const Transformer *t, int batch, int threads, char *room, Workspace *space);

/* Begins the pass anew. */
void begin_pass(Pass *pass);

/* As a job's functions, for phases that are `about` a Pass. */
bool next_of_pass(Pass *pass, Phase *phase);
void compute_of_pass(const Phase *phase, int unit, char *room);
void keep_of_pass(const Phase *phase, int unit, const char *room);
