/* Marks what Python calls. */
#ifndef EXPORTED_H
#define EXPORTED_H

#define EXPORTED __attribute__((visibility("default")))

#endif
