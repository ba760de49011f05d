#define _GNU_SOURCE
#include "join.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "numbers.h"
#include "text.h"

extern char **environ;

int join(char **words) {
    for (; *words != NULL && strcmp(*words, "--") != 0; words++) {
        int fd = open(*words, O_WRONLY | O_CLOEXEC);
        if (fd < 0 || write(fd, "0", 1) != 1) {
            text_say("cannot join ", *words);
            return EXIT_NOT_JOINED;
        }
        close(fd);
    }
    if (*words == NULL || words[1] == NULL)
        return EXIT_BAD_USAGE;
    execve(words[1], words + 1, environ);
    text_say("cannot run ", words[1]);
    return EXIT_NOT_JOINED;
}
