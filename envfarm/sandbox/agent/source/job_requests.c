/* What is asked of jobs, and how it is answered. */
#include <errno.h>
#include <signal.h>
#include <string.h>

#include "job.h"

enum { INLINE_MOST = 1 << 20, READ_MOST = 1 << 20, INPUT_HELD_MOST = 1 << 20 };

static void add_output(struct writer *writer, const struct job *job, int descriptor, bool with_data) {
    const struct stream *stream = &job->streams[descriptor];
    const struct output *output = &stream->output;
    uint64_t kept = output->total - output_dropped(output), offset = 0;
    uint8_t *at = field_space(writer, FIELD_OUTPUT, 32 + (with_data ? kept : 0));
    if (at == NULL)
        return;
    write_number(at, (uint64_t)descriptor, 8);
    write_number(at + 8, output->total, 8);
    write_number(at + 16, output_dropped(output), 8);
    write_number(at + 24, (stream->watch.fd < 0 ? OUTPUT_ENDED : 0) | (with_data ? OUTPUT_INLINE : 0), 8);
    at += 32;
    for (struct span part; with_data && (part = output_peek(output, &offset)).size > 0;) {
        memcpy(at, part.at, part.size);
        at += part.size;
        offset += part.size;
    }
}

static void add_end(struct writer *writer, const struct job *job) {
    const struct minder_report *report = &job->report;
    if (report->stage != STAGE_NONE) {
        field_number(writer, FIELD_STAGE, (uint64_t)report->stage);
        field_number(writer, FIELD_ERRNO, (uint64_t)report->error);
    } else if (report->signal != 0) {
        field_number(writer, FIELD_SIGNAL, (uint64_t)report->signal);
    } else {
        field_number(writer, FIELD_CODE, (uint64_t)report->code);
    }
    field_number(writer, FIELD_CPU_US, report->cpu_us);
    field_number(writer, FIELD_PEAK_BYTES, report->peak_bytes);
    field_number(writer, FIELD_WALL_US, report->wall_us);
    field_number(writer, FIELD_FLAGS, report->flags);
}

static void answer_state(const struct job *job, const struct wait *wait) {
    struct reply reply;
    uint64_t kept = 0, room = wait->inline_bytes < INLINE_MOST ? wait->inline_bytes : INLINE_MOST;
    reply_begin(&reply, wait->to);
    field_number(&reply.writer, FIELD_STATE, job->ended ? STATE_ENDED : STATE_RUNNING);
    if (job->ended) {
        add_end(&reply.writer, job);
        for (int i = 0; i < DESCRIPTOR_COUNT; i++)
            kept += job->streams[i].output.total - output_dropped(&job->streams[i].output);
        if (connection_room(wait->to.connection) < room)
            room = 0;
        for (int i = 0; i < DESCRIPTOR_COUNT; i++)
            if (job->streams[i].wanted)
                add_output(&reply.writer, job, i, kept <= room);
    }
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_OK);
}

static void answer_read(const struct job *job, const struct wait *wait) {
    const struct stream *stream = &job->streams[wait->descriptor];
    struct reply reply;
    uint64_t offset = wait->offset, room = wait->length < READ_MOST ? wait->length : READ_MOST;
    struct span part = output_peek(&stream->output, &offset);
    if (part.size > room)
        part.size = room;
    reply_begin(&reply, wait->to);
    field_number(&reply.writer, FIELD_OFFSET, offset);
    field_bytes(&reply.writer, FIELD_DATA, part.at, part.size);
    field_number(&reply.writer, FIELD_SIZE, stream->output.total);
    bool at_end = offset + part.size >= stream->output.total;
    field_number(&reply.writer, FIELD_END, at_end && (job->ended || stream->watch.fd < 0));
    field_number(&reply.writer, FIELD_DROPPED, output_dropped(&stream->output));
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_OK);
}

static void answer_input(const struct job *job, const struct wait *wait) {
    struct reply reply;
    reply_begin(&reply, wait->to);
    field_number(&reply.writer, FIELD_OFFSET, job->input_taken);
    field_number(&reply.writer, FIELD_END, job->input.fd < 0);
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_OK);
}

