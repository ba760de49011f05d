/* Small files in, files out, and the choice of who performs which request. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "folder_requests.h"
#include "identity.h"
#include "place.h"
#include "upload.h"

enum { GET_MOST = 2 << 20 };

static int put_entry(const struct request *entry, struct span *bulk) {
    struct place place;
    uint64_t size = entry->number[FIELD_SIZE];
    place_read(entry, &place);
    int error = place_make_parents(&place);
    if (error != 0)
        return error;
    switch (entry->number[FIELD_FILE_KIND]) {
    case FILE_REGULAR:
        error = place_open_file(&place);
        if (error == 0)
            error = place_write(&place, (struct span){bulk->at, size}, 0);
        if (error == 0)
            error = place_commit_file(&place);
        else
            place_drop(&place);
        bulk->at += size;
        bulk->size -= size;
        return error;
    case FILE_FOLDER:
        return place_folder(&place);
    default:
        return place_link(&place, entry->value[FIELD_TARGET]);
    }
}

static bool entry_is_right(struct span value, struct request *entry, size_t *content) {
    if (!request_read(KIND_ENTRY, value, entry))
        return false;
    uint64_t kind = entry->number[FIELD_FILE_KIND], size = entry->number[FIELD_SIZE];
    if (kind < FILE_REGULAR || kind > FILE_LINK || (kind == FILE_LINK) != entry->has[FIELD_TARGET] ||
        (kind != FILE_REGULAR && size > 0) || size > *content)
        return false;
    *content -= size;
    return true;
}

static void put(struct address from, const struct request *request, struct span bulk) {
    static struct request entry; /* large, and entries are taken one at a time */
    struct span rest = request->fields, value;
    size_t content = bulk.size, done = 0;
    uint8_t digest[DIGEST_SIZE];
    struct sha256 hash;
    while (request_each(&rest, FIELD_ENTRY, &value))
        if (!entry_is_right(value, &entry, &content)) {
            reply_plain(from, STATUS_MALFORMED, "an entry is not in order");
            return;
        }
    sha256_begin(&hash);
    sha256_add(&hash, bulk.at, bulk.size);
    sha256_end(&hash, digest);
    if (content != 0 || memcmp(digest, request->value[FIELD_DIGEST].at, DIGEST_SIZE) != 0) {
        reply_plain(from, STATUS_BAD_DIGEST, "what came is not what was announced");
        return;
    }
    int error = identity_take(identity_of(request));
    rest = request->fields;
    while (error == 0 && request_each(&rest, FIELD_ENTRY, &value)) {
        request_read(KIND_ENTRY, value, &entry);
        error = put_entry(&entry, &bulk);
        done += error == 0;
    }
    identity_give_back();
    struct reply reply;
    reply_begin(&reply, from);
    field_number(&reply.writer, FIELD_OFFSET, done);
    if (error != 0)
        field_number(&reply.writer, FIELD_ERRNO, (uint64_t)error);
    frame_fields_end(&reply.writer);
    reply_end(&reply, error == 0 ? STATUS_OK : STATUS_SYSTEM);
}

