/* The agent inside a sandbox; PROTOCOL.md says what it understands. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "job_table.h"
#include "forward.h"
#include "join.h"
#include "listen.h"
#include "memory_kills.h"
#include "relay.h"
#include "sealed.h"
#include "text.h"
#include "tree.h"
#include "upload.h"

enum { RESERVED_DESCRIPTORS = 16, LAST_WORDS_MS = 2000, END_PATIENCE_MS = 8000 };

struct agent agent;

static const char usage[] =
    "usage: envfarm-agent (--unix PATH | --tcp ADDRESS:PORT | --stdio) [--unclaimed-seconds N], or --relay PATH, "
    "or --forward ADDRESS:PORT PATH, or --sealed, or --join FILE... -- PROGRAM ARGUMENT...";

struct options {
    const char *unix_path, *tcp, *relay;
    bool stdio;
    uint64_t unclaimed_seconds;
};

static bool read_options(int count, char **words, struct options *options) {
    for (int i = 1; i < count; i++) {
        const char *next = i + 1 < count ? words[i + 1] : NULL;
        if (strcmp(words[i], "--stdio") == 0) {
            options->stdio = true;
            continue;
        }
        if (next == NULL)
            return false;
        if (strcmp(words[i], "--unix") == 0)
            options->unix_path = next;
        else if (strcmp(words[i], "--tcp") == 0)
            options->tcp = next;
        else if (strcmp(words[i], "--relay") == 0)
            options->relay = next;
        else if (strcmp(words[i], "--unclaimed-seconds") != 0 ||
                 !text_is_number(next, 1000000000, &options->unclaimed_seconds))
            return false;
        i++;
    }
    return (options->unix_path != NULL) + (options->tcp != NULL) + (options->relay != NULL) + options->stdio == 1;
}

/* Numbers 0 to 15 stay taken, so that the ends of a job's pipes never lie where the job wants them. */
static void reserve_descriptors(void) {
    int fd = epoll_create1(EPOLL_CLOEXEC);
    while (fd >= 0 && fd < RESERVED_DESCRIPTORS)
        fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (fd >= 0)
        close(fd);
}

static void protect_from_memory_kills(void) {
    int fd = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return;
    agent.inheritance.less_likely_killed = write(fd, "-998", 4) == 4;
    close(fd);
}

static void prepare_process(void) {
    struct rlimit files;
    umask(022); /* whatever the caller's was: folders that are made have the mode that the protocol says */
    bool sees = tree_open();
    protect_from_memory_kills();
    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* nobody of the same user reads the key */
    prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
    agent.inheritance.open_files_soft = 1024;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        agent.inheritance.open_files_soft = files.rlim_cur;
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (geteuid() == 0 && setgroups(0, NULL) != 0)
        text_say("the groups of the caller are kept", "");
    agent.facts = (getpid() == 1 ? FACT_FIRST_PROCESS : 0) | (sees ? FACT_SEES_PROCESSES : 0) |
                  (geteuid() == 0 ? FACT_ROOT : 0);
    memory_kills_open();
}

/* As the first process of a box: whoever signals from within is a job; senders outside have no id here. */
static bool comes_from_a_job(const struct signalfd_siginfo *told) {
    return getpid() == 1 && told->ssi_pid != 0;
}

static void on_signal(struct watch *watch, uint32_t events) {
    struct signalfd_siginfo told;
    (void)events;
    while (read(watch->fd, &told, sizeof told) == sizeof told)
        if (told.ssi_signo != SIGCHLD && !comes_from_a_job(&told))
            agent_end(EXIT_TERMINATED);
    jobs_reap();
}

static bool watch_signals(void) {
    static struct watch watch = {.act = on_signal};
    sigset_t taken;
    sigemptyset(&taken);
    sigaddset(&taken, SIGCHLD);
    sigaddset(&taken, SIGTERM);
    sigaddset(&taken, SIGINT);
    sigaddset(&taken, SIGHUP);
    sigprocmask(SIG_SETMASK, &taken, NULL);
    signal(SIGPIPE, SIG_IGN);
    watch.fd = signalfd(-1, &taken, SFD_CLOEXEC | SFD_NONBLOCK);
    return watch.fd >= 0 && watch_for(&watch, EPOLLIN);
}

