/* CSM's language model, as Python calls it: prompts through one of the transformers, and whole frames. */

#include "sampling.h"
#include "transformer.h"

/* New positions for some rows of a transformer's cache. */
typedef struct {
    const Transformer *transformer;
    const float *x;         /* [batch, sequence, width] */
    const int32_t *rows;    /* [batch]: of the cache */
    const int32_t *lengths; /* [batch]: positions that they hold already */
    const Output *output;
    const LayerAdapter *const *adapters; /* [batch], as `Adapting` has them; NULL: nobody has one */
    void *workspace;                     /* of `workspace_bytes`, at a multiple of 64 */
    int32_t batch, sequence, outputs;
} Step;

typedef struct {
    const Transformer *backbone, *depth;
    Linear projection;
    const Linear *heads;         /* [codebooks] */
    const uint16_t *audio_table; /* bfloat16 [codebooks · vocabulary, backbone's width] */
    const uint16_t *depth_table; /* bfloat16 [codebooks · vocabulary, depth decoder's width] */
    int32_t codebooks, vocabulary;
} Model;

/* One frame of each row. The first `reading` rows read their last frame before. */
typedef struct {
    const Model *model;
    const int32_t *rows, *lengths; /* [batch]: of the backbone's cache */
    const int32_t *read;           /* [reading, codebooks] */
    const Sampling *sampling;      /* [batch] */
    /* What the backbone said, [batch, …] in whole tiles; given for those who do not read. */
    float *logits, *projected;
    const LayerAdapter *const *backbone_adapters, *const *depth_adapters; /* as in Step */
    int32_t *codes;  /* [batch, codebooks] → NO_CODE throughout where there is one */
    void *workspace; /* of `frame_bytes`, at a multiple of 64 */
    int32_t batch, reading;
    int32_t choices; /* so many of the vocabulary, from the first on, may be drawn */
} Frame;

/* What Python's structures must agree with. */
void describe(int32_t *sizes) {
    const int32_t found[] = {
        LANES,         WIDEST_HEAD,         MOST_RANK,        sizeof(Linear),
        sizeof(Layer), sizeof(Transformer), sizeof(Output),   sizeof(LayerAdapter),
        sizeof(Step),  sizeof(Model),       sizeof(Sampling), sizeof(Frame),
    };
    memcpy(sizes, found, sizeof found);
}

size_t workspace_bytes(const Transformer *transformer, int batch, int threads) {
    Workspace space;
    return lay_out(transformer, batch, threads, NULL, &space);
}

typedef struct {
    Job job; /* first, so that a job's address is its own */
    Pass pass;
} StepJob;

static bool next_of_step(Job *job, Phase *phase) {
    return next_of_pass(&((StepJob *)job)->pass, phase);
}

void transformer_run(ThreadPool *pool, const Step *step) {
    StepJob run = {
        .job = {.next = next_of_step, .compute = compute_of_pass, .keep = keep_of_pass},
        .pass = {
            .transformer = step->transformer,
            .x = step->x,
            .rows = step->rows,
            .lengths = step->lengths,
            .output = step->output,
            .adapters = step->adapters,
            .batch = step->batch,
            .sequence = step->sequence,
            .outputs = step->outputs,
        },
    };
    lay_out(
        step->transformer, step->batch, thread_pool_size(pool), step->workspace, &run.pass.space
    );
    run.job.rooms = run.pass.space.rooms;
    run.job.room_bytes = run.pass.space.room_bytes;
    begin_pass(&run.pass);
    thread_pool_run(pool, &run.job);
}

/* What a frame is at; behind the passes' own kinds of phases, where it is one. */
enum { READING = 100, DRAWING, EMBEDDING, SPEAKING };

typedef struct {
    Job job;
    const Frame *frame;
    Pass backbone, depth;
    Output asked[2], head;
    float *x;          /* [batch, 2, depth decoder's width] */
    float *read;       /* [reading, backbone's width] */
    int32_t *own_rows; /* [batch]: of the depth decoder's cache */
    int32_t *keys;     /* [batch, codes in whole vectors] */
    float *logits;     /* [batch, vocabulary in whole tiles] */
    int stage, book;
} FrameJob;

static int whole_vectors(int count) { return LANES * whole_tiles(count); }

static size_t lay_out_frame(const Model *m, int batch, int threads, char *room, FrameJob *run) {
    char *at = room;
    size_t bytes = lay_out(m->backbone, batch, threads, at, &run->backbone.space);
    at += (bytes + 127) / 128 * 128;
    bytes = lay_out(m->depth, 2 * batch, threads, at, &run->depth.space);
    at += (bytes + 127) / 128 * 128;
    run->x = arena_take(&at, (size_t)batch * 2 * m->depth->width * sizeof(float));
    run->read = arena_take(&at, (size_t)batch * m->backbone->width * sizeof(float));
    run->own_rows = arena_take(&at, batch * sizeof(int32_t));
    run->keys = arena_take(&at, (size_t)batch * whole_vectors(m->vocabulary) * sizeof(int32_t));
    run->logits = arena_take(&at, (size_t)batch * whole_vectors(m->vocabulary) * sizeof(float));
    return (size_t)(at - room);
}

size_t frame_bytes(const Model *model, int batch, int threads) {
    FrameJob run;
    return lay_out_frame(model, batch, threads, NULL, &run);
}

