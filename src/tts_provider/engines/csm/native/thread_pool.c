#define _POSIX_C_SOURCE 200809L /* signal masks */

#include "thread_pool.h"

#include <immintrin.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>

/* How long a thread spins before it lets others have the core, in ticks of the processor's clock: a
   tenth of a millisecond or so, more than a caller takes between two steps of a frame. To sleep and
   be woken at each step would cost more than that. */
enum { SPIN = 300000 };

struct ThreadPool {
    int size;
    bool is_closing;
    Work *work;
    const void *task;
    pthread_t *threads;
    pthread_mutex_t mutex; /* of `asleep` */
    pthread_cond_t wake;
    int asleep;
    /* Each on a cache line of its own. */
    _Alignas(64) atomic_uint tasks;
    _Alignas(64) atomic_int arrived;
    _Alignas(64) atomic_uint meetings;
};

typedef struct {
    ThreadPool *pool;
    int number;
} Member;

static unsigned look(atomic_uint *at) { return atomic_load_explicit(at, memory_order_acquire); }

void thread_pool_barrier(ThreadPool *pool) {
    unsigned meeting = look(&pool->meetings);
    if (atomic_fetch_add(&pool->arrived, 1) == pool->size - 1) {
        atomic_store(&pool->arrived, 0);
        atomic_store(&pool->meetings, meeting + 1);
        return;
    }
    const unsigned long long began = __rdtsc();
    while (look(&pool->meetings) == meeting) {
        _mm_pause();
        if (__rdtsc() - began > SPIN) sched_yield(); /* who is late may need this very core */
    }
}

static void wait_for_task(ThreadPool *pool, unsigned done) {
    const unsigned long long began = __rdtsc();
    while (__rdtsc() - began < SPIN) {
        if (look(&pool->tasks) != done) return;
        _mm_pause();
    }
    pthread_mutex_lock(&pool->mutex);
    pool->asleep++;
    while (look(&pool->tasks) == done) pthread_cond_wait(&pool->wake, &pool->mutex);
    pool->asleep--;
    pthread_mutex_unlock(&pool->mutex);
}

static void announce(ThreadPool *pool) {
    pthread_mutex_lock(&pool->mutex);
    atomic_fetch_add(&pool->tasks, 1);
    if (pool->asleep) pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->mutex);
}

static void *run(void *argument) {
    Member me = *(Member *)argument;
    free(argument);
    for (unsigned done = 0;; done++) {
        wait_for_task(me.pool, done);
        if (me.pool->is_closing) return NULL;
        me.pool->work(me.pool->task, me.pool, me.number, me.pool->size);
        thread_pool_barrier(me.pool);
    }
}

void thread_pool_run(ThreadPool *pool, Work *work, const void *task) {
    pool->work = work;
    pool->task = task;
    announce(pool);
    work(task, pool, 0, pool->size);
    thread_pool_barrier(pool);
}

ThreadPool *thread_pool_start(int size) {
    ThreadPool *pool = aligned_alloc(_Alignof(ThreadPool), sizeof(ThreadPool));
    if (!pool) return NULL;
    *pool = (ThreadPool){.size = 1, .threads = calloc((size_t)size, sizeof(pthread_t))};
    pthread_mutex_init(&pool->mutex, NULL);
    pthread_cond_init(&pool->wake, NULL);
    sigset_t all, before; /* signals are for the threads that the program knows */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_whole = pool->threads != NULL;
    while (is_whole && pool->size < size) {
        Member *member = malloc(sizeof *member);
        if (member) *member = (Member){pool, pool->size};
        is_whole = member && !pthread_create(&pool->threads[pool->size], NULL, run, member);
        if (is_whole) pool->size++;
        else free(member);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_whole) return pool;
    thread_pool_stop(pool);
    return NULL;
}

void thread_pool_stop(ThreadPool *pool) {
    pool->is_closing = true;
    announce(pool);
    for (int i = 1; i < pool->size; i++) pthread_join(pool->threads[i], NULL);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->mutex);
    free(pool->threads);
    free(pool);
}
