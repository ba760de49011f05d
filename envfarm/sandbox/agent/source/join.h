/* Joins control groups, and becomes a program: it runs nothing that it could not bound. */
#ifndef JOIN_H
#define JOIN_H

/* words: the groups' files, "--", the program and its arguments; ends with NULL. Returns only where it fails. */
int join(char **words);

#endif
