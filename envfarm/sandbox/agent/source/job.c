#define _GNU_SOURCE
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "job_table.h"
#include "memory_kills.h"
#include "tree.h"

enum { PIPE_CHUNK = 1 << 16, LAST_READS = 32, WAITS_MOST = 16 };

static void release(struct job *job);

static void end_stream(struct job *job, struct stream *stream) {
    watch_close(&stream->watch);
    job_answer(job);
}

/* Whether there was something to read. */
static bool read_stream(struct job *job, struct stream *stream) {
    static uint8_t chunk[PIPE_CHUNK];
    ssize_t count = read(stream->watch.fd, chunk, sizeof chunk);
    if (count > 0 && !job->forgotten)
        output_add(&stream->output, chunk, (size_t)count);
    if (count == 0 || (count < 0 && errno != EAGAIN && errno != EINTR))
        watch_close(&stream->watch);
    return count > 0;
}

static void on_output(struct watch *watch, uint32_t events) {
    struct job *job = watch->owner;
    (void)events;
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        if (&job->streams[i].watch == watch) {
            read_stream(job, &job->streams[i]);
            job_answer(job);
            return;
        }
}

static void close_input(struct job *job) {
    bytes_free(&job->input_left);
    watch_close(&job->input);
}

static void write_input(struct job *job) {
    struct span left = bytes_left(&job->input_left);
    while (left.size > 0 && job->input.fd >= 0) {
        ssize_t count = write(job->input.fd, left.at, left.size);
        if (count < 0 && (errno == EAGAIN || errno == EINTR)) {
            if (!watch_for(&job->input, EPOLLOUT))
                close_input(job);
            return;
        }
        if (count < 0) { /* nobody reads any more */
            close_input(job);
            return;
        }
        bytes_take(&job->input_left, (size_t)count);
        left = bytes_left(&job->input_left);
    }
    if (job->input_ends)
        close_input(job);
    else
        watch_for(&job->input, 0);
}

static void on_input(struct watch *watch, uint32_t events) {
    struct job *job = watch->owner;
    (void)events;
    write_input(job);
    job_answer(job);
}

bool job_input_drained(const struct job *job) {
    return job->input.fd < 0 || bytes_left(&job->input_left).size == 0;
}

void job_feed(struct job *job, struct span data, bool ends) {
    job->input_ends |= ends;
    job->input_taken += data.size;
    if (job->input.fd < 0)
        return;
    if (!bytes_add(&job->input_left, data.at, data.size)) {
        close_input(job);
        return;
    }
    write_input(job);
}

/* The program has ended: what it wrote is in the pipes, and there may be others who write on and on. */
static void end_job(struct job *job, const struct minder_report *report) {
    job->ended = true;
    job->report = *report;
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        for (int round = 0; round < LAST_READS && job->streams[i].watch.fd >= 0; round++)
            if (!read_stream(job, &job->streams[i]))
                break;
    close_input(job);
    struct memory_kills kills = memory_kills_look();
    if (report->signal == SIGKILL && kills.own > job->memory_kills)
        job->report.flags |= ENDED_OUT_OF_MEMORY;
    if (kills.machine)
        job->report.flags |= ENDED_MACHINE_MEMORY;
    job_answer(job);
}

static void on_minder(struct watch *watch, uint32_t events) {
    struct job *job = watch->owner;
    struct minder_report report;
    (void)events;
    ssize_t size = recv(watch->fd, &report, sizeof report, MSG_DONTWAIT);
    if (size == sizeof report && !job->ended) {
        end_job(job, &report);
    } else if (size >= 0 || (errno != EAGAIN && errno != EINTR)) {
        watch_close(watch);
        waitpid(job->minder, NULL, 0);
        job->minder = 0;
        jobs_reap(); /* whoever stood behind this minder in the row of ended children */
        if (!job->ended) {
            job_table_sweep();
            end_job(job, &(struct minder_report){.code = -1, .signal = SIGKILL, .flags = ENDED_UNWATCHED});
        }
        for (int i = 0; i < DESCRIPTOR_COUNT; i++)
            if (job->streams[i].watch.fd >= 0 && !read_stream(job, &job->streams[i]))
                end_stream(job, &job->streams[i]);
        release(job);
    }
}

/* Free a job that is forgotten and whose processes are gone. */
static void release(struct job *job) {
    if (!job->forgotten || job->control.fd >= 0)
        return;
    for (int i = 0; i < DESCRIPTOR_COUNT; i++) {
        watch_close(&job->streams[i].watch);
        output_free(&job->streams[i].output);
    }
    close_input(job);
    job_table_remove(job);
    free(job);
}

void job_order(struct job *job, int signal, bool tree) {
    struct minder_order order = {signal, tree};
    if (job->control.fd >= 0 && send(job->control.fd, &order, sizeof order, MSG_DONTWAIT | MSG_NOSIGNAL) < 0 &&
        errno == EAGAIN && job->minder > 0 && signal == SIGKILL)
        kill(job->minder, SIGKILL); /* a minder that does not listen: the sweep ends its tree */
}

