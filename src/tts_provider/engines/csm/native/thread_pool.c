#define _POSIX_C_SOURCE 200809L /* signal masks, clocks */

#include "thread_pool.h"

#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "parking.h"

#if defined(__x86_64__)
#include <immintrin.h>
static void relax(void) { _mm_pause(); }
#else
static void relax(void) { __asm__ volatile("isb" ::: "memory"); }
#endif

typedef unsigned long long Number;
typedef _Atomic Number AtomicNumber;

/* Spinning costs others the core, sleeping costs who waits some 50 µs. So a thread spins a while
   first: as long as it learns to be worth it, between these. */
enum {
    LEAST_PATIENCE_NS = 5000,
    FIRST_PATIENCE_NS = 50000,
    MOST_PATIENCE_NS = 200000,
    /* A unit is missing when it takes this many times as long as those that the waiting thread
       computed itself, but not less than LEAST_LATENESS_NS. */
    LATENESS = 3,
    LEAST_LATENESS_NS = 4000,
    MOST_LATENESS_NS = 300000,
    MOST_PHASES_ASLEEP = 64,
};

/* A unit that is computed again may read what a later phase writes already, and throws away what it
   finds: a race that is meant, which a sanitizer cannot know. */
#if defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define REPEATS 0
#endif
#endif
#if !defined(REPEATS)
#define REPEATS 1
#endif

/* A member's share of a phase, and how it waits. Each on cache lines of its own. */
typedef struct {
    /* The phase's number, and how many units of the share were taken, or kept, in it. */
    _Alignas(128) AtomicNumber taken;
    AtomicNumber kept;
    atomic_bool is_inside; /* it may look at the job */
    long patience_ns[2];   /* within a job, and between jobs */
} Member;

struct ThreadPool {
    int size;
    pthread_t *threads;
    Member *members;
    AtomicNumber *keepers; /* by unit: the last phase in which it was kept, or is being kept */
    Job *job;
    uint64_t phase[(sizeof(Phase) + 7) / 8]; /* read and written word by word */
    /* Even: the phase that is computed. Odd: there is none, or it is being made. */
    _Alignas(128) AtomicNumber number;
    atomic_bool is_over, is_closing;
    _Alignas(128) atomic_uint bell; /* rung for who sleeps until there is another phase */
    atomic_int sleepers;
    atomic_int phases_asleep; /* how many phases begin before a sleeper is woken again */
    atomic_int phases_since;
    _Alignas(128) atomic_uint left; /* rung when a thread leaves, for the caller */
    atomic_bool is_awaited;
};

typedef struct {
    ThreadPool *pool;
    int me;
} Start;

static long now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000L + now.tv_nsec;
}

static int first_unit(const Phase *phase, int member, int size) {
    return (int)((long long)phase->units * member / size);
}

static int share_units(const Phase *phase, int member, int size) {
    return first_unit(phase, member + 1, size) - first_unit(phase, member, size);
}

static void write_phase(ThreadPool *pool, const Phase *phase) {
    uint64_t words[sizeof pool->phase / 8] = {0};
    memcpy(words, phase, sizeof *phase);
    /* Who reads one of these words must find, in `number`, that the phase before has gone by. */
    atomic_thread_fence(memory_order_release);
    for (size_t i = 0; i < sizeof words / 8; i++)
        __atomic_store_n(pool->phase + i, words[i], __ATOMIC_RELAXED);
}

/* Whether it is phase `number`; it stays so while one of its units is not kept. */
static bool read_phase(ThreadPool *pool, Number number, Phase *phase) {
    uint64_t words[sizeof pool->phase / 8];
    for (size_t i = 0; i < sizeof words / 8; i++)
        words[i] = __atomic_load_n(pool->phase + i, __ATOMIC_RELAXED);
    memcpy(phase, words, sizeof *phase);
    atomic_thread_fence(memory_order_acquire);
    return atomic_load(&pool->number) == number;
}

/* Counts one more of a share's units in phase `number`, of `units`, and returns how many there were
   before; `units` where there are no more, or where the phase has gone by. */
static int count_one(AtomicNumber *counter, Number number, int units) {
    Number seen = atomic_load(counter);
    for (;;) {
        const Number counted = seen / MOST_UNITS == number ? seen % MOST_UNITS : 0;
        if (seen / MOST_UNITS > number || counted == (Number)units) return units;
        if (atomic_compare_exchange_weak(counter, &seen, number * MOST_UNITS + counted + 1))
            return (int)counted;
    }
}

static bool is_complete(ThreadPool *pool, Number number, const Phase *phase) {
    for (int i = 0; i < pool->size; i++) {
        const int units = share_units(phase, i, pool->size);
        if (units && atomic_load(&pool->members[i].kept) != number * MOST_UNITS + (Number)units)
            return false;
    }
    return true;
}

