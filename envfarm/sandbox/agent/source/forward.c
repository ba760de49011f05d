#define _GNU_SOURCE
#include "forward.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "listen.h"
#include "numbers.h"
#include "text.h"

enum { MOST_PAIRS = 64, CHUNK = 1 << 14, BACKLOG = 64 };

/* Bytes on their way from one end to the other. */
struct way {
    uint8_t bytes[CHUNK];
    size_t start, size;
    bool ended;
};

/* Way i leads from end i to the other one. */
struct pair {
    bool used;
    int end[2];
    struct way way[2];
};

static struct pair pairs[MOST_PAIRS];
static struct sockaddr_un target = {.sun_family = AF_UNIX};

static void drop(struct pair *pair) {
    close(pair->end[0]);
    close(pair->end[1]);
    pair->used = false;
}

static struct pair *free_pair(void) {
    for (int i = 0; i < MOST_PAIRS; i++)
        if (!pairs[i].used)
            return &pairs[i];
    return NULL;
}

static void take_connection(int listener) {
    struct pair *pair = free_pair();
    int near = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK), far;
    if (near < 0)
        return;
    far = pair == NULL ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (far < 0 || connect(far, (struct sockaddr *)&target, sizeof target) != 0) {
        if (far >= 0)
            close(far);
        close(near);
        return;
    }
    pair->used = true;
    pair->end[0] = near;
    pair->end[1] = far;
    for (int i = 0; i < 2; i++) {
        pair->way[i].start = pair->way[i].size = 0;
        pair->way[i].ended = false;
    }
}

static bool would_wait(ssize_t count) {
    return count < 0 && (errno == EAGAIN || errno == EINTR);
}

/* False where the connection is broken. */
static bool move(struct pair *pair, int from) {
    struct way *way = &pair->way[from];
    int to = pair->end[1 - from];
    if (way->size == 0 && !way->ended) {
        ssize_t count = read(pair->end[from], way->bytes, CHUNK);
        if (count < 0)
            return would_wait(count);
        way->start = 0;
        way->size = (size_t)count;
        way->ended = count == 0;
        if (way->ended)
            shutdown(to, SHUT_WR);
    }
    while (way->size > 0) {
        ssize_t count = write(to, way->bytes + way->start, way->size);
        if (count <= 0)
            return would_wait(count);
        way->start += (size_t)count;
        way->size -= (size_t)count;
    }
    return true;
}

static short wanted(const struct pair *pair, int end) {
    const struct way *out = &pair->way[end], *in = &pair->way[1 - end];
    return (short)((out->size == 0 && !out->ended ? POLLIN : 0) | (in->size > 0 ? POLLOUT : 0));
}

static void serve_pair(struct pair *pair) {
    if (!move(pair, 0) || !move(pair, 1) || (pair->way[0].ended && pair->way[1].ended))
        drop(pair);
}

static void serve(int listener) {
    static struct pollfd polled[1 + 2 * MOST_PAIRS];
    static struct pair *of[1 + 2 * MOST_PAIRS];
    for (;;) {
        nfds_t count = 1;
        polled[0] = (struct pollfd){.fd = free_pair() != NULL ? listener : -1, .events = POLLIN};
        for (int i = 0; i < MOST_PAIRS; i++)
            for (int end = 0; pairs[i].used && end < 2; end++) {
                short events = wanted(&pairs[i], end);
                of[count] = &pairs[i];
                polled[count++] = (struct pollfd){.fd = events ? pairs[i].end[end] : -1, .events = events};
            }
        if (poll(polled, count, -1) < 0 && errno != EINTR)
            return;
        for (nfds_t i = 1; i < count; i++)
            if (polled[i].revents != 0 && of[i]->used)
                serve_pair(of[i]);
        if (polled[0].revents & POLLIN)
            take_connection(listener);
    }
}

int forward(const char *where, const char *path) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    int on = 1;
    if (strlen(path) >= sizeof target.sun_path || !listen_read_address(where, &address, &size))
        return EXIT_BAD_USAGE;
    strcpy(target.sun_path, path);
    signal(SIGPIPE, SIG_IGN);
    int listener = socket(address.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener < 0)
        return EXIT_CANNOT_LISTEN;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, size) != 0 || listen(listener, BACKLOG) != 0) {
        text_say("cannot listen at ", where);
        return EXIT_CANNOT_LISTEN;
    }
    if (write(1, "ready\n", 6) != 6)
        return EXIT_CANNOT_LISTEN;
    serve(listener);
    return EXIT_CANNOT_LISTEN;
}
