#define _GNU_SOURCE
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static _Noreturn void fail(volatile struct start_failure *failure, int stage) {
    failure->error = errno;
    failure->stage = stage;
    _exit(127);
}

static void reset_signals(void) {
    struct sigaction usual = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int number = 1; number <= 64; number++)
        sigaction(number, &usual, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static bool place_descriptors(const int ends[DESCRIPTOR_COUNT]) {
    for (int number = 0; number < DESCRIPTOR_COUNT; number++) {
        if (ends[number] < 0)
            close(number);
        else if (dup2(ends[number], number) < 0)
            return false;
    }
    return true;
}

static void give_up_protection(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    if (write(fd, "0", 1) != 1)
        errno = 0; /* then programs are as spared as the agent is */
    close(fd);
}

static bool set_limits(const struct plan *plan, const struct inheritance *inheritance) {
    struct rlimit old, files, none = {0, 0};
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = inheritance->open_files_soft;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    setrlimit(RLIMIT_CORE, &none);
    for (size_t i = 0; i < plan->limit_count; i++) {
        int resource = (int)plan->limits[i].resource;
        if (getrlimit(resource, &old) != 0)
            return false;
        rlim_t bound = plan->limits[i].bound < old.rlim_max ? plan->limits[i].bound : old.rlim_max;
        struct rlimit new = {bound, bound};
        if (setrlimit(resource, &new) != 0)
            return false;
    }
    return true;
}

/* By system calls: the library's functions keep threads in step, which a child with shared memory must not. */
static bool set_identity(const struct plan *plan) {
    if (plan->has_identity) {
        bool same = getuid() == plan->uid && getgid() == plan->gid;
        if (syscall(SYS_setgroups, plan->group_count, plan->groups) != 0 && !(same && plan->group_count == 0))
            return false;
        if (syscall(SYS_setresgid, plan->gid, plan->gid, plan->gid) != 0)
            return false;
        if (syscall(SYS_setresuid, plan->uid, plan->uid, plan->uid) != 0)
            return false;
    }
    return !plan->no_new_privileges || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
}

static void search_and_run(const struct plan *plan) {
    const char *name = plan->arguments[0], *next = plan->path;
    char path[PATH_MAX];
    int refused = 0;
    while (next != NULL) {
        const char *end = strchr(next, ':');
        size_t size = end ? (size_t)(end - next) : strlen(next);
        if (size + strlen(name) + 2 <= sizeof path) {
            memcpy(path, next, size);
            path[size] = '/';
            strcpy(path + size + (size > 0), name);
            execve(path, plan->arguments, plan->variables);
            if (errno != ENOENT && errno != ENOTDIR)
                refused = errno;
            if (refused != 0 && refused != EACCES)
                break;
        }
        next = end ? end + 1 : NULL;
    }
    errno = refused != 0 ? refused : ENOENT;
}

static _Noreturn void become(const struct plan *plan, const int ends[DESCRIPTOR_COUNT],
                             const struct inheritance *inheritance, volatile struct start_failure *failure) {
    setsid();
    reset_signals();
    umask(022);
    if (!place_descriptors(ends))
        fail(failure, STAGE_PREPARE);
    if (inheritance->less_likely_killed)
        give_up_protection();
    if (!set_limits(plan, inheritance))
        fail(failure, STAGE_LIMITS);
    if (!set_identity(plan))
        fail(failure, STAGE_IDENTITY);
    if (chdir(plan->folder) != 0)
        fail(failure, STAGE_FOLDER);
    if (strchr(plan->arguments[0], '/') != NULL)
        execve(plan->arguments[0], plan->arguments, plan->variables);
    else
        search_and_run(plan);
    fail(failure, STAGE_PROGRAM);
}

pid_t spawn(const struct plan *plan, const int ends[DESCRIPTOR_COUNT], const struct inheritance *inheritance,
            volatile struct start_failure *failure) {
    failure->stage = STAGE_NONE;
    pid_t child = vfork();
    if (child == 0)
        become(plan, ends, inheritance, failure);
    if (child < 0) {
        failure->error = errno;
        failure->stage = STAGE_PREPARE;
        return -1;
    }
    if (failure->stage == STAGE_NONE)
        return child;
    waitpid(child, NULL, 0);
    return -1;
}
