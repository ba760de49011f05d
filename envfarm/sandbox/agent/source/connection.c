#define _GNU_SOURCE
#include "connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "agent.h"
#include "job.h"

enum { CONNECTIONS_MOST = 16, STRANGER_MS = 10000, READ_SIZE = 1 << 18, OUTPUT_MOST = 8 << 20 };

static struct connection *connections;

static bool is_full(const struct connection *connection) {
    return bytes_left(&connection->output).size >= OUTPUT_MOST;
}

size_t connection_room(const struct connection *connection) {
    size_t held = bytes_left(&connection->output).size;
    return held < OUTPUT_MOST ? OUTPUT_MOST - held : 0;
}

void reply_begin(struct reply *reply, struct address to) {
    reply->connection = to.connection;
    frame_begin(&reply->writer, &to.connection->output, to.kind | KIND_REPLY, to.request);
}

bool reply_end(struct reply *reply, enum status status) {
    session_send(&reply->connection->session, &reply->writer, status);
    if (reply->writer.failed) {
        frame_drop(&reply->writer);
        reply->connection->closing = true;
    }
    return !reply->writer.failed;
}

void reply_plain(struct address to, enum status status, const char *message) {
    struct reply reply;
    reply_begin(&reply, to);
    if (message != NULL)
        field_text(&reply.writer, FIELD_MESSAGE, message);
    frame_fields_end(&reply.writer);
    reply_end(&reply, status);
}

void reply_error(struct address to, int error) {
    struct reply reply;
    reply_begin(&reply, to);
    field_number(&reply.writer, FIELD_ERRNO, (uint64_t)error);
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_SYSTEM);
}

static void greet(struct connection *connection) {
    struct writer writer;
    frame_begin(&writer, &connection->output, KIND_HELLO, 0);
    field_number(&writer, FIELD_VERSION, PROTOCOL_VERSION);
    field_bytes(&writer, FIELD_NONCE, connection->session.nonce, NONCE_SIZE);
    field_bytes(&writer, FIELD_INSTANCE, agent.instance, NONCE_SIZE);
    field_number(&writer, FIELD_FRAME_LIMIT, FRAME_LIMIT);
    field_text(&writer, FIELD_IMPLEMENTATION, "c");
    field_number(&writer, FIELD_FACTS, agent.facts);
    frame_fields_end(&writer);
    session_send(&connection->session, &writer, STATUS_OK);
    connection->dead |= writer.failed;
}

/* Answer once more, and close. */
static void refuse(struct connection *connection, const struct frame *frame, uint16_t status) {
    struct reply reply;
    reply_begin(&reply, (struct address){connection, frame->request, frame->kind});
    if (status == STATUS_HELD && agent.claim.made)
        field_bytes(&reply.writer, FIELD_CLAIM, agent.claim.id, agent.claim.id_size);
    else
        field_text(&reply.writer, FIELD_MESSAGE, "refused: the connection is closed");
    frame_fields_end(&reply.writer);
    reply_end(&reply, status);
    connection->closing = true;
}

static void supersede_others(const struct connection *joined) {
    for (struct connection *other = connections; other != NULL; other = other->next)
        if (other != joined && other->session.trusted)
            other->dead = true;
}

static void take_frame(struct connection *connection, const struct frame *frame) {
    uint16_t status;
    struct address from = {connection, frame->request, frame->kind};
    switch (session_judge(&connection->session, &agent.claim, frame, now_ms(), &status)) {
    case VERDICT_PASS:
        dispatch(from, frame);
        break;
    case VERDICT_JOINED:
        supersede_others(connection);
        reply_plain(from, STATUS_OK, NULL);
        break;
    case VERDICT_REFUSE:
        refuse(connection, frame, status);
        break;
    }
}

/* Take the whole frames that have come; stops where the peer should read first. */
static void take_frames(struct connection *connection) {
    while (!connection->closing && !connection->dead && !is_full(connection)) {
        struct frame frame;
        size_t size = 0, limit = connection->session.trusted ? FRAME_LIMIT : STRANGER_FRAME_LIMIT;
        enum parsed parsed = frame_read(bytes_left(&connection->input), limit, &frame, &size);
        if (parsed == PARSED_PARTLY)
            return;
        if (parsed != PARSED_FRAME) {
            refuse(connection, &frame, parsed == PARSED_MALFORMED ? STATUS_MALFORMED : STATUS_TOO_LARGE);
            return;
        }
        take_frame(connection, &frame);
        bytes_take(&connection->input, size);
    }
}

