/* Whether nothing outside the box can be reached: asked of the kernel's routes, without sending anything. */
#ifndef SEALED_H
#define SEALED_H

int sealed(void);

/* Whether nobody outside answers, of a box with a network of its own: asked of the same addresses and more, by TCP. */
int unanswered(char **addresses);

#endif
