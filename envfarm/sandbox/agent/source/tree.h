/* The processes that descend from this one, found in /proc; where there is none, nothing is found. */
#ifndef TREE_H
#define TREE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Open /proc, or mount one that nobody else sees where that is allowed. Whether there is one. */
bool tree_open(void);
/* The descriptor of /proc, for who closes all others; -1 where there is none. */
int tree_descriptor(void);
/* Children of `root`, at most `room`. */
size_t tree_children(pid_t root, pid_t *children, size_t room);
/* Send a signal to all that descend from `root`, not to itself; returns how many there were. */
int tree_signal(pid_t root, int number);
/* Stop all that descend from `root` so that none can fork, then kill them. */
void tree_kill(pid_t root);
/* Memory that only they have, together. */
uint64_t tree_memory_bytes(pid_t root);

#endif
