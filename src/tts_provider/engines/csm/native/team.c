#define _POSIX_C_SOURCE 200809L /* signal masks */

#include "team.h"

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

struct Team {
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
    Team *team;
    int number;
} Member;

static unsigned look(atomic_uint *at) { return atomic_load_explicit(at, memory_order_acquire); }

void team_meet(Team *team) {
    unsigned meeting = look(&team->meetings);
    if (atomic_fetch_add(&team->arrived, 1) == team->size - 1) {
        atomic_store(&team->arrived, 0);
        atomic_store(&team->meetings, meeting + 1);
        return;
    }
    const unsigned long long began = __rdtsc();
    while (look(&team->meetings) == meeting) {
        _mm_pause();
        if (__rdtsc() - began > SPIN) sched_yield(); /* who is late may need this very core */
    }
}

static void wait_for_task(Team *team, unsigned done) {
    const unsigned long long began = __rdtsc();
    while (__rdtsc() - began < SPIN) {
        if (look(&team->tasks) != done) return;
        _mm_pause();
    }
    pthread_mutex_lock(&team->mutex);
    team->asleep++;
    while (look(&team->tasks) == done) pthread_cond_wait(&team->wake, &team->mutex);
    team->asleep--;
    pthread_mutex_unlock(&team->mutex);
}

static void announce(Team *team) {
    pthread_mutex_lock(&team->mutex);
    atomic_fetch_add(&team->tasks, 1);
    if (team->asleep) pthread_cond_broadcast(&team->wake);
    pthread_mutex_unlock(&team->mutex);
}

static void *run(void *argument) {
    Member me = *(Member *)argument;
    free(argument);
    for (unsigned done = 0;; done++) {
        wait_for_task(me.team, done);
        if (me.team->is_closing) return NULL;
        me.team->work(me.team->task, me.team, me.number, me.team->size);
        team_meet(me.team);
    }
}

void team_do(Team *team, Work *work, const void *task) {
    team->work = work;
    team->task = task;
    announce(team);
    work(task, team, 0, team->size);
    team_meet(team);
}

Team *team_start(int size) {
    Team *team = aligned_alloc(_Alignof(Team), sizeof(Team));
    if (!team) return NULL;
    *team = (Team){.size = 1, .threads = calloc((size_t)size, sizeof(pthread_t))};
    pthread_mutex_init(&team->mutex, NULL);
    pthread_cond_init(&team->wake, NULL);
    sigset_t all, before; /* signals are for the threads that the program knows */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    bool is_whole = team->threads != NULL;
    while (is_whole && team->size < size) {
        Member *member = malloc(sizeof *member);
        if (member) *member = (Member){team, team->size};
        is_whole = member && !pthread_create(&team->threads[team->size], NULL, run, member);
        if (is_whole) team->size++;
        else free(member);
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (is_whole) return team;
    team_stop(team);
    return NULL;
}

void team_stop(Team *team) {
    team->is_closing = true;
    announce(team);
    for (int i = 1; i < team->size; i++) pthread_join(team->threads[i], NULL);
    pthread_cond_destroy(&team->wake);
    pthread_mutex_destroy(&team->mutex);
    free(team->threads);
    free(team);
}
