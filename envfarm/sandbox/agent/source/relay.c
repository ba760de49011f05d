#include "relay.h"

#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "numbers.h"
#include "text.h"

enum { CHUNK = 1 << 16 };

/* Until the end of either side. */
static void copy(int from, int to) {
    static char chunk[CHUNK];
    ssize_t size;
    while ((size = read(from, chunk, sizeof chunk)) > 0)
        for (ssize_t done = 0, count; done < size; done += count) {
            count = write(to, chunk + done, (size_t)(size - done));
            if (count <= 0)
                return;
        }
}

int relay(const char *path) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (strlen(path) >= sizeof address.sun_path)
        return EXIT_BAD_USAGE;
    strcpy(address.sun_path, path);
    signal(SIGPIPE, SIG_IGN);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        text_say("cannot reach the agent at ", path);
        return EXIT_CANNOT_LISTEN;
    }
    /* One process for each direction: one for both would wait for room in a direction that waits for the other. */
    pid_t parent = getpid(), child = fork();
    if (child < 0) {
        text_say("cannot make a process for the other direction", "");
        return EXIT_CANNOT_LISTEN;
    }
    if (child == 0) {
        copy(fd, 1);
        kill(parent, SIGTERM);
        _exit(EXIT_ENDED);
    }
    copy(0, fd);
    kill(child, SIGKILL);
    return EXIT_ENDED;
}
