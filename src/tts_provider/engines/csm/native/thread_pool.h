/* Threads that do one piece of work together and wait for the next. */

#pragma once

typedef struct ThreadPool ThreadPool;

/* What each thread of a pool does: it is number `member` of `size`. */
typedef void Work(const void *task, ThreadPool *pool, int member, int size);

/* The caller's thread is one of `size`. NULL where the system has no room for them. */
ThreadPool *thread_pool_start(int size);

/* Ends the threads, which must be at rest. */
void thread_pool_stop(ThreadPool *pool);

/* Returns when every thread has done its part. One caller at a time. */
void thread_pool_run(ThreadPool *pool, Work *work, const void *task);

/* Waits, inside the work, until all are here; what they wrote before is seen after. */
void thread_pool_barrier(ThreadPool *pool);

typedef struct {
    int from, to;
} Range;

/* A member's share of `count` things. */
static inline Range share(int count, int member, int size) {
    return (Range){
        (int)((long long)count * member / size), (int)((long long)count * (member + 1) / size)
    };
}
