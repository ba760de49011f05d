/* Files that come in parts. */
#ifndef UPLOAD_H
#define UPLOAD_H

#include "agent.h"

void upload_open(struct address from, const struct request *request);
void upload_data(struct address from, const struct request *request, struct span bulk);
void upload_commit(struct address from, const struct request *request);
/* Remove what is not committed. */
void uploads_end(void);

#endif
