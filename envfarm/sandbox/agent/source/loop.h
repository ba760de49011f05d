/* The event loop: one event is taken at a time, so whoever is told of it may close and free anything. */
#ifndef LOOP_H
#define LOOP_H

#include <stdbool.h>
#include <stdint.h>

struct watch {
    int fd;          /* -1: not open */
    uint32_t events; /* EPOLLIN, EPOLLOUT; 0: registered for nothing */
    bool registered;
    void (*act)(struct watch *watch, uint32_t events);
    void *owner;
};

bool loop_open(void);
uint64_t now_ms(void);
uint64_t now_us(void);

/* Watch for these events only, none included. False, with errno, where the kernel refuses. */
bool watch_for(struct watch *watch, uint32_t events);
/* End the watch and close the descriptor. */
void watch_close(struct watch *watch);
/* Wait for one event until `deadline_ms` and act on it. */
void loop_turn(uint64_t deadline_ms);

#endif