void job_forget(struct job *job) {
    job->forgotten = true;
    while (job->waits != NULL) {
        struct wait *wait = job->waits;
        job->waits = wait->next;
        reply_plain(wait->to, STATUS_NO_SUCH_JOB, "the job was forgotten");
        free(wait);
    }
    if (!job->ended)
        job_order(job, SIGKILL, true);
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        output_free(&job->streams[i].output);
    release(job);
}

bool job_wait(struct job *job, struct wait wait) {
    int count = 0;
    if (wait_answer(job, &wait, wait.deadline_ms <= now_ms()))
        return true;
    for (struct wait *other = job->waits; other != NULL; other = other->next)
        count++;
    struct wait *kept = count < WAITS_MOST ? malloc(sizeof *kept) : NULL;
    if (kept == NULL)
        return false;
    *kept = wait;
    kept->next = job->waits;
    job->waits = kept;
    job_table_wake_at(wait.deadline_ms);
    return true;
}

void job_answer(struct job *job) {
    uint64_t now = job->waits ? now_ms() : 0;
    for (struct wait **place = &job->waits; *place != NULL;) {
        struct wait *wait = *place;
        if (!wait_answer(job, wait, wait->deadline_ms <= now)) {
            place = &wait->next;
            continue;
        }
        *place = wait->next;
        free(wait);
    }
}

static bool open_pipe(int ends[2], int ours) {
    int raw[2];
    if (pipe2(raw, O_CLOEXEC) != 0)
        return false;
    fcntl(raw[ours], F_SETFL, O_NONBLOCK);
    ends[0] = raw[0];
    ends[1] = raw[1];
    return true;
}

static bool open_ends(struct job *job, const struct plan *plan, int theirs[DESCRIPTOR_COUNT]) {
    int ends[2];
    if (!open_pipe(ends, 1))
        return false;
    theirs[0] = ends[0];
    job->input.fd = ends[1];
    for (int i = 1; i < DESCRIPTOR_COUNT; i++) {
        if (!plan->streams[i].wanted)
            continue;
        if (!open_pipe(ends, 0))
            return false;
        theirs[i] = ends[1];
        job->streams[i].watch.fd = ends[0];
        job->streams[i].wanted = true;
        output_open(&job->streams[i].output, plan->streams[i].kept, plan->streams[i].keep_tail);
        if (!watch_for(&job->streams[i].watch, EPOLLIN))
            return false;
    }
    return true;
}

static bool fork_minder(struct job *job, const struct plan *plan, const int theirs[DESCRIPTOR_COUNT]) {
    int control[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, control) != 0)
        return false;
    job->control.fd = control[0];
    job->minder = watch_for(&job->control, EPOLLIN) ? fork() : -1;
    if (job->minder == 0)
        minder_run(plan, theirs, &agent.inheritance, control[1]);
    int error = errno;
    close(control[1]);
    errno = error;
    return job->minder > 0;
}

static struct job *new_job(struct span id, const uint8_t *digest) {
    struct job *job = calloc(1, sizeof *job);
    if (job == NULL)
        return NULL;
    memcpy(job->id, id.at, id.size);
    job->id_size = id.size;
    memcpy(job->digest, digest, DIGEST_SIZE);
    job->memory_kills = memory_kills_look().own;
    job->control = (struct watch){.fd = -1, .act = on_minder, .owner = job};
    job->input = (struct watch){.fd = -1, .act = on_input, .owner = job};
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        job->streams[i].watch = (struct watch){.fd = -1, .act = on_output, .owner = job};
    return job;
}

static enum status run_plan(struct job *job, const struct plan *plan) {
    int theirs[DESCRIPTOR_COUNT], error;
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        theirs[i] = -1;
    bool runs = open_ends(job, plan, theirs) && fork_minder(job, plan, theirs);
    error = errno;
    for (int i = 0; i < DESCRIPTOR_COUNT; i++)
        if (theirs[i] >= 0)
            close(theirs[i]);
    job_table_add(job);
    if (!runs) {
        watch_close(&job->control);
        job->forgotten = true;
        release(job);
        errno = error;
    }
    return runs ? STATUS_OK : STATUS_SYSTEM;
}

enum status job_start(const struct request *request, struct job **job) {
    struct plan plan;
    struct sha256 hash;
    uint8_t digest[DIGEST_SIZE];
    struct span id = request->value[FIELD_JOB];
    sha256_begin(&hash);
    sha256_add(&hash, request->fields.at, request->fields.size);
    sha256_end(&hash, digest);
    *job = job_find(id);
    if (*job != NULL)
        return memcmp((*job)->digest, digest, DIGEST_SIZE) == 0 ? STATUS_OK : STATUS_CONFLICT;
    if (job_table_full())
        return STATUS_NO_ROOM;
    enum status status = plan_read(request, &plan);
    if (status != STATUS_OK)
        return status;
    *job = new_job(id, digest);
    status = *job == NULL ? STATUS_NO_ROOM : run_plan(*job, &plan);
    plan_free(&plan);
    if (status == STATUS_OK)
        job_feed(*job, request->value[FIELD_DATA], request->number[FIELD_END] != 0);
    return status;
}
