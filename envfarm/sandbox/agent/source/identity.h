/* Acting on files as the user that a request names. */
#ifndef IDENTITY_H
#define IDENTITY_H

#include "request.h"

struct identity {
    bool other; /* than the agent's own */
    uint32_t user, group;
};

struct identity identity_of(const struct request *request);
/* Act as this user; 0, or an error number: then nothing is changed. */
int identity_take(struct identity identity);
void identity_give_back(void);

#endif
