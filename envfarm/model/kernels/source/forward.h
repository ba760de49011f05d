/* A step through all layers, and a block of multi-token prediction. */
#ifndef FORWARD_H
#define FORWARD_H

#include "exported.h"
#include "model.h"

int64_t envfarm_structure_bytes(int64_t number);
int64_t envfarm_scratch_floats(const struct model *model, int64_t blocks, int64_t tokens);
void envfarm_forward(const struct model *model, const struct step *step);
void envfarm_predict_further(const struct model *model, int64_t number, const struct step *step);
void envfarm_head(const struct model *model, const struct head *head);

#endif
