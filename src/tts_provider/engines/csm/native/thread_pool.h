/* Threads that compute a job together, phase after phase, each phase in units.

   A phase is over when its units are, whoever computed them: nobody waits for a thread that is not
   there. A thread takes units of its own share of a phase, then of others'. Where nothing is left to
   take and a unit is still missing, its thread has probably lost its core; then another computes
   the unit again, and who is first to finish it keeps it. Between two phases one thread does alone
   what is too little to be shared out. */

#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef struct ThreadPool ThreadPool;

enum { MOST_UNITS = 1 << 16 };

/* What the job's functions are told; only `units` and `is_repeatable` mean something here. */
typedef struct {
    const void *about;
    int32_t kind, layer, from, count, rows, tiles;
    int32_t units; /* fewer than MOST_UNITS */
    bool is_repeatable;
} Phase;

typedef struct Job Job;
struct Job {
    /* The next phase; false at the end. Called by one thread at a time, when all units of the phase
       before are kept. */
    bool (*next)(Job *job, Phase *phase);
    /* Computes a unit into `room`. What it reads may belong to a later phase already, where the unit
       was kept by another thread meanwhile: then it finds nonsense, which is thrown away. */
    void (*compute)(const Phase *phase, int unit, char *room);
    /* Puts it where the next phase finds it: once, and short. Of phases that are not repeatable
       `compute` does it all. */
    void (*keep)(const Phase *phase, int unit, const char *room);
    char *rooms; /* of each thread, `room_bytes` apart */
    size_t room_bytes;
};

/* The caller's thread is one of `size`. NULL where the system has no room for them. */
ThreadPool *thread_pool_start(int size);

int thread_pool_size(const ThreadPool *pool);

/* Ends the threads, which must be at rest. */
void thread_pool_stop(ThreadPool *pool);

/* Returns when the job is done and no thread looks at it any more. One caller at a time. */
void thread_pool_run(ThreadPool *pool, Job *job);