bool wait_answer(struct job *job, struct wait *wait, bool time_is_up) {
    const struct stream *stream = &job->streams[wait->descriptor];
    if (wait->to.kind == KIND_STDIN) {
        if (!job_input_drained(job))
            return false;
        answer_input(job, wait);
    } else if (wait->to.kind == KIND_READ) {
        if (stream->output.total <= wait->offset && !job->ended && stream->watch.fd >= 0 && !time_is_up)
            return false;
        answer_read(job, wait);
    } else {
        if (!job->ended && !time_is_up)
            return false;
        answer_state(job, wait);
    }
    return true;
}

static void wait_for(struct job *job, struct address from, const struct request *request) {
    struct wait wait = {
        .to = from,
        .deadline_ms = from.kind == KIND_STDIN ? UINT64_MAX : now_ms() + request->number[FIELD_WAIT_MS],
        .offset = request->number[FIELD_OFFSET],
        .length = request->number[FIELD_LENGTH],
        .inline_bytes = request->number[FIELD_INLINE_BYTES],
        .descriptor = (int)request->number[FIELD_DESCRIPTOR],
    };
    if (request->number[FIELD_WAIT_MS] == 0 && from.kind != KIND_STDIN)
        wait.deadline_ms = 0;
    if (!job_wait(job, wait))
        reply_plain(from, STATUS_NO_ROOM, "too many wait for this job");
}

static void start(struct address from, const struct request *request) {
    struct job *job;
    if (agent.ending) {
        reply_plain(from, STATUS_ENDING, "the agent is ending");
        return;
    }
    enum status status = job_start(request, &job);
    if (status == STATUS_OK)
        wait_for(job, from, request);
    else if (status == STATUS_SYSTEM)
        reply_error(from, errno);
    else
        reply_plain(from, status, "the job cannot be started");
}

static void feed(struct address from, const struct request *request, struct job *job) {
    struct span data = request->value[FIELD_DATA];
    uint64_t offset = request->number[FIELD_OFFSET];
    if (offset > job->input_taken) {
        reply_plain(from, STATUS_CONFLICT, "input is missing before this offset");
        return;
    }
    uint64_t known = job->input_taken - offset;
    if (known > data.size)
        known = data.size;
    data.at += known;
    data.size -= known;
    if (data.size > 0 && bytes_left(&job->input_left).size >= INPUT_HELD_MOST) {
        reply_plain(from, STATUS_NO_ROOM, "earlier input is not taken yet");
        return;
    }
    job_feed(job, data, request->number[FIELD_END] != 0);
    wait_for(job, from, request);
}

static void signal_job(struct address from, const struct request *request, struct job *job) {
    if (request->number[FIELD_SERIAL] > job->signal_serial) {
        job->signal_serial = request->number[FIELD_SERIAL];
        job_order(job, (int)request->number[FIELD_SIGNAL], request->number[FIELD_TREE] != 0);
    }
    reply_plain(from, STATUS_OK, NULL);
}

static void forget(struct address from, const struct request *request) {
    struct span rest = request->fields, id;
    while (request_each(&rest, FIELD_JOB, &id)) {
        struct job *job = job_find(id);
        if (job != NULL)
            job_forget(job);
    }
    reply_plain(from, STATUS_OK, NULL);
}

static void add_job(struct job *job, void *with) {
    struct writer *writer = with;
    entry_begin(writer);
    field_bytes(writer, FIELD_JOB, job->id, job->id_size);
    field_number(writer, FIELD_STATE, job->ended ? STATE_ENDED : STATE_RUNNING);
    entry_end(writer);
}

static void list_jobs(struct address from) {
    struct reply reply;
    reply_begin(&reply, from);
    jobs_each(add_job, &reply.writer);
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_OK);
}

void job_request(struct address from, const struct request *request) {
    if (from.kind == KIND_START) {
        start(from, request);
        return;
    }
    if (from.kind == KIND_FORGET) {
        forget(from, request);
        return;
    }
    if (from.kind == KIND_JOBS) {
        list_jobs(from);
        return;
    }
    struct job *job = job_find(request->value[FIELD_JOB]);
    if (job == NULL)
        reply_plain(from, STATUS_NO_SUCH_JOB, "there is no such job");
    else if (from.kind == KIND_STDIN)
        feed(from, request, job);
    else if (from.kind == KIND_SIGNAL)
        signal_job(from, request, job);
    else if (from.kind == KIND_READ && !job->streams[request->number[FIELD_DESCRIPTOR]].wanted)
        reply_plain(from, STATUS_MALFORMED, "the job has no such stream");
    else
        wait_for(job, from, request);
}