static void
compute_unit(ThreadPool *pool, Number number, const Phase *phase, int me, int of, int unit) {
    const Job *job = pool->job;
    char *room = job->rooms + (size_t)me * job->room_bytes;
    job->compute(phase, unit, room);
    if (phase->is_repeatable) {
        Number keeper = atomic_load(pool->keepers + unit);
        if (keeper >= number) return;
        if (!atomic_compare_exchange_strong(pool->keepers + unit, &keeper, number)) return;
        job->keep(phase, unit, room);
    }
    count_one(&pool->members[of].kept, number, share_units(phase, of, pool->size));
}

static bool enter(ThreadPool *pool, int me, Number number, Phase *phase) {
    atomic_store(&pool->members[me].is_inside, true);
    return read_phase(pool, number, phase);
}

static void leave(ThreadPool *pool, int me) {
    atomic_store(&pool->members[me].is_inside, false);
    if (!atomic_load(&pool->is_awaited)) return;
    atomic_fetch_add(&pool->left, 1);
    unpark(&pool->left, 1);
}

/* Takes units as long as there are any; returns how many it took. */
static int take_units(ThreadPool *pool, Number number, const Phase *phase, int me) {
    int taken = 0;
    for (int i = 0; i < pool->size; i++) {
        const int of = (me + i) % pool->size, units = share_units(phase, of, pool->size);
        for (;; taken++) {
            const int unit = count_one(&pool->members[of].taken, number, units);
            if (unit == units) break;
            compute_unit(pool, number, phase, me, of, first_unit(phase, of, pool->size) + unit);
        }
    }
    return taken;
}

/* Computes again what was taken long ago and is not kept. */
static void repeat_units(ThreadPool *pool, Number number, const Phase *phase, int me) {
    for (int i = 0; i < pool->size; i++) {
        const int of = (me + i) % pool->size, first = first_unit(phase, of, pool->size);
        for (int unit = first + share_units(phase, of, pool->size) - 1; unit >= first; unit--)
            if (atomic_load(pool->keepers + unit) < number)
                compute_unit(pool, number, phase, me, of, unit);
    }
}

static void ring(ThreadPool *pool, int threads) {
    atomic_store(&pool->phases_since, 0);
    atomic_fetch_add(&pool->bell, 1);
    unpark(&pool->bell, threads);
}

/* Makes the next phase, or the job's end; `number` is odd. */
static void advance(ThreadPool *pool, Number number, bool is_first) {
    Phase phase;
    memset(&phase, 0, sizeof phase);
    const bool is_over = !pool->job->next(pool->job, &phase);
    if (is_over) {
        atomic_store(&pool->is_over, true);
    } else {
        write_phase(pool, &phase);
        atomic_store(&pool->number, number + 1);
    }
    if (atomic_load(&pool->sleepers) == 0) return;
    if (is_over || is_first) ring(pool, INT_MAX);
    else if (
        phase.units > 1 &&
        atomic_fetch_add(&pool->phases_since, 1) + 1 >= atomic_load(&pool->phases_asleep)
    )
        ring(pool, 1);
}

static long between(long least, long value, long most) {
    return value < least ? least : value > most ? most : value;
}

/* What a member knows of the phase that it took part in last. */
typedef struct {
    Number number; /* 0: of none */
    Phase phase;
    long unit_ns; /* what a unit took here; 0: it computed none */
} Seen;

static bool is_spinning_over(ThreadPool *pool, int me, Number number) {
    return atomic_load(&pool->number) != number || atomic_load(&pool->is_closing) ||
           (me == 0 && atomic_load(&pool->is_over));
}

static void sleep_while(ThreadPool *pool, int me, Number number) {
    const unsigned rung = atomic_load(&pool->bell);
    atomic_fetch_add(&pool->sleepers, 1);
    if (!is_spinning_over(pool, me, number)) park(&pool->bell, rung);
    atomic_fetch_sub(&pool->sleepers, 1);
}

/* Who sleeps in the middle of a job has no core, or no work. */
static void double_phases_asleep(ThreadPool *pool) {
    const int asleep = atomic_load(&pool->phases_asleep);
    if (asleep < MOST_PHASES_ASLEEP) atomic_store(&pool->phases_asleep, 2 * asleep);
}

/* Sleeping was right where the wait was long, and so was spinning where it was short. */
static void learn_patience(long *patience_ns, long waited_ns, bool has_slept) {
    long better = *patience_ns + (4 * waited_ns - *patience_ns) / 16;
    if (has_slept)
        better = waited_ns < MOST_PATIENCE_NS ? 2 * waited_ns : *patience_ns - *patience_ns / 4;
    *patience_ns = between(LEAST_PATIENCE_NS, better, MOST_PATIENCE_NS);
}

/* Waits for another phase than the one that was seen, and makes it where that one is complete.
   Returns its number; 0 when there will be none: for the caller in this job, for others ever. */
