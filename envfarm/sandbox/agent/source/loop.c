#include "loop.h"

#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

static int epoll = -1;

bool loop_open(void) {
    epoll = epoll_create1(EPOLL_CLOEXEC);
    return epoll >= 0;
}

uint64_t now_us(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

uint64_t now_ms(void) {
    return now_us() / 1000;
}

bool watch_for(struct watch *watch, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = watch};
    if (watch->registered && watch->events == events)
        return true;
    /* With no events the kernel still tells of ends and errors, again and again: so the watch is taken out. */
    int operation = events == 0 ? EPOLL_CTL_DEL : watch->registered ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
    if (events == 0 && !watch->registered)
        return true;
    if (epoll_ctl(epoll, operation, watch->fd, &event) != 0)
        return false;
    watch->registered = events != 0;
    watch->events = events;
    return true;
}

void watch_close(struct watch *watch) {
    if (watch->fd < 0)
        return;
    watch_for(watch, 0);
    close(watch->fd);
    watch->fd = -1;
}

void loop_turn(uint64_t deadline_ms) {
    struct epoll_event event;
    uint64_t now = now_ms(), left = deadline_ms > now ? deadline_ms - now : 0;
    int count = epoll_wait(epoll, &event, 1, left > 3600 * 1000 ? 3600 * 1000 : (int)left);
    if (count == 1) {
        struct watch *watch = event.data.ptr;
        watch->act(watch, event.events);
    }
}
