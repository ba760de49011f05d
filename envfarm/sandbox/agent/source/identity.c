#include "identity.h"

#include <errno.h>
#include <sys/fsuid.h>
#include <unistd.h>

/* setfsuid tells nothing but what was before. */
static int act_as(uid_t user, gid_t group) {
    setfsgid(group);
    setfsuid(user);
    return (uid_t)setfsuid(user) == user && (gid_t)setfsgid(group) == group ? 0 : EPERM;
}

struct identity identity_of(const struct request *request) {
    return (struct identity){request->has[FIELD_UID], (uint32_t)request->number[FIELD_UID],
                             (uint32_t)request->number[FIELD_GID]};
}

int identity_take(struct identity identity) {
    if (!identity.other)
        return 0;
    int error = act_as(identity.user, identity.group);
    if (error != 0)
        identity_give_back();
    return error;
}

void identity_give_back(void) {
    setfsuid(geteuid()); /* first: only the owner of the rights may change the group */
    setfsgid(getegid());
}
