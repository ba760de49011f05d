/* Putting things at a path so that who looks sees the old or the new, never a part. */
#ifndef PLACE_H
#define PLACE_H

#include <sys/types.h>

#include "request.h"

struct place {
    char path[PATH_LIMIT], temporary[PATH_LIMIT + 32];
    int fd; /* the temporary file; -1: none */
    mode_t mode;
    bool has_owner;
    uid_t owner;
    gid_t group;
};

/* Take path, mode and owner from a request or an entry. */
void place_read(const struct request *request, struct place *place);
/* Each returns 0 or an error number, and leaves nothing behind where it fails. */
int place_make_parents(const struct place *place);
int place_open_file(struct place *place);
int place_write(const struct place *place, struct span data, uint64_t offset);
int place_commit_file(struct place *place);
int place_folder(const struct place *place);
int place_link(struct place *place, struct span target);
/* Remove the temporary file. */
void place_drop(struct place *place);

#endif
