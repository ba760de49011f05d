/* A call that the threads of a team share: each does its parts, and takes memory of its own to them. */
#include <stddef.h>

#include "training.h"

/* Every thread of the team runs this; `team` is the same for all of them. */
EXPORTED void envfarm_work(const struct team *team) {
    int thread = team->thread_number(), threads = team->thread_count();
    for (int64_t part = thread; part < team->parts; part += threads) {
        int64_t first = team->bounds[part], last = team->bounds[part + 1];
        if (team->memories == NULL)
            ((void (*)(const void *, int64_t, int64_t))team->call)(team->structure, first, last);
        else
            ((void (*)(const void *, int64_t, int64_t, float *))team->call)(team->structure, first, last,
                                                                            team->memories[thread]);
    }
}
