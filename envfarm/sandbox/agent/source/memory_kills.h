/* How often the kernel ended a process of this box for want of memory, where its control group can be seen. */
#ifndef MEMORY_KILLS_H
#define MEMORY_KILLS_H

#include <stdbool.h>

/* Whether there was a kill since the last call; the first call, at the start, only looks. */
bool memory_kills_new(void);

#endif
