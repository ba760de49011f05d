/* Looking at folders, and removing. */
#ifndef FOLDER_REQUESTS_H
#define FOLDER_REQUESTS_H

#include "agent.h"

void folder_list(struct address from, const struct request *request);
void folder_stat(struct address from, const struct request *request);
void folder_remove(struct address from, const struct request *request);

#endif
