#define _GNU_SOURCE
#include "minder.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop.h"
#include "tree.h"

enum { MEMORY_LOOK_MS = 25, KILL_AGAIN_MS = 5, GIVE_UP_MS = 5000 };

struct minder {
    const struct plan *plan;
    int control, children;
    pid_t program;
    bool ended, reported, none_left, killing, cut;
    int status;
    uint64_t started_us, deadline_ms, killing_since_ms;
    uint32_t flags;
};

static int by_value(const void *left, const void *right) {
    return *(const int *)left - *(const int *)right;
}

static void close_between(int first, int last) {
    if (first > last)
        return;
#ifdef SYS_close_range
    if (syscall(SYS_close_range, (unsigned)first, (unsigned)last, 0) == 0)
        return;
#endif
    struct rlimit limit;
    int most = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < 1 << 20 ? (int)limit.rlim_cur : 1 << 20;
    for (int fd = first; fd <= last && fd < most; fd++)
        close(fd);
}

/* Other jobs' pipes would never end while a copy is open here. */
static void close_others(const int ends[DESCRIPTOR_COUNT], int control) {
    int kept[DESCRIPTOR_COUNT + 3] = {2, control, tree_descriptor()};
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        kept[3 + i] = ends[i];
    qsort(kept, DESCRIPTOR_COUNT + 3, sizeof *kept, by_value);
    int next = 0;
    for (int i = 0; i < DESCRIPTOR_COUNT + 3; i++)
        if (kept[i] >= 0) {
            close_between(next, kept[i] - 1);
            next = kept[i] + 1;
        }
    close_between(next, INT32_MAX);
}

static void reap(struct minder *minder) {
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == minder->program) {
            minder->ended = true;
            minder->status = status;
        }
    minder->none_left = pid < 0 && errno == ECHILD;
}

static void kill_tree(struct minder *minder) {
    if (!minder->killing) {
        minder->killing = true;
        minder->killing_since_ms = now_ms();
    }
    if (!minder->ended) {
        kill(-minder->program, SIGKILL);
        kill(minder->program, SIGKILL);
    }
    tree_kill(getpid());
}

static void report(struct minder *minder, struct start_failure failure) {
    struct rusage usage;
    struct minder_report report = {.code = -1, .stage = failure.stage, .error = failure.error};
    getrusage(RUSAGE_CHILDREN, &usage);
    report.cpu_us = (uint64_t)(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
                    (uint64_t)(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec);
    report.peak_bytes = (uint64_t)usage.ru_maxrss * 1024;
    report.wall_us = now_us() - minder->started_us;
    report.flags = minder->flags | (minder->none_left ? 0 : ENDED_LEFTOVERS);
    if (failure.stage == STAGE_NONE && WIFSIGNALED(minder->status))
        report.signal = WTERMSIG(minder->status);
    else if (failure.stage == STAGE_NONE)
        report.code = WEXITSTATUS(minder->status);
    minder->reported = true;
    if (send(minder->control, &report, sizeof report, MSG_NOSIGNAL) < 0)
        minder->cut = true;
}

static void obey(struct minder *minder) {
    struct minder_order order;
    ssize_t size = recv(minder->control, &order, sizeof order, MSG_DONTWAIT);
    if (size < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (size != sizeof order) {
        minder->cut = true;
        kill_tree(minder);
    } else if (order.tree && order.signal == SIGKILL) {
        kill_tree(minder);
    } else if (order.tree) {
        tree_signal(getpid(), order.signal);
    } else if (!minder->ended) {
        kill(minder->program, order.signal);
    }
}

static void look_at_bounds(struct minder *minder) {
    if (minder->ended || minder->killing)
        return;
    if (minder->deadline_ms > 0 && now_ms() >= minder->deadline_ms) {
        minder->flags |= ENDED_TIMED_OUT;
        kill_tree(minder);
    } else if (minder->plan->memory_bytes > 0 && tree_memory_bytes(getpid()) > minder->plan->memory_bytes) {
        minder->flags |= ENDED_OUT_OF_MEMORY;
        kill_tree(minder);
    }
}

static int patience_ms(const struct minder *minder) {
    if (minder->killing)
        return KILL_AGAIN_MS;
    if (minder->ended)
        return -1;
    uint64_t now = now_ms();
    int until_deadline = -1;
    if (minder->deadline_ms > 0) {
        uint64_t left = minder->deadline_ms > now ? minder->deadline_ms - now : 0;
        until_deadline = left > 3600 * 1000 ? 3600 * 1000 : (int)left;
    }
    if (minder->plan->memory_bytes > 0 && (until_deadline < 0 || until_deadline > MEMORY_LOOK_MS))
        return MEMORY_LOOK_MS;
    return until_deadline;
}

/* Whether the minder has nothing more to do. */
static bool is_done(struct minder *minder) {
    bool gave_up = minder->killing && now_ms() - minder->killing_since_ms > GIVE_UP_MS;
    bool told = minder->none_left || gave_up || (!minder->killing && !minder->plan->leftovers_end);
    if (minder->ended && !minder->reported && !told && !minder->killing)
        kill_tree(minder);
    if (minder->ended && !minder->reported && told)
        report(minder, (struct start_failure){STAGE_NONE, 0});
    return minder->none_left || (gave_up && (minder->reported || minder->cut));
}

static void mind(struct minder *minder) {
    struct pollfd polled[2] = {{minder->control, POLLIN, 0}, {minder->children, POLLIN, 0}};
    for (;;) {
        reap(minder);
        if (is_done(minder))
            return;
        polled[0].fd = minder->cut ? -1 : minder->control;
        int ready = poll(polled, 2, patience_ms(minder));
        struct signalfd_siginfo told;
        if (ready > 0 && polled[1].revents != 0 && read(minder->children, &told, sizeof told) < 0)
            reap(minder);
        if (ready > 0 && !minder->cut && polled[0].revents != 0)
            obey(minder);
        look_at_bounds(minder);
        if (minder->killing && !minder->none_left)
            kill_tree(minder);
    }
}

void minder_run(const struct plan *plan, const int ends[DESCRIPTOR_COUNT], const struct inheritance *inheritance,
                int control) {
    struct minder minder = {.plan = plan, .control = control};
    volatile struct start_failure failure;
    sigset_t child;
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    close_others(ends, control);
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    minder.children = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    minder.started_us = now_us();
    minder.deadline_ms = plan->timeout_ms > 0 ? now_ms() + plan->timeout_ms : 0;
    minder.program = spawn(plan, ends, inheritance, &failure);
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        if (ends[i] >= 0)
            close(ends[i]);
    if (minder.program < 0) {
        minder.none_left = true;
        report(&minder, (struct start_failure){failure.stage, failure.error});
    } else {
        mind(&minder);
    }
    _exit(0);
}
