/* Whether nothing outside the box can be reached: asked of the kernel's routes, without sending anything. */
#ifndef SEALED_H
#define SEALED_H

int sealed(void);

#endif