static Number wait_for_phase(ThreadPool *pool, int me, const Seen *seen) {
    long *patience_ns = pool->members[me].patience_ns + atomic_load(&pool->is_over);
    long lateness_ns = between(LEAST_LATENESS_NS, LATENESS * seen->unit_ns, MOST_LATENESS_NS);
    const long began_ns = now_ns();
    bool has_slept = false;
    unsigned spins = 0;
    for (;;) {
        Number number = atomic_load(&pool->number);
        if (me ? atomic_load(&pool->is_closing) : atomic_load(&pool->is_over)) return 0;
        if (number % 2 == 0 && number != seen->number) {
            learn_patience(patience_ns, now_ns() - began_ns, has_slept);
            return number;
        }
        if (number == seen->number && is_complete(pool, number, &seen->phase)) {
            if (atomic_compare_exchange_strong(&pool->number, &number, number + 1))
                advance(pool, number + 1, false);
            continue;
        }
        relax();
        if (++spins % 16) continue;
        const long waited_ns = now_ns() - began_ns;
        if (REPEATS && number == seen->number && seen->phase.is_repeatable &&
            waited_ns > lateness_ns) {
            Phase phase;
            if (enter(pool, me, number, &phase)) repeat_units(pool, number, &phase, me);
            leave(pool, me);
            lateness_ns = LONG_MAX; /* what is missing now is being kept */
        } else if (waited_ns > *patience_ns || has_slept) {
            if (!has_slept && !atomic_load(&pool->is_over)) double_phases_asleep(pool);
            sleep_while(pool, me, number);
            has_slept = true;
        }
    }
}

static void take_part(ThreadPool *pool, int me, Number number, Seen *seen) {
    seen->number = number;
    seen->unit_ns = 0;
    if (enter(pool, me, number, &seen->phase)) {
        const long began_ns = now_ns();
        const int taken = take_units(pool, number, &seen->phase, me);
        if (taken) seen->unit_ns = (now_ns() - began_ns) / taken;
    }
    leave(pool, me);
}

static void *run_member(void *argument) {
    const Start start = *(Start *)argument;
    free(argument);
    Seen seen = {0};
    for (Number number; (number = wait_for_phase(start.pool, start.me, &seen));)
        take_part(start.pool, start.me, number, &seen);
    return NULL;
}

static bool is_anybody_inside(ThreadPool *pool) {
    for (int i = 0; i < pool->size; i++)
        if (atomic_load(&pool->members[i].is_inside)) return true;
    return false;
}

static void wait_for_leaving(ThreadPool *pool) {
    const long began_ns = now_ns();
    while (is_anybody_inside(pool) && now_ns() - began_ns < LEAST_PATIENCE_NS) relax();
    if (!is_anybody_inside(pool)) return;
    atomic_store(&pool->is_awaited, true);
    for (;;) {
        const unsigned left = atomic_load(&pool->left);
        if (!is_anybody_inside(pool)) break;
        park(&pool->left, left);
    }
    atomic_store(&pool->is_awaited, false);
}

void thread_pool_run(ThreadPool *pool, Job *job) {
    Seen seen = {0};
    pool->job = job;
    const int asleep = atomic_load(&pool->phases_asleep);
    atomic_store(&pool->phases_asleep, asleep > 1 ? asleep / 2 : 1);
    atomic_store(&pool->is_over, false);
    advance(pool, atomic_load(&pool->number), true);
    for (Number number; (number = wait_for_phase(pool, 0, &seen));)
        take_part(pool, 0, number, &seen);
    wait_for_leaving(pool);
}

int thread_pool_size(const ThreadPool *pool) { return pool->size; }

static void *aligned_zeros(size_t bytes) {
    void *zeros = aligned_alloc(128, (bytes + 127) / 128 * 128);
    if (zeros) memset(zeros, 0, bytes);
    return zeros;
}

ThreadPool *thread_pool_start(int size) {
    ThreadPool *pool = aligned_zeros(sizeof *pool);
    if (!pool) return NULL;
    pool->size = 1;
    pool->number = 1;
    pool->is_over = true;
    pool->phases_asleep = 1;
    pool->threads = calloc((size_t)size, sizeof *pool->threads);
    pool->members = aligned_zeros((size_t)size * sizeof *pool->members);
    pool->keepers = calloc(MOST_UNITS, sizeof *pool->keepers);
    bool is_whole = pool->threads && pool->members && pool->keepers;
    for (int i = 0; is_whole && i < size; i++)
        for (int j = 0; j < 2; j++) pool->members[i].patience_ns[j] = FIRST_PATIENCE_NS;
    sigset_t all, before; /* signals are for the threads that the program knows */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    /* Each sees as many members as there are in the end, which is known to be told them by `number`. */
    for (int me = 1; is_whole && me < size; me++) {
        Start *start = malloc(sizeof *start);
        if (start) *start = (Start){pool, me};
        is_whole = start && !pthread_create(pool->threads + me, NULL, run_member, start);
        if (is_whole) pool->size++;
        else free(start);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_whole) return pool;
    thread_pool_stop(pool);
    return NULL;
}

void thread_pool_stop(ThreadPool *pool) {
    atomic_store(&pool->is_closing, true);
    ring(pool, INT_MAX);
    for (int i = 1; i < pool->size; i++) pthread_join(pool->threads[i], NULL);
    free(pool->threads);
    free(pool->members);
    free(pool->keepers);
    free(pool);
}
