#if defined(__linux__)
#define _GNU_SOURCE /* syscall */
#endif

#include "parking.h"

#if defined(__linux__)

#include <linux/futex.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

void park(atomic_uint *word, unsigned seen) {
    syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, seen, NULL, NULL, 0);
}

void unpark(atomic_uint *word, int threads) {
    syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, threads, NULL, NULL, 0);
}

#else

#include <pthread.h>

/* One for all words: who is woken for another's sake looks again and sleeps on. */
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

void park(atomic_uint *word, unsigned seen) {
    pthread_mutex_lock(&mutex);
    if (atomic_load(word) == seen) pthread_cond_wait(&changed, &mutex);
    pthread_mutex_unlock(&mutex);
}

void unpark(atomic_uint *word, int threads) {
    (void)word, (void)threads;
    pthread_mutex_lock(&mutex);
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
}

#endif
