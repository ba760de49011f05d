#define _GNU_SOURCE
#include "folder_requests.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity.h"

enum { LIST_MOST = 1 << 20, DEPTH_MOST = 512 };

static char *text_of(struct span path, char text[PATH_LIMIT]) {
    memcpy(text, path.at, path.size);
    text[path.size] = 0;
    return text;
}

static int kind_of(mode_t mode) {
    return S_ISREG(mode) ? FILE_REGULAR : S_ISDIR(mode) ? FILE_FOLDER : S_ISLNK(mode) ? FILE_LINK : FILE_OTHER;
}

static void add_entry(struct writer *writer, int folder, const char *path, const char *name, const struct stat *found) {
    char target[PATH_LIMIT];
    entry_begin(writer);
    field_text(writer, FIELD_PATH, name);
    field_number(writer, FIELD_FILE_KIND, (uint64_t)kind_of(found->st_mode));
    field_number(writer, FIELD_MODE, found->st_mode & 07777);
    field_number(writer, FIELD_SIZE, (uint64_t)found->st_size);
    field_number(writer, FIELD_MTIME_NS,
                 (uint64_t)found->st_mtim.tv_sec * 1000000000 + (uint64_t)found->st_mtim.tv_nsec);
    field_number(writer, FIELD_OWNER_UID, found->st_uid);
    field_number(writer, FIELD_OWNER_GID, found->st_gid);
    field_number(writer, FIELD_INODE, found->st_ino);
    field_number(writer, FIELD_DEVICE, found->st_dev);
    ssize_t size = S_ISLNK(found->st_mode) ? readlinkat(folder, path, target, sizeof target) : 0;
    if (size > 0)
        field_bytes(writer, FIELD_TARGET, target, (size_t)size);
    entry_end(writer);
}

static void list_into(struct writer *writer, DIR *folder, uint64_t cursor) {
    struct stat found;
    if (cursor > 0)
        seekdir(folder, (long)cursor);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        const char *name = entry->d_name;
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
            continue;
        if (fstatat(dirfd(folder), name, &found, AT_SYMLINK_NOFOLLOW) == 0) /* else it went meanwhile */
            add_entry(writer, dirfd(folder), name, name, &found);
        if (frame_size(writer) >= LIST_MOST) {
            field_number(writer, FIELD_CURSOR, (uint64_t)telldir(folder));
            return;
        }
    }
}

void folder_list(struct address from, const struct request *request) {
    char path[PATH_LIMIT];
    struct reply reply;
    DIR *folder = NULL;
    int error = identity_take(identity_of(request));
    if (error == 0) {
        int fd = open(text_of(request->value[FIELD_PATH], path), O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
        folder = fd < 0 ? NULL : fdopendir(fd);
        error = folder == NULL ? errno : 0;
        if (folder == NULL && fd >= 0)
            close(fd);
    }
    if (folder != NULL) {
        reply_begin(&reply, from);
        list_into(&reply.writer, folder, request->number[FIELD_CURSOR]);
        frame_fields_end(&reply.writer);
        reply_end(&reply, STATUS_OK);
        closedir(folder);
    }
    identity_give_back();
    if (error != 0)
        reply_error(from, error);
}

void folder_stat(struct address from, const struct request *request) {
    char path[PATH_LIMIT];
    struct reply reply;
    struct stat found;
    int flags = request->number[FIELD_FOLLOW] ? 0 : AT_SYMLINK_NOFOLLOW;
    int error = identity_take(identity_of(request));
    if (error == 0 && fstatat(AT_FDCWD, text_of(request->value[FIELD_PATH], path), &found, flags) != 0)
        error = errno;
    if (error == 0) {
        reply_begin(&reply, from);
        add_entry(&reply.writer, AT_FDCWD, path, path, &found);
        frame_fields_end(&reply.writer);
        reply_end(&reply, STATUS_OK);
    }
    identity_give_back();
    if (error != 0)
        reply_error(from, error);
}

static int remove_at(int folder, const char *name, bool recursive, int depth);

static int empty_folder(int folder, const char *name, int depth) {
    int fd = openat(folder, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), error = 0;
    DIR *entries = fd < 0 ? NULL : fdopendir(fd);
    if (entries == NULL) {
        error = errno;
        if (fd >= 0)
            close(fd);
        return error;
    }
    for (struct dirent *entry; error == 0 && (entry = readdir(entries)) != NULL;)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            error = remove_at(fd, entry->d_name, true, depth + 1);
    closedir(entries);
    return error;
}

/* 0 where nothing is there afterwards. Links are removed, never followed. */
static int remove_at(int folder, const char *name, bool recursive, int depth) {
    if (unlinkat(folder, name, 0) == 0 || errno == ENOENT)
        return 0;
    if (errno != EISDIR && errno != EPERM)
        return errno;
    if (unlinkat(folder, name, AT_REMOVEDIR) == 0)
        return 0;
    if ((errno != ENOTEMPTY && errno != EEXIST) || !recursive)
        return errno;
    if (depth >= DEPTH_MOST)
        return ELOOP;
    int error = empty_folder(folder, name, depth);
    if (error == 0 && unlinkat(folder, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
        error = errno;
    return error;
}

void folder_remove(struct address from, const struct request *request) {
    char path[PATH_LIMIT];
    int error = identity_take(identity_of(request));
    if (error == 0) {
        text_of(request->value[FIELD_PATH], path);
        error = remove_at(AT_FDCWD, path, request->number[FIELD_RECURSIVE] != 0, 0);
    }
    identity_give_back();
    if (error == 0)
        reply_plain(from, STATUS_OK, NULL);
    else
        reply_error(from, error);
}