/* to [width] = or += a row of a table of bfloat16. */
static void read_table(const uint16_t *table, int row, int width, float *to, bool is_first) {
    table += (size_t)row * width;
    for (int i = 0; i < width; i++) {
        const uint32_t bits = (uint32_t)table[i] << 16;
        float value;
        memcpy(&value, &bits, sizeof value);
        to[i] = is_first ? value : to[i] + value;
    }
}

static void embed_frames(FrameJob *run) {
    const Frame *frame = run->frame;
    const Model *m = frame->model;
    for (int i = 0; i < frame->reading; i++)
        for (int book = 0; book < m->codebooks; book++)
            read_table(
                m->audio_table, m->vocabulary * book + frame->read[i * m->codebooks + book],
                m->backbone->width, run->read + (size_t)i * m->backbone->width, book == 0
            );
}

/* The last code of each row, and before the first one what the backbone said, as the depth decoder's
   input. Where there is no code any will do: the frame is lost. */
static void embed_codes(FrameJob *run) {
    const Frame *frame = run->frame;
    const Model *m = frame->model;
    const int width = m->depth->width, last = run->book - 1;
    float *to = run->x;
    for (int i = 0; i < frame->batch; i++, to += width) {
        const int32_t code = frame->codes[(size_t)i * m->codebooks + last];
        if (last == 0) {
            memcpy(to, frame->projected + (size_t)i * width, width * sizeof(float));
            to += width;
        }
        const int row = m->vocabulary * last + (code == NO_CODE ? 0 : code);
        read_table(m->depth_table, row, width, to, true);
    }
}

static void draw_row(const FrameJob *run, int book, int row) {
    const Frame *frame = run->frame;
    const Model *m = frame->model;
    const int width = whole_vectors(m->vocabulary);
    const float *logits = (book ? run->logits : frame->logits) + (size_t)row * width;
    int32_t *keys = run->keys + (size_t)row * width;
    frame->codes[(size_t)row * m->codebooks + book] =
        draw_code(frame->sampling + row, book, logits, frame->choices, keys);
}

static void begin_speaking(FrameJob *run) {
    const int book = run->book;
    embed_codes(run);
    run->head = (Output){run->frame->model->heads[book], run->logits};
    run->depth.sequence = book == 1 ? 2 : 1;
    run->depth.start = book == 1 ? 0 : book;
    begin_pass(&run->depth);
}

static bool next_of_frame(Job *job, Phase *phase) {
    FrameJob *run = (FrameJob *)job;
    for (;;) switch (run->stage) {
        case READING:
            if (run->frame->reading && next_of_pass(&run->backbone, phase)) return true;
            run->stage = DRAWING;
            break;
        case DRAWING:
            run->stage = EMBEDDING;
            *phase = (Phase){.about = run, .kind = DRAWING, .layer = run->book};
            phase->units = run->frame->batch;
            if (phase->units > 1) return true;
            draw_row(run, run->book, 0);
            break;
        case EMBEDDING:
            if (++run->book == run->frame->model->codebooks) return false;
            begin_speaking(run);
            run->stage = SPEAKING;
            break;
        default:
            if (next_of_pass(&run->depth, phase)) return true;
            run->stage = DRAWING;
        }
}

static void compute_of_frame(const Phase *phase, int unit, char *room) {
    if (phase->kind == DRAWING) draw_row(phase->about, phase->layer, unit);
    else compute_of_pass(phase, unit, room);
}

static void forget_lost_frames(const Frame *frame) {
    const int books = frame->model->codebooks;
    for (int i = 0; i < frame->batch; i++) {
        int32_t *codes = frame->codes + (size_t)i * books;
        bool is_lost = false;
        for (int book = 0; book < books; book++) is_lost |= codes[book] == NO_CODE;
        for (int book = 0; is_lost && book < books; book++) codes[book] = NO_CODE;
    }
}

void frame_run(ThreadPool *pool, const Frame *frame) {
    const Model *m = frame->model;
    FrameJob run = {
        .job = {.next = next_of_frame, .compute = compute_of_frame, .keep = keep_of_pass},
        .frame = frame,
        .asked = {{m->heads[0], frame->logits}, {m->projection, frame->projected}},
        .stage = READING,
    };
    run.backbone = (Pass){
        .transformer = m->backbone,
        .rows = frame->rows,
        .lengths = frame->lengths,
        .output = run.asked,
        .adapters = frame->backbone_adapters,
        .batch = frame->reading,
        .sequence = 1,
        .outputs = 2,
    };
    run.depth = (Pass){
        .transformer = m->depth,
        .output = &run.head,
        .adapters = frame->depth_adapters,
        .batch = frame->batch,
        .outputs = 1,
    };
    lay_out_frame(m, frame->batch, thread_pool_size(pool), frame->workspace, &run);
    const size_t room_bytes = run.backbone.space.room_bytes, other = run.depth.space.room_bytes;
    const bool is_larger = room_bytes > other;
    run.job.rooms = is_larger ? run.backbone.space.rooms : run.depth.space.rooms;
    run.job.room_bytes = is_larger ? room_bytes : other;
    run.backbone.x = run.read;
    run.depth.x = run.x;
    run.depth.rows = run.own_rows;
    for (int i = 0; i < frame->batch; i++) run.own_rows[i] = i;
    if (frame->reading) {
        embed_frames(&run);
        begin_pass(&run.backbone);
    }
    thread_pool_run(pool, &run.job);
    forget_lost_frames(frame);
}
