/* Sleeping until a word changes, and waking who sleeps: the system's own way where it has one. */

#pragma once

#include <stdatomic.h>

/* Sleeps while `word` has the value `seen`, until it is woken; may return early. */
void park(atomic_uint *word, unsigned seen);

/* Wakes so many of those who sleep on `word`, or more; its value must have been changed before. */
void unpark(atomic_uint *word, int threads);
