/* Runs the kernels in a process of its own, for processors that this one is not (under QEMU), and under
   sanitizers: requests come on standard input, and answers go to standard output.

   A request is a header, buffers, and where they point to each other. What it is asked for is written
   back: all buffers that may have changed. */

#define _POSIX_C_SOURCE 200809L

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sampling.h"
#include "thread_pool.h"

typedef struct Step Step;
typedef struct Frame Frame;
typedef struct Model Model;
void transformer_run(ThreadPool *pool, const Step *step);
void frame_run(ThreadPool *pool, const Frame *frame);
void describe(int32_t *sizes);

enum { DESCRIBE, STEP, FRAME, DRAW };

typedef struct {
    int32_t function, threads, buffers, pointers, extra[2];
} Header;

enum { SENT, CHANGED, ROOM }; /* which comes, which goes back as well, which does neither */

typedef struct {
    int64_t bytes, kind;
} Size;

typedef struct {
    int64_t in, at, to, offset;
} Pointer;

static void must(int is_true, const char *what) {
    if (is_true) return;
    fprintf(stderr, "driver: %s\n", what);
    exit(3);
}

static void read_all(void *to, size_t bytes) {
    must(fread(to, 1, bytes, stdin) == bytes, "the request ends early");
}

static void write_all(const void *from, size_t bytes) {
    must(fwrite(from, 1, bytes, stdout) == bytes, "the answer cannot be written");
}

int main(void) {
    Header header;
    while (fread(&header, sizeof header, 1, stdin) == 1) {
        Size *sizes = calloc((size_t)header.buffers + 1, sizeof *sizes);
        char **buffers = calloc((size_t)header.buffers + 1, sizeof *buffers);
        read_all(sizes, (size_t)header.buffers * sizeof *sizes);
        for (int i = 0; i < header.buffers; i++) {
            must(!posix_memalign((void **)&buffers[i], 128, (size_t)sizes[i].bytes + 1), "memory");
            if (sizes[i].kind != ROOM) read_all(buffers[i], (size_t)sizes[i].bytes);
        }
        for (int i = 0; i < header.pointers; i++) {
            Pointer pointer;
            read_all(&pointer, sizeof pointer);
            char *address = buffers[pointer.to] + pointer.offset;
            memcpy(buffers[pointer.in] + pointer.at, &address, sizeof address);
        }
        int32_t found[64] = {0};
        if (header.function == DESCRIBE) {
            describe(found);
        } else if (header.function == DRAW) {
            *found = draw_code(
                (const Sampling *)buffers[0], header.extra[0], (const float *)buffers[1],
                header.extra[1], (int32_t *)buffers[2]
            );
        } else {
            ThreadPool *pool = thread_pool_start(header.threads);
            must(pool != NULL, "no threads");
            if (header.function == STEP) transformer_run(pool, (const Step *)buffers[0]);
            else frame_run(pool, (const Frame *)buffers[0]);
            thread_pool_stop(pool);
        }
        write_all(found, sizeof found);
        for (int i = 0; i < header.buffers; i++) {
            if (sizes[i].kind == CHANGED) write_all(buffers[i], (size_t)sizes[i].bytes);
            free(buffers[i]);
        }
        fflush(stdout);
        free(buffers);
        free(sizes);
    }
    return 0;
}
