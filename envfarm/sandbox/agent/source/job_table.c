#define _GNU_SOURCE
#include "job_table.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tree.h"

enum { BUCKETS = 256, JOBS_MOST = 4096, SWEEP_MS = 10, STRAYS_MOST = 1024 };

static struct job *buckets[BUCKETS];
static size_t job_count;
static uint64_t wake_ms = UINT64_MAX;
static bool sweeping;

static struct job **bucket_of(const uint8_t *id, size_t size) {
    uint32_t hash = 2166136261U;
    for (size_t i = 0; i < size; i++)
        hash = (hash ^ id[i]) * 16777619U;
    return &buckets[(hash ^ hash >> 16) % BUCKETS];
}

void job_table_add(struct job *job) {
    struct job **bucket = bucket_of(job->id, job->id_size);
    job->next = *bucket;
    *bucket = job;
    job_count++;
}

void job_table_remove(struct job *job) {
    for (struct job **place = bucket_of(job->id, job->id_size); *place != NULL; place = &(*place)->next)
        if (*place == job) {
            *place = job->next;
            job_count--;
            return;
        }
}

bool job_table_full(void) {
    return job_count >= JOBS_MOST;
}

struct job *job_find(struct span id) {
    for (struct job *job = *bucket_of(id.at, id.size); job != NULL; job = job->next)
        if (!job->forgotten && job->id_size == id.size && memcmp(job->id, id.at, id.size) == 0)
            return job;
    return NULL;
}

static void every_job(void (*act)(struct job *job, void *with), void *with) {
    for (int i = 0; i < BUCKETS; i++)
        for (struct job *job = buckets[i], *next; job != NULL; job = next) {
            next = job->next;
            act(job, with);
        }
}

struct visit {
    void (*act)(struct job *job, void *with);
    void *with;
};

static void visit_known(struct job *job, void *with) {
    struct visit *visit = with;
    if (!job->forgotten)
        visit->act(job, visit->with);
}

void jobs_each(void (*act)(struct job *job, void *with), void *with) {
    every_job(visit_known, &(struct visit){act, with});
}

static void drop_waits(struct job *job, void *with) {
    for (struct wait **place = &job->waits; *place != NULL;) {
        struct wait *wait = *place;
        if (wait->to.connection != with) {
            place = &wait->next;
            continue;
        }
        *place = wait->next;
        free(wait);
    }
}

void jobs_forget_connection(const struct connection *connection) {
    every_job(drop_waits, (void *)connection);
}

void job_table_wake_at(uint64_t deadline_ms) {
    if (deadline_ms < wake_ms)
        wake_ms = deadline_ms;
}

static void answer_and_look_ahead(struct job *job, void *with) {
    (void)with;
    job_answer(job);
    for (struct wait *wait = job->waits; wait != NULL; wait = wait->next)
        job_table_wake_at(wait->deadline_ms);
}

static void is_minder(struct job *job, void *with) {
    pid_t *child = with;
    if (*child == job->minder)
        *child = 0;
}

void job_table_sweep(void) {
    sweeping = true;
}

static void sweep(void) {
    pid_t strays[STRAYS_MOST];
    size_t count = tree_children(getpid(), strays, STRAYS_MOST);
    sweeping = false;
    for (size_t i = 0; i < count; i++) {
        pid_t stray = strays[i];
        every_job(is_minder, &stray);
        if (stray == 0)
            continue;
        kill(stray, SIGSTOP);
        tree_kill(stray);
        kill(stray, SIGKILL);
        sweeping = true; /* until none is found */
    }
}

uint64_t jobs_tend(void) {
    if (sweeping)
        sweep();
    if (wake_ms <= now_ms()) {
        wake_ms = UINT64_MAX;
        every_job(answer_and_look_ahead, NULL);
    }
    uint64_t sweep_at = sweeping ? now_ms() + SWEEP_MS : UINT64_MAX;
    return wake_ms < sweep_at ? wake_ms : sweep_at;
}

static void end_one(struct job *job, void *with) {
    (void)with;
    job_order(job, SIGKILL, true);
}

void jobs_end_all(void) {
    every_job(end_one, NULL);
}

static void has_minder(struct job *job, void *with) {
    if (job->control.fd >= 0)
        *(bool *)with = true;
}

bool jobs_all_gone(void) {
    bool left = false;
    every_job(has_minder, &left);
    return !left && !sweeping;
}

/* Minders are waited for when their socket ends; everything else that became our child is waited for here. */
void jobs_reap(void) {
    siginfo_t ended;
    for (;;) {
        ended.si_pid = 0;
        if (waitid(P_ALL, 0, &ended, WEXITED | WNOHANG | WNOWAIT) != 0 || ended.si_pid == 0)
            return;
        pid_t child = ended.si_pid;
        every_job(is_minder, &child);
        if (child == 0)
            return; /* its socket tells of it; SIGCHLD of others comes again with the next child */
        waitpid(child, NULL, 0);
    }
}
