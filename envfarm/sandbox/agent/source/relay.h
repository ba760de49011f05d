/* Joins standard input and output to an agent's socket: a stream that breaks is not the end of the agent. */
#ifndef RELAY_H
#define RELAY_H

int relay(const char *path);

#endif
