#include "request.h"

#include <string.h>

enum { MOST = 16 };

/* Tags end with 0. `many` may appear any number of times. */
struct shape {
    uint8_t kind;
    uint8_t required[4], optional[MOST], many[8];
};

static const struct shape shapes[] = {
    {KIND_PING, {0}, {0}, {0}},
    {KIND_END, {0}, {0}, {0}},
    {KIND_START,
     {FIELD_JOB},
     {FIELD_FOLDER, FIELD_UID, FIELD_GID, FIELD_TIMEOUT_MS, FIELD_MEMORY_BYTES, FIELD_DATA, FIELD_END, FIELD_LEFTOVERS,
      FIELD_NO_NEW_PRIVILEGES, FIELD_WAIT_MS, FIELD_INLINE_BYTES},
     {FIELD_ARGUMENT, FIELD_VARIABLE, FIELD_GROUP, FIELD_LIMIT, FIELD_STREAM}},
    {KIND_WAIT, {FIELD_JOB}, {FIELD_WAIT_MS, FIELD_INLINE_BYTES}, {0}},
    {KIND_READ, {FIELD_JOB, FIELD_DESCRIPTOR, FIELD_OFFSET, FIELD_LENGTH}, {FIELD_WAIT_MS}, {0}},
    {KIND_STDIN, {FIELD_JOB, FIELD_OFFSET}, {FIELD_DATA, FIELD_END}, {0}},
    {KIND_SIGNAL, {FIELD_JOB, FIELD_SIGNAL, FIELD_SERIAL}, {FIELD_TREE}, {0}},
    {KIND_FORGET, {0}, {0}, {FIELD_JOB}},
    {KIND_JOBS, {0}, {0}, {0}},
    {KIND_PUT, {FIELD_DIGEST}, {FIELD_UID, FIELD_GID}, {FIELD_ENTRY}},
    {KIND_UPLOAD,
     {FIELD_UPLOAD, FIELD_PATH, FIELD_MODE, FIELD_SIZE},
     {FIELD_OWNER_UID, FIELD_OWNER_GID, FIELD_UID, FIELD_GID, FIELD_UNHASHED},
     {0}},
    {KIND_DATA, {FIELD_UPLOAD, FIELD_OFFSET}, {0}, {0}},
    {KIND_COMMIT, {FIELD_UPLOAD}, {FIELD_DIGEST}, {0}},
    {KIND_GET, {FIELD_PATH, FIELD_OFFSET, FIELD_LENGTH}, {FIELD_UID, FIELD_GID, FIELD_UNHASHED}, {0}},
    {KIND_FETCH, {FIELD_LENGTH}, {FIELD_UID, FIELD_GID}, {FIELD_PATH}},
    {KIND_LIST, {FIELD_PATH}, {FIELD_CURSOR, FIELD_UID, FIELD_GID}, {0}},
    {KIND_STAT, {FIELD_PATH}, {FIELD_FOLLOW, FIELD_UID, FIELD_GID}, {0}},
    {KIND_REMOVE, {FIELD_PATH}, {FIELD_RECURSIVE, FIELD_UID, FIELD_GID}, {0}},
    {KIND_ENTRY,
     {FIELD_PATH, FIELD_FILE_KIND},
     {FIELD_MODE, FIELD_SIZE, FIELD_TARGET, FIELD_OWNER_UID, FIELD_OWNER_GID},
     {0}},
};