/* What a large frame still lacks, so that its buffer grows once; else a usual amount. */
static size_t wanted(const struct connection *connection) {
    struct span held = bytes_left(&connection->input);
    size_t whole = held.size >= 4 && connection->session.trusted ? read_number(held.at, 4) : 0;
    return whole <= FRAME_LIMIT && whole > held.size + READ_SIZE ? whole - held.size : READ_SIZE;
}

static void on_readable(struct watch *watch, uint32_t events) {
    struct connection *connection = watch->owner;
    size_t size = wanted(connection);
    (void)events;
    if (!bytes_reserve(&connection->input, size)) {
        connection->dead = true;
        return;
    }
    ssize_t count = read(watch->fd, connection->input.at + connection->input.size, size);
    if (count > 0) {
        connection->input.size += (size_t)count;
        take_frames(connection);
    } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
        connection->dead = true;
    }
}

static void send_output(struct connection *connection) {
    for (;;) {
        struct span left = bytes_left(&connection->output);
        if (left.size == 0)
            return;
        ssize_t count = write(connection->out.fd, left.at, left.size);
        if (count < 0) {
            connection->dead |= errno != EAGAIN && errno != EINTR;
            return;
        }
        bytes_take(&connection->output, (size_t)count);
    }
}

static void on_writable(struct watch *watch, uint32_t events) {
    (void)events;
    send_output(watch->owner);
}

static void close_one(struct connection **place) {
    struct connection *connection = *place;
    *place = connection->next;
    if (connection->lasting)
        agent_end(EXIT_CUT);
    if (agent.end_at.connection == connection)
        agent.answers_end = false;
    jobs_forget_connection(connection);
    watch_close(&connection->in);
    watch_close(&connection->out);
    bytes_free(&connection->input);
    bytes_free(&connection->output);
    free(connection);
}

static void tend_one(struct connection *connection) {
    if (!connection->dead && !is_full(connection))
        take_frames(connection);
    send_output(connection);
    bool pending = bytes_left(&connection->output).size > 0;
    bool strange = !connection->session.trusted && !connection->lasting;
    if ((connection->closing && !pending) || (strange && now_ms() >= connection->since_ms + STRANGER_MS))
        connection->dead = true;
    if (connection->dead)
        return;
    bool reads = !connection->closing && !is_full(connection);
    if (!watch_for(&connection->in, reads ? EPOLLIN : 0) || !watch_for(&connection->out, pending ? EPOLLOUT : 0))
        connection->dead = true;
}

uint64_t connections_tend(void) {
    uint64_t next = UINT64_MAX;
    for (struct connection *connection = connections; connection != NULL; connection = connection->next)
        tend_one(connection);
    for (struct connection **place = &connections; *place != NULL;) {
        struct connection *connection = *place;
        if (connection->dead) {
            close_one(place);
            continue;
        }
        if (!connection->session.trusted && !connection->lasting && connection->since_ms + STRANGER_MS < next)
            next = connection->since_ms + STRANGER_MS;
        place = &connection->next;
    }
    return next;
}

void connections_drain(uint64_t patience_ms) {
    uint64_t deadline = now_ms() + patience_ms;
    for (bool pending = true; pending && now_ms() < deadline;) {
        pending = false;
        connections_tend();
        for (struct connection *connection = connections; connection != NULL; connection = connection->next)
            pending |= bytes_left(&connection->output).size > 0;
        if (pending)
            loop_turn(deadline);
    }
}

/* Who never joined makes room for who comes. */
static void make_room(void) {
    int count = 0;
    struct connection *oldest = NULL;
    for (struct connection *connection = connections; connection != NULL; connection = connection->next) {
        count += !connection->dead;
        if (!connection->dead && !connection->lasting && !connection->session.trusted)
            oldest = connection; /* new ones come first in the list */
    }
    if (count >= CONNECTIONS_MOST && oldest != NULL)
        oldest->dead = true;
}

void connection_open(int in, int out, bool lasting) {
    struct connection *connection = calloc(1, sizeof *connection);
    make_room();
    if (connection == NULL || getrandom(connection->session.nonce, NONCE_SIZE, 0) != NONCE_SIZE) {
        free(connection);
        close(in);
        close(out);
        return;
    }
    connection->in = (struct watch){.fd = in, .act = on_readable, .owner = connection};
    connection->out = (struct watch){.fd = out, .act = on_writable, .owner = connection};
    connection->since_ms = now_ms();
    connection->lasting = lasting;
    connection->next = connections;
    connections = connection;
    greet(connection);
}
