#include "plan.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

/* Copy the texts with one tag behind each other, each ended by NUL, and point at them. */
static char *copy_texts(const struct request *request, uint8_t tag, char **pointers, char *to) {
    struct span rest = request->fields, value;
    while (request_each(&rest, tag, &value)) {
        *pointers++ = to;
        memcpy(to, value.at, value.size);
        to += value.size;
        *to++ = 0;
    }
    *pointers = NULL;
    return to;
}

static bool copy_block(const struct request *request, struct plan *plan) {
    size_t arguments = request->count[FIELD_ARGUMENT], variables = request->count[FIELD_VARIABLE];
    struct span folder = request->value[FIELD_FOLDER];
    /* Each text takes its size and a NUL, and its field's header had more than that. */
    plan->block = malloc((arguments + variables + 2) * sizeof(char *) + request->fields.size + 2);
    if (plan->block == NULL)
        return false;
    plan->arguments = plan->block;
    plan->variables = plan->arguments + arguments + 1;
    char *to = (char *)(plan->variables + variables + 1);
    to = copy_texts(request, FIELD_ARGUMENT, plan->arguments, to);
    to = copy_texts(request, FIELD_VARIABLE, plan->variables, to);
    plan->folder = folder.size > 0 ? to : "/";
    if (folder.size > 0) {
        memcpy(to, folder.at, folder.size);
        to[folder.size] = 0;
    }
    plan->path = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    for (char **variable = plan->variables; *variable != NULL; variable++)
        if (strncmp(*variable, "PATH=", 5) == 0)
            plan->path = *variable + 5;
    return true;
}

static bool read_limits(const struct request *request, struct plan *plan) {
    struct span rest = request->fields, value;
    while (request_each(&rest, FIELD_LIMIT, &value)) {
        if (plan->limit_count == LIMIT_COUNT)
            return false;
        plan->limits[plan->limit_count].resource = read_number(value.at, 8);
        plan->limits[plan->limit_count].bound = read_number(value.at + 8, 8);
        if (plan->limits[plan->limit_count++].resource >= RLIM_NLIMITS)
            return false;
    }
    return true;
}

static bool read_streams(const struct request *request, struct plan *plan) {
    struct span rest = request->fields, value;
    for (int descriptor = 1; descriptor <= 2; descriptor++) {
        plan->streams[descriptor].wanted = plan->streams[descriptor].keep_tail = true;
        plan->streams[descriptor].kept = STREAM_KEPT;
    }
    while (request_each(&rest, FIELD_STREAM, &value)) {
        uint64_t descriptor = read_number(value.at, 8), kept = read_number(value.at + 8, 8);
        uint64_t keep = read_number(value.at + 16, 8);
        if (descriptor < 1 || descriptor >= DESCRIPTOR_COUNT || kept > STREAM_MOST || keep > KEEP_HEAD)
            return false;
        plan->streams[descriptor].wanted = true;
        plan->streams[descriptor].keep_tail = keep == KEEP_HEAD_AND_TAIL;
        plan->streams[descriptor].kept = kept;
    }
    return true;
}

static bool read_groups(const struct request *request, struct plan *plan) {
    struct span rest = request->fields, value;
    while (request_each(&rest, FIELD_GROUP, &value)) {
        if (plan->group_count == GROUP_COUNT || !request->has[FIELD_UID])
            return false;
        plan->groups[plan->group_count++] = (gid_t)read_number(value.at, 8);
    }
    return true;
}

enum status plan_read(const struct request *request, struct plan *plan) {
    *plan = (struct plan){
        .has_identity = request->has[FIELD_UID],
        .uid = (uid_t)request->number[FIELD_UID],
        .gid = (gid_t)request->number[FIELD_GID],
        .no_new_privileges = request->number[FIELD_NO_NEW_PRIVILEGES] != 0,
        .leftovers_end = request->number[FIELD_LEFTOVERS] == LEFTOVERS_END,
        .timeout_ms = request->number[FIELD_TIMEOUT_MS],
        .memory_bytes = request->number[FIELD_MEMORY_BYTES],
    };
    struct span first = request->value[FIELD_ARGUMENT];
    if (request->count[FIELD_ARGUMENT] == 0 || first.size == 0)
        return STATUS_MALFORMED;
    if (!read_limits(request, plan) || !read_streams(request, plan) || !read_groups(request, plan))
        return STATUS_MALFORMED;
    return copy_block(request, plan) ? STATUS_OK : STATUS_NO_ROOM;
}

void plan_free(struct plan *plan) {
    free(plan->block);
    plan->block = NULL;
}
