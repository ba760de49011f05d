/* What a START asks for, as the child that becomes the program needs it. No I/O, no clock. */
#ifndef PLAN_H
#define PLAN_H

#include <sys/types.h>

#include "request.h"

enum { DESCRIPTOR_COUNT = 10, LIMIT_COUNT = 16, GROUP_COUNT = 64, STREAM_KEPT = 1 << 20, STREAM_MOST = 64 << 20 };

struct plan {
    char **arguments, **variables; /* each ends with NULL */
    const char *folder, *path;     /* path: the job's PATH */
    void *block;                   /* owns all of the above; seen by forked children, as pages_take's is not */
    bool has_identity, no_new_privileges, leftovers_end;
    uid_t uid;
    gid_t gid;
    gid_t groups[GROUP_COUNT];
    size_t group_count;
    struct {
        uint64_t resource, bound;
    } limits[LIMIT_COUNT];
    size_t limit_count;
    struct {
        bool wanted, keep_tail;
        size_t kept;
    } streams[DESCRIPTOR_COUNT];
    uint64_t timeout_ms; /* 0: none */
    uint64_t memory_bytes;
};

/* STATUS_OK, STATUS_MALFORMED or STATUS_NO_ROOM; to be freed only after STATUS_OK. */
enum status plan_read(const struct request *request, struct plan *plan);
void plan_free(struct plan *plan);

#endif