/* The largest value of each integer field. */
static uint64_t bound_of(uint8_t tag) {
    switch (tag) {
    case FIELD_UID:
    case FIELD_GID:
    case FIELD_GROUP:
    case FIELD_OWNER_UID:
    case FIELD_OWNER_GID:
        return UINT32_MAX - 1;
    case FIELD_END:
    case FIELD_LEFTOVERS:
    case FIELD_NO_NEW_PRIVILEGES:
    case FIELD_TREE:
    case FIELD_FOLLOW:
    case FIELD_RECURSIVE:
    case FIELD_UNHASHED:
        return 1;
    case FIELD_SIGNAL:
        return 64;
    case FIELD_DESCRIPTOR:
        return 9;
    case FIELD_MODE:
        return 07777;
    case FIELD_FILE_KIND:
        return FILE_OTHER;
    case FIELD_TIMEOUT_MS:
    case FIELD_WAIT_MS:
        return UINT32_MAX;
    case FIELD_MEMORY_BYTES:
    case FIELD_INLINE_BYTES:
    case FIELD_OFFSET:
    case FIELD_SERIAL:
    case FIELD_SIZE:
    case FIELD_LENGTH:
    case FIELD_CURSOR:
        return INT64_MAX;
    default:
        return 0; /* no integer */
    }
}

static bool value_is_right(uint8_t tag, struct span value, uint64_t *number) {
    uint64_t bound = bound_of(tag);
    if (bound > 0)
        return span_number(value, bound, number);
    switch (tag) {
    case FIELD_JOB:
    case FIELD_UPLOAD:
        return value.size >= 1 && value.size <= ID_LIMIT;
    case FIELD_DIGEST:
        return value.size == DIGEST_SIZE;
    case FIELD_LIMIT:
        return value.size == 16;
    case FIELD_STREAM:
        return value.size == 24;
    case FIELD_PATH:
    case FIELD_FOLDER:
    case FIELD_TARGET:
        if (value.size < 1 || value.size >= PATH_LIMIT || (tag != FIELD_TARGET && value.at[0] != '/'))
            return false;
        return memchr(value.at, 0, value.size) == NULL;
    case FIELD_ARGUMENT:
        return value.size == 0 || memchr(value.at, 0, value.size) == NULL;
    case FIELD_VARIABLE:
        if (value.size == 0 || value.at[0] == '=')
            return false;
        return memchr(value.at, 0, value.size) == NULL && memchr(value.at, '=', value.size) != NULL;
    default:
        return true;
    }
}

static bool contains(const uint8_t *tags, int most, uint8_t tag) {
    for (int i = 0; i < most && tags[i] != 0; i++)
        if (tags[i] == tag)
            return true;
    return false;
}

static const struct shape *shape_of(uint8_t kind) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].kind == kind)
            return &shapes[i];
    return NULL;
}

bool request_known(uint8_t kind) {
    return kind != KIND_ENTRY && shape_of(kind) != NULL;
}

bool request_read(uint8_t kind, struct span fields, struct request *request) {
    const struct shape *shape = shape_of(kind);
    struct field field;
    bool malformed = shape == NULL;
    memset(request, 0, sizeof *request);
    request->fields = fields;
    while (!malformed && field_next(&fields, &field, &malformed)) {
        uint8_t tag = field.tag;
        if (tag >= FIELD_MAY_BE_IGNORED)
            continue;
        bool many = contains(shape->many, sizeof shape->many, tag);
        bool known = many || contains(shape->required, sizeof shape->required, tag) ||
                     contains(shape->optional, sizeof shape->optional, tag);
        uint64_t number = 0;
        if (!known || (!many && request->has[tag]) || !value_is_right(tag, field.value, &number))
            return false;
        if (!request->has[tag]) {
            request->value[tag] = field.value;
            request->number[tag] = number;
        }
        request->has[tag] = true;
        request->count[tag]++;
    }
    for (size_t i = 0; !malformed && i < sizeof shape->required && shape->required[i] != 0; i++)
        malformed |= !request->has[shape->required[i]];
    return !malformed && request->has[FIELD_UID] == request->has[FIELD_GID];
}

bool request_each(struct span *rest, uint8_t tag, struct span *value) {
    struct field field;
    bool malformed = false;
    while (field_next(rest, &field, &malformed))
        if (field.tag == tag) {
            *value = field.value;
            return true;
        }
    return false;
}