void agent_end(int exit_code) {
    if (agent.ending)
        return;
    agent.ending = true;
    agent.exit_code = exit_code;
    listen_end();
    uploads_end();
    jobs_end_all();
    job_table_sweep();
}

void dispatch(struct address from, const struct frame *frame) {
    static struct request request; /* large, and one request is performed at a time */
    bool bulk_allowed = frame->kind == KIND_PUT || frame->kind == KIND_DATA;
    if (!request_known(frame->kind)) {
        reply_plain(from, STATUS_UNKNOWN_KIND, "no such request");
    } else if (!request_read(frame->kind, frame->fields, &request) || (frame->bulk.size > 0 && !bulk_allowed) ||
               frame->status != 0) {
        reply_plain(from, STATUS_MALFORMED, "the fields are not those of this request");
    } else if (frame->kind == KIND_PING) {
        reply_plain(from, STATUS_OK, NULL);
    } else if (frame->kind == KIND_END) {
        agent_end(EXIT_ENDED);
        agent.answers_end = true;
        agent.end_at = from;
    } else if (frame->kind < KIND_PUT) {
        job_request(from, &request);
    } else {
        file_request(from, &request, frame->bulk);
    }
}

static uint64_t lease_end(uint64_t unclaimed_ms) {
    if (agent.claim.made)
        return agent.claim.deadline_ms;
    return unclaimed_ms > 0 ? unclaimed_ms : UINT64_MAX;
}

static uint64_t least(uint64_t left, uint64_t right) {
    return left < right ? left : right;
}

static void serve(uint64_t unclaimed_ms) {
    uint64_t give_up_ms = UINT64_MAX;
    for (;;) {
        uint64_t next = least(connections_tend(), jobs_tend());
        if (now_ms() >= lease_end(unclaimed_ms))
            agent_end(agent.claim.made ? EXIT_LEASE_EXPIRED : EXIT_UNCLAIMED);
        if (agent.ending && give_up_ms == UINT64_MAX)
            give_up_ms = now_ms() + END_PATIENCE_MS;
        if (agent.ending && (jobs_all_gone() || now_ms() >= give_up_ms))
            return;
        next = agent.ending ? least(next, now_ms() + 10) : least(next, lease_end(unclaimed_ms));
        connections_tend(); /* answers that jobs_tend wrote */
        loop_turn(next);
    }
}

static bool open_roads(const struct options *options) {
    if (options->stdio) {
        int in = fcntl(0, F_DUPFD_CLOEXEC, RESERVED_DESCRIPTORS), out = fcntl(1, F_DUPFD_CLOEXEC, RESERVED_DESCRIPTORS);
        if (in < 0 || out < 0)
            return false;
        close(0);
        close(1);
        reserve_descriptors();
        fcntl(in, F_SETFL, O_NONBLOCK);
        fcntl(out, F_SETFL, O_NONBLOCK);
        connection_open(in, out, true);
        return true;
    }
    return options->unix_path != NULL ? listen_unix(options->unix_path) : listen_tcp(options->tcp);
}

int main(int count, char **words) {
    struct options options = {0};
    if (count == 2 && strcmp(words[1], "--sealed") == 0)
        return sealed();
    if (count > 2 && strcmp(words[1], "--join") == 0)
        return join(words + 2);
    if (count == 4 && strcmp(words[1], "--forward") == 0)
        return forward(words[2], words[3]);
    if (!read_options(count, words, &options)) {
        text_say(usage, "");
        return EXIT_BAD_USAGE;
    }
    if (options.relay != NULL)
        return relay(options.relay);
    if (getrandom(agent.instance, NONCE_SIZE, 0) != NONCE_SIZE)
        return EXIT_CANNOT_LISTEN;
    if (!options.stdio)
        reserve_descriptors();
    prepare_process();
    if (!loop_open() || !watch_signals() || !open_roads(&options)) {
        text_say("cannot listen", "");
        return EXIT_CANNOT_LISTEN;
    }
    serve(options.unclaimed_seconds > 0 ? now_ms() + options.unclaimed_seconds * 1000 : 0);
    if (getpid() == 1)
        kill(-1, SIGKILL);
    if (agent.answers_end)
        reply_plain(agent.end_at, STATUS_OK, NULL);
    connections_drain(LAST_WORDS_MS);
    return agent.exit_code;
}
