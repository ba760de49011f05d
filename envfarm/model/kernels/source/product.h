/* Products with weights. */
#ifndef PRODUCT_H
#define PRODUCT_H

#include <stdbool.h>

#include "model.h"

/* Sets or adds to each output row the product of its input row; each number is one chain of additions in the order of
   the inputs, whatever the count is. */
void product(const struct matrix *matrix, const float *const *inputs, float *const *outputs, int64_t count, bool adds);

#endif
