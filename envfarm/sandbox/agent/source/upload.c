#include "upload.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "identity.h"
#include "place.h"

enum { UPLOADS_MOST = 64 };

struct upload {
    uint8_t id[ID_LIMIT];
    size_t id_size;
    struct place place;
    struct identity identity; /* whose file it is, to the end */
    uint64_t offset, size, turn;
    struct sha256 hash;
    bool unhashed; /* the client vouches for the way that the content takes */
    bool committed; /* kept, so that a COMMIT that is sent again finds it */
};

static struct upload *uploads[UPLOADS_MOST];
static uint64_t turns;

static struct upload *find(struct span id) {
    for (int i = 0; i < UPLOADS_MOST; i++)
        if (uploads[i] != NULL && uploads[i]->id_size == id.size && memcmp(uploads[i]->id, id.at, id.size) == 0)
            return uploads[i];
    return NULL;
}

/* A free place, or that of the oldest that is committed. */
static struct upload **find_room(void) {
    struct upload **oldest = NULL;
    for (int i = 0; i < UPLOADS_MOST; i++) {
        if (uploads[i] == NULL)
            return &uploads[i];
        if (uploads[i]->committed && (oldest == NULL || uploads[i]->turn < (*oldest)->turn))
            oldest = &uploads[i];
    }
    return oldest;
}

static void drop(struct upload *upload) {
    for (int i = 0; i < UPLOADS_MOST; i++)
        if (uploads[i] == upload)
            uploads[i] = NULL;
    if (identity_take(upload->identity) == 0)
        place_drop(&upload->place);
    identity_give_back();
    free(upload);
}

static bool is_same(const struct upload *upload, const struct request *request) {
    struct span path = request->value[FIELD_PATH];
    return upload->size == request->number[FIELD_SIZE] && strlen(upload->place.path) == path.size &&
           memcmp(upload->place.path, path.at, path.size) == 0;
}

static void answer_offset(struct address from, const struct upload *upload) {
    struct reply reply;
    reply_begin(&reply, from);
    field_number(&reply.writer, FIELD_OFFSET, upload->offset);
    frame_fields_end(&reply.writer);
    reply_end(&reply, STATUS_OK);
}

void upload_open(struct address from, const struct request *request) {
    struct span id = request->value[FIELD_UPLOAD];
    struct upload *upload = find(id), **room = find_room();
    if (upload != NULL) {
        if (is_same(upload, request))
            answer_offset(from, upload);
        else
            reply_plain(from, STATUS_CONFLICT, "this upload has another path or size");
        return;
    }
    upload = room == NULL ? NULL : calloc(1, sizeof *upload);
    if (upload == NULL) {
        reply_plain(from, STATUS_NO_ROOM, "too many uploads");
        return;
    }
    memcpy(upload->id, id.at, id.size);
    upload->id_size = id.size;
    upload->size = request->number[FIELD_SIZE];
    upload->turn = turns++;
    upload->unhashed = request->number[FIELD_UNHASHED] != 0;
    sha256_begin(&upload->hash);
    place_read(request, &upload->place);
    upload->identity = identity_of(request);
    int error = identity_take(upload->identity);
    if (error == 0) {
        error = place_make_parents(&upload->place);
        if (error == 0)
            error = place_open_file(&upload->place);
        identity_give_back();
    }
    if (error != 0) {
        free(upload);
        reply_error(from, error);
        return;
    }
    free(*room);
    *room = upload;
    answer_offset(from, upload);
}

void upload_data(struct address from, const struct request *request, struct span bulk) {
    struct upload *upload = find(request->value[FIELD_UPLOAD]);
    uint64_t offset = request->number[FIELD_OFFSET];
    if (upload == NULL) {
        reply_plain(from, STATUS_NO_SUCH_UPLOAD, "there is no such upload");
        return;
    }
    if (offset > upload->offset || upload->size - upload->offset + (upload->offset - offset) < bulk.size) {
        reply_plain(from, STATUS_CONFLICT, "content is missing before this offset, or more than its size");
        return;
    }
    uint64_t known = upload->offset - offset;
    if (known < bulk.size && !upload->committed) {
        struct span more = {bulk.at + known, bulk.size - known};
        int error = place_write(&upload->place, more, upload->offset);
        if (error != 0) {
            drop(upload);
            reply_error(from, error);
            return;
        }
        if (!upload->unhashed)
            sha256_add(&upload->hash, more.at, more.size);
        upload->offset += more.size;
    }
    answer_offset(from, upload);
}

/* Whether all came, and is what was announced; with an unhashed upload, any digest gives it up. */
static bool is_right(struct upload *upload, const struct request *request) {
    uint8_t digest[DIGEST_SIZE];
    if (upload->offset != upload->size || upload->unhashed == request->has[FIELD_DIGEST])
        return false;
    if (upload->unhashed)
        return true;
    sha256_end(&upload->hash, digest);
    return memcmp(digest, request->value[FIELD_DIGEST].at, DIGEST_SIZE) == 0;
}

void upload_commit(struct address from, const struct request *request) {
    struct upload *upload = find(request->value[FIELD_UPLOAD]);
    if (upload == NULL) {
        reply_plain(from, STATUS_NO_SUCH_UPLOAD, "there is no such upload");
        return;
    }
    if (!upload->committed) {
        if (!is_right(upload, request)) {
            drop(upload);
            reply_plain(from, STATUS_BAD_DIGEST, "what came is not what was announced");
            return;
        }
        int error = identity_take(upload->identity);
        if (error == 0)
            error = place_commit_file(&upload->place);
        identity_give_back();
        if (error != 0) {
            drop(upload);
            reply_error(from, error);
            return;
        }
        upload->committed = true;
    }
    answer_offset(from, upload);
}

void uploads_end(void) {
    for (int i = 0; i < UPLOADS_MOST; i++)
        if (uploads[i] != NULL)
            drop(uploads[i]);
}
