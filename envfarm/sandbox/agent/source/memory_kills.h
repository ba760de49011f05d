/* Which processes of this box the kernel ended for want of memory, where the box's control group can be seen. */
#ifndef MEMORY_KILLS_H
#define MEMORY_KILLS_H

#include <stdbool.h>
#include <stdint.h>

struct memory_kills {
    uint64_t own; /* kills that the box's own bound asked for, so far */
    bool machine; /* whether there was one, ever, that it did not ask for: the machine's memory, or a parent group's */
};

/* Open what the kernel says; call it once, before the first look. */
void memory_kills_open(void);
struct memory_kills memory_kills_look(void);

#endif
