#include "memory_kills.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "text.h"

#define SEPARATE "/sys/fs/cgroup/memory/memory."

/* A charge of one fails so far below the bound. */
enum { HUGE_PAGE_BYTES = 2 << 20 };

static struct {
    int fd;
    bool is_unified;
    uint64_t kills, hits;
    struct memory_kills told;
} state = {.fd = -1};

/* The number behind a word at the beginning of a line; without a word, that which the file begins with. */
static uint64_t read_number(int fd, const char *word) {
    char content[512] = "\n";
    ssize_t size = fd < 0 ? -1 : pread(fd, content + 1, sizeof content - 2, 0);
    if (size <= 0)
        return 0;
    content[size + 1] = 0;
    const char *line = strstr(content, word);
    return line == NULL ? 0 : text_number(line + strlen(word));
}

static uint64_t read_kills(void) {
    return read_number(state.fd, "\noom_kill ");
}

static uint64_t read_once(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    uint64_t number = read_number(fd, "\n");
    if (fd >= 0)
        close(fd);
    return number;
}

static bool is_near(const char *peak_path, const char *bound_path) {
    uint64_t bound = read_once(bound_path);
    return bound > 0 && bound <= read_once(peak_path) + HUGE_PAGE_BYTES;
}

/* Version 2 counts how often the bound was reached, version 1 tells the peak, once for memory and once with swap. */
static bool has_reached_bound(void) {
    if (state.is_unified) {
        uint64_t before = state.hits;
        state.hits = read_number(state.fd, "\noom ");
        return state.hits > before;
    }
    return is_near(SEPARATE "max_usage_in_bytes", SEPARATE "limit_in_bytes") ||
           is_near(SEPARATE "memsw.max_usage_in_bytes", SEPARATE "memsw.limit_in_bytes");
}

void memory_kills_open(void) {
    state.fd = open("/sys/fs/cgroup/memory.events", O_RDONLY | O_CLOEXEC);
    state.is_unified = state.fd >= 0;
    if (!state.is_unified)
        state.fd = open(SEPARATE "oom_control", O_RDONLY | O_CLOEXEC);
    state.kills = read_kills();
    state.hits = read_number(state.fd, "\noom ");
}

struct memory_kills memory_kills_look(void) {
    uint64_t kills = read_kills();
    if (kills > state.kills) {
        if (has_reached_bound())
            state.told.own += kills - state.kills;
        else
            state.told.machine = true;
        state.kills = kills;
    }
    return state.told;
}
