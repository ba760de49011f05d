/* What a request holds, judged by one table of which fields belong to it. No I/O, no clock. */
#ifndef REQUEST_H
#define REQUEST_H

#include "wire.h"

enum { TAG_COUNT = 128, KIND_ENTRY = 0x7f };

struct request {
    bool has[TAG_COUNT];
    uint64_t number[TAG_COUNT];     /* of integer fields; 0 where absent */
    struct span value[TAG_COUNT];   /* of a field that may appear often: the first */
    uint32_t count[TAG_COUNT];
    struct span fields;
};

/* The kinds that `request_read` knows. */
bool request_known(uint8_t kind);

/* Judge fields against the table; false where they break it. Paths are absolute and, as all texts, without NUL. */
bool request_read(uint8_t kind, struct span fields, struct request *request);

/* Walk over the fields with one tag; start with `*rest = request->fields`. */
bool request_each(struct span *rest, uint8_t tag, struct span *value);

#endif
