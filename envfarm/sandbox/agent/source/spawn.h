/* Turns a child into a job's program. */
#ifndef SPAWN_H
#define SPAWN_H

#include "plan.h"

struct start_failure {
    int stage, error; /* STAGE_NONE: the program runs */
};

/* What every program gets back that the agent changed for itself. */
struct inheritance {
    uint64_t open_files_soft;
    bool less_likely_killed; /* the agent is spared when memory ends; programs are not */
};

/* Start the program with `ends[n]` as descriptor n (-1: closed); returns its process, or -1 and what failed.
   The child shares this process's memory until the program runs, so it changes nothing but *failure. */
pid_t spawn(const struct plan *plan, const int ends[DESCRIPTOR_COUNT], const struct inheritance *inheritance,
            volatile struct start_failure *failure);

#endif
