/* The minder: one small process per job, between the agent and the program. Whatever the program leaves behind becomes
   its child, so it knows the job's whole tree, ends it, and counts what it used. It ends when the tree is gone; when
   the agent is gone it ends the tree. */
#ifndef MINDER_H
#define MINDER_H

#include "spawn.h"

struct minder_order {
    int32_t signal, tree;
};

/* How the program ended; sent once. */
struct minder_report {
    int32_t code, signal, stage, error; /* code -1 and signal 0 where they do not apply */
    uint64_t cpu_us, peak_bytes, wall_us;
    uint32_t flags;
};

/* Be the minder, in a forked child; `control` is the socket to the agent. */
_Noreturn void minder_run(const struct plan *plan, const int ends[DESCRIPTOR_COUNT],
                          const struct inheritance *inheritance, int control);

#endif