/* Open a regular file, without waiting for pipes or devices; -1 and an error number. */
static int open_regular(struct span path, struct stat *found) {
    char text[PATH_LIMIT];
    memcpy(text, path.at, path.size);
    text[path.size] = 0;
    int fd = open(text, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    if (fstat(fd, found) == 0 && S_ISREG(found->st_mode))
        return fd;
    close(fd);
    errno = S_ISDIR(found->st_mode) ? EISDIR : ENOENT;
    return -1;
}

/* Read into `to` from `offset` until `size` or the end; -1 and an error number. */
static ssize_t read_part(int fd, uint8_t *to, size_t size, uint64_t offset) {
    size_t done = 0;
    while (done < size) {
        ssize_t count = pread(fd, to + done, size - done, (off_t)(offset + done));
        if (count < 0 && errno == EINTR)
            continue;
        if (count < 0)
            return -1;
        if (count == 0)
            break;
        done += (size_t)count;
    }
    return (ssize_t)done;
}

static void digest_of(const uint8_t *data, size_t size, uint8_t *digest) {
    struct sha256 hash;
    sha256_begin(&hash);
    sha256_add(&hash, data, size);
    sha256_end(&hash, digest);
}

/* Read content behind the fields of a reply, and put its digest, if there is one, at `digest_at` bytes from the frame's
 * start. */
static int add_content(struct reply *reply, int fd, uint64_t offset, size_t size, size_t digest_at) {
    struct bytes *out = reply->writer.out;
    frame_fields_end(&reply->writer);
    if (reply->writer.failed || !bytes_reserve(out, size))
        return ENOMEM;
    uint8_t *to = out->at + out->size;
    ssize_t count = read_part(fd, to, size, offset);
    if (count < 0)
        return errno;
    out->size += (size_t)count;
    if (digest_at > 0)
        digest_of(to, (size_t)count, out->at + out->taken + reply->writer.start + digest_at);
    return 0;
}

static void answer_content(struct address from, const struct request *request, int fd, const struct stat *found) {
    struct reply reply;
    uint64_t offset = request->number[FIELD_OFFSET], size = request->number[FIELD_LENGTH];
    uint64_t left = offset < (uint64_t)found->st_size ? (uint64_t)found->st_size - offset : 0;
    if (found->st_size > 0 || offset > 0) /* files of /proc have content and no size */
        size = size < left ? size : left;
    size = size < GET_MOST ? size : GET_MOST;
    reply_begin(&reply, from);
    field_number(&reply.writer, FIELD_SIZE, (uint64_t)found->st_size);
    field_number(&reply.writer, FIELD_MODE, found->st_mode & 07777);
    field_number(&reply.writer, FIELD_MTIME_NS,
                 (uint64_t)found->st_mtim.tv_sec * 1000000000 + (uint64_t)found->st_mtim.tv_nsec);
    field_number(&reply.writer, FIELD_INODE, found->st_ino);
    field_number(&reply.writer, FIELD_DEVICE, found->st_dev);
    size_t digest_at = 0;
    if (request->number[FIELD_UNHASHED] == 0) {
        field_space(&reply.writer, FIELD_DIGEST, DIGEST_SIZE);
        digest_at = frame_size(&reply.writer) - DIGEST_SIZE;
    }
    int error = add_content(&reply, fd, offset, size, digest_at);
    if (error == 0) {
        reply_end(&reply, STATUS_OK);
        return;
    }
    frame_drop(&reply.writer);
    reply_error(from, error);
}

static void get(struct address from, const struct request *request) {
    struct stat found = {0};
    int error = identity_take(identity_of(request)), fd = -1;
    if (error == 0 && (fd = open_regular(request->value[FIELD_PATH], &found)) < 0)
        error = errno;
    identity_give_back();
    if (error != 0) {
        reply_error(from, error);
        return;
    }
    answer_content(from, request, fd, &found);
    close(fd);
}

/* Add the entry of one file, and its content to `contents` where there is room. */
static void fetch_one(struct writer *writer, struct span path, struct bytes *contents, uint64_t most) {
    struct stat found = {0};
    int fd = open_regular(path, &found), error = fd < 0 ? errno : 0;
    bool fits = error == 0 && contents->size + (uint64_t)found.st_size <= most;
    if (fits && !bytes_reserve(contents, (size_t)found.st_size))
        error = ENOMEM;
    ssize_t count = fits && error == 0 ? read_part(fd, contents->at + contents->size, (size_t)found.st_size, 0) : 0;
    if (count < 0)
        error = errno;
    else
        contents->size += (size_t)count;
    if (fd >= 0)
        close(fd);
    entry_begin(writer);
    if (error != 0) {
        field_number(writer, FIELD_ERRNO, (uint64_t)error);
    } else {
        field_number(writer, FIELD_SIZE, fits ? (uint64_t)count : (uint64_t)found.st_size);
        field_number(writer, FIELD_MODE, found.st_mode & 07777);
        field_number(writer, FIELD_END, fits);
    }
    entry_end(writer);
}

static void fetch(struct address from, const struct request *request) {
    struct reply reply;
    struct bytes contents = {0};
    struct span rest = request->fields, path;
    uint64_t most = request->number[FIELD_LENGTH] < GET_MOST ? request->number[FIELD_LENGTH] : GET_MOST;
    int error = identity_take(identity_of(request));
    if (error != 0) {
        reply_error(from, error);
        return;
    }
    reply_begin(&reply, from);
    while (frame_size(&reply.writer) < GET_MOST / 2 && request_each(&rest, FIELD_PATH, &path))
        fetch_one(&reply.writer, path, &contents, most);
    identity_give_back();
    uint8_t *digest = field_space(&reply.writer, FIELD_DIGEST, DIGEST_SIZE);
    if (digest != NULL)
        digest_of(contents.at, contents.size, digest);
    frame_fields_end(&reply.writer);
    reply.writer.failed |= !bytes_add(reply.writer.out, contents.at, contents.size);
    bytes_free(&contents);
    reply_end(&reply, STATUS_OK);
}

void file_request(struct address from, const struct request *request, struct span bulk) {
    switch (from.kind) {
    case KIND_PUT:
        put(from, request, bulk);
        break;
    case KIND_UPLOAD:
        upload_open(from, request);
        break;
    case KIND_DATA:
        upload_data(from, request, bulk);
        break;
    case KIND_COMMIT:
        upload_commit(from, request);
        break;
    case KIND_GET:
        get(from, request);
        break;
    case KIND_FETCH:
        fetch(from, request);
        break;
    case KIND_LIST:
        folder_list(from, request);
        break;
    case KIND_STAT:
        folder_stat(from, request);
        break;
    default:
        folder_remove(from, request);
        break;
    }
}
