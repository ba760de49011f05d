#include "tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "text.h"

enum { PROCESSES_MOST = 1 << 16, STOP_ROUNDS = 30 };

struct process {
    pid_t pid, parent;
    bool descends;
};

static int proc = -1;

static int mount_proc(void) {
#if defined(SYS_fsopen) && defined(SYS_fsconfig) && defined(SYS_fsmount)
    int context = (int)syscall(SYS_fsopen, "proc", 1 /* FSOPEN_CLOEXEC */);
    if (context < 0)
        return -1;
    int mounted = -1;
    if (syscall(SYS_fsconfig, context, 6 /* FSCONFIG_CMD_CREATE */, NULL, NULL, 0) == 0)
        mounted = (int)syscall(SYS_fsmount, context, 1 /* FSMOUNT_CLOEXEC */, 0);
    close(context);
    return mounted;
#else
    return -1;
#endif
}

static ssize_t read_of(pid_t pid, const char *name, char *to, size_t size) {
    char path[64];
    text_join(path, sizeof path, "", (uint64_t)pid, name);
    int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t count = read(fd, to, size - 1);
    close(fd);
    to[count > 0 ? count : 0] = 0;
    return count;
}

/* The parent stands behind the name, which may hold anything, closing brackets too. */
static pid_t parent_of(pid_t pid) {
    char line[512];
    if (read_of(pid, "/stat", line, sizeof line) <= 0)
        return -1;
    char *after = strrchr(line, ')');
    if (after == NULL || strlen(after) < 5)
        return -1;
    return (pid_t)text_number(after + 4);
}

/* Another namespace's /proc has other numbers; process 1 is in every one, and its parent is 0 in every one. */
static bool is_own(void) {
    char number[24];
    ssize_t size = readlinkat(proc, "self", number, sizeof number - 1);
    number[size > 0 ? size : 0] = 0;
    return size > 0 && (pid_t)text_number(number) == getpid() && parent_of(getpid()) == getppid();
}

bool tree_open(void) {
    proc = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (proc >= 0 && is_own())
        return true;
    if (proc >= 0)
        close(proc);
    proc = mount_proc();
    return proc >= 0;
}

static size_t read_processes(struct process *processes, size_t room) {
    size_t count = 0;
    int fd = proc < 0 ? -1 : openat(proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *folder = fd < 0 ? NULL : fdopendir(fd);
    if (folder == NULL) {
        if (fd >= 0)
            close(fd);
        return 0;
    }
    for (struct dirent *entry; count < room && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
            continue;
        pid_t pid = (pid_t)text_number(entry->d_name);
        processes[count++] = (struct process){pid, parent_of(pid), false};
    }
    closedir(folder);
    return count;
}

/* /proc lists processes in the order of their numbers. */
static const struct process *look_up(const struct process *processes, size_t count, pid_t pid) {
    size_t low = 0, high = count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (processes[middle].pid == pid)
            return processes + middle;
        if (processes[middle].pid < pid)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* Fill `*found`, to be freed; mark who descends from root. */
static size_t find(pid_t root, struct process **found) {
    struct process *processes = malloc(PROCESSES_MOST * sizeof *processes);
    *found = processes;
    size_t count = processes == NULL ? 0 : read_processes(processes, PROCESSES_MOST);
    for (bool changed = true; changed;) {
        changed = false;
        for (size_t i = 0; i < count; i++) {
            const struct process *parent = look_up(processes, count, processes[i].parent);
            bool descends = processes[i].parent == root || (parent != NULL && parent->descends);
            if (descends && !processes[i].descends)
                changed = processes[i].descends = true;
        }
    }
    return count;
}

int tree_descriptor(void) {
    return proc;
}

size_t tree_children(pid_t root, pid_t *children, size_t room) {
    struct process *processes;
    size_t count = find(root, &processes), found = 0;
    for (size_t i = 0; i < count && found < room; i++)
        if (processes[i].parent == root)
            children[found++] = processes[i].pid;
    free(processes);
    return found;
}

int tree_signal(pid_t root, int number) {
    struct process *processes;
    size_t count = find(root, &processes);
    int sent = 0;
    for (size_t i = 0; i < count; i++)
        if (processes[i].descends && processes[i].pid != getpid() && kill(processes[i].pid, number) == 0)
            sent++;
    free(processes);
    return sent;
}

void tree_kill(pid_t root) {
    int before = -1;
    for (int round = 0; round < STOP_ROUNDS; round++) {
        int stopped = tree_signal(root, SIGSTOP);
        if (stopped == before)
            break;
        before = stopped;
    }
    tree_signal(root, SIGKILL);
}

uint64_t tree_memory_bytes(pid_t root) {
    struct process *processes;
    size_t count = find(root, &processes);
    uint64_t pages = 0;
    for (size_t i = 0; i < count; i++) {
        char line[128];
        if (!processes[i].descends || read_of(processes[i].pid, "/statm", line, sizeof line) <= 0)
            continue;
        const char *resident = strchr(line, ' '), *shared = resident ? strchr(resident + 1, ' ') : NULL;
        if (shared == NULL)
            continue;
        uint64_t all = text_number(resident + 1), with_others = text_number(shared + 1);
        pages += all > with_others ? all - with_others : 0;
    }
    free(processes);
    return pages * (uint64_t)sysconf(_SC_PAGESIZE);
}
