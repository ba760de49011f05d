/* A program without a C library: nothing but the kernels has to be built for a machine. */
#ifndef ALONE_H
#define ALONE_H

#include <stddef.h>

/* Memory that is zero, at a cache line's begin; never given back. */
void *take(size_t size);

/* Writes to standard output. */
void tell(const void *from, size_t size);

int main(void);

#endif
