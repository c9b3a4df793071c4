/* Threads that do one piece of work together and wait for the next. */

#pragma once

typedef struct Team Team;

/* What each thread of a team does: it is number `member` of `size`. */
typedef void Work(const void *task, Team *team, int member, int size);

/* The caller's thread is one of `size`. NULL where the system has no room for them. */
Team *team_start(int size);

/* Ends the threads, which must be at rest. */
void team_stop(Team *team);

/* Returns when every thread has done its part. One caller at a time. */
void team_do(Team *team, Work *work, const void *task);

/* Waits, inside the work, until all are here; what they wrote before is seen after. */
void team_meet(Team *team);

typedef struct {
    int from, to;
} Range;

/* A member's share of `count` things. */
static inline Range share(int count, int member, int size) {
    return (Range){
        (int)((long long)count * member / size), (int)((long long)count * (member + 1) / size)
    };
}
