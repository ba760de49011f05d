#define _GNU_SOURCE
#include "place.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h> /* rename, nothing else of it */
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "text.h"

void place_read(const struct request *request, struct place *place) {
    struct span path = request->value[FIELD_PATH];
    *place = (struct place){.fd = -1};
    memcpy(place->path, path.at, path.size); /* request_read has seen to its size */
    place->path[path.size] = 0;
    place->mode = request->has[FIELD_MODE] ? (mode_t)request->number[FIELD_MODE] : 0644;
    place->has_owner = request->has[FIELD_OWNER_UID] || request->has[FIELD_OWNER_GID];
    place->owner = request->has[FIELD_OWNER_UID] ? (uid_t)request->number[FIELD_OWNER_UID] : (uid_t)-1;
    place->group = request->has[FIELD_OWNER_GID] ? (gid_t)request->number[FIELD_OWNER_GID] : (gid_t)-1;
}

/* Make every folder of the path before `last`. */
static int make_folders(const char *path, size_t last) {
    char folder[PATH_LIMIT];
    memcpy(folder, path, last);
    folder[last] = 0;
    struct stat found;
    if (last == 0 || stat(folder, &found) == 0)
        return 0;
    for (size_t i = 1; i <= last; i++) {
        if (folder[i] != '/' && folder[i] != 0)
            continue;
        char end = folder[i];
        folder[i] = 0;
        /* EROFS and EACCES may stand for folders that are there: the next step tells. */
        if (mkdir(folder, 0755) != 0 && errno != EEXIST && stat(folder, &found) != 0)
            return errno;
        folder[i] = end;
    }
    return 0;
}

static size_t folder_size(const char *path) {
    return (size_t)(strrchr(path, '/') - path);
}

int place_make_parents(const struct place *place) {
    return make_folders(place->path, folder_size(place->path));
}

static int name_temporary(struct place *place) {
    uint8_t random[8];
    size_t size = folder_size(place->path);
    if (getrandom(random, sizeof random, 0) != sizeof random)
        return EIO;
    memcpy(place->temporary, place->path, size);
    memcpy(place->temporary + size, "/.envfarm-", 10);
    text_hex(place->temporary + size + 10, random, sizeof random);
    return 0;
}

int place_open_file(struct place *place) {
    int error = name_temporary(place);
    if (error != 0)
        return error;
    place->fd = open(place->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (place->fd < 0) {
        error = errno;
        place->temporary[0] = 0;
    }
    return error;
}

int place_write(const struct place *place, struct span data, uint64_t offset) {
    while (data.size > 0) {
        ssize_t count = pwrite(place->fd, data.at, data.size, (off_t)offset);
        if (count < 0 && errno == EINTR)
            continue;
        if (count <= 0)
            return count < 0 ? errno : ENOSPC;
        data.at += count;
        data.size -= (size_t)count;
        offset += (uint64_t)count;
    }
    return 0;
}

void place_drop(struct place *place) {
    if (place->fd >= 0)
        close(place->fd);
    if (place->temporary[0] != 0)
        unlink(place->temporary);
    place->fd = -1;
    place->temporary[0] = 0;
}

int place_commit_file(struct place *place) {
    int error = 0;
    /* The owner first: a change of owner takes away set-user-id bits. */
    if (place->has_owner && fchown(place->fd, place->owner, place->group) != 0)
        error = errno;
    else if (fchmod(place->fd, place->mode) != 0 || rename(place->temporary, place->path) != 0)
        error = errno;
    else
        place->temporary[0] = 0;
    place_drop(place);
    return error;
}

int place_folder(const struct place *place) {
    struct stat found;
    if (mkdir(place->path, 0700) != 0) {
        if (errno != EEXIST)
            return errno;
        if (lstat(place->path, &found) != 0 || !S_ISDIR(found.st_mode))
            return ENOTDIR;
    }
    int fd = open(place->path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return errno;
    int error = 0;
    if ((place->has_owner && fchown(fd, place->owner, place->group) != 0) || fchmod(fd, place->mode) != 0)
        error = errno;
    close(fd);
    return error;
}

int place_link(struct place *place, struct span target) {
    char text[PATH_LIMIT];
    int error = name_temporary(place);
    if (error != 0)
        return error;
    memcpy(text, target.at, target.size);
    text[target.size] = 0;
    if (symlink(text, place->temporary) != 0) {
        place->temporary[0] = 0;
        return errno;
    }
    if ((place->has_owner && lchown(place->temporary, place->owner, place->group) != 0) ||
        rename(place->temporary, place->path) != 0)
        error = errno;
    else
        place->temporary[0] = 0;
    place_drop(place);
    return error;
}
