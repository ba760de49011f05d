#include "sealed.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "numbers.h"
#include "text.h"

/* Public addresses, every private range, the address of clouds' metadata, and the same of IPv6. */
static const char *const addresses[] = {
    "1.1.1.1",    "8.8.8.8",   "10.0.0.1",   "172.16.0.1",      "172.17.0.1",           "192.168.0.1",
    "100.64.0.1", "192.0.2.1", "198.18.0.1", "169.254.169.254", "2606:4700:4700::1111", "fd00::1",
};

enum { COUNT = sizeof addresses / sizeof *addresses, MOST_ASKED = 128, ANSWER_MS = 500 };

/* Connect to port 53 of an address: a socket, -1 with errno, or -2 where the text is no address. */
static int connected(const char *text, int kind, int *result) {
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(53)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(53)};
    int is_four = inet_pton(AF_INET, text, &four.sin_addr) == 1;
    if (!is_four && inet_pton(AF_INET6, text, &six.sin6_addr) != 1)
        return -2;
    int fd = socket(is_four ? AF_INET : AF_INET6, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1; /* no such protocol, no such way out */
    *result = is_four ? connect(fd, (struct sockaddr *)&four, sizeof four)
                      : connect(fd, (struct sockaddr *)&six, sizeof six);
    return fd;
}

static bool is_reached(const char *text) {
    int result = -1, fd = connected(text, SOCK_DGRAM, &result);
    if (fd >= 0)
        close(fd);
    return fd == -2 || (fd >= 0 && result == 0);
}

static int told(const char *text) {
    text_say("there is a way to ", text);
    return EXIT_NOT_SEALED;
}

int sealed(void) {
    for (unsigned i = 0; i < COUNT; i++)
        if (is_reached(addresses[i]))
            return told(addresses[i]);
    return 0;
}

static int left_ms(const struct timespec *start) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    long passed = (now.tv_sec - start->tv_sec) * 1000 + (now.tv_nsec - start->tv_nsec) / 1000000;
    return passed >= ANSWER_MS ? 0 : (int)(ANSWER_MS - passed);
}

/* That nobody listens is an answer as well: it comes from the address. */
static bool is_answer(int error) {
    return error == 0 || error == ECONNREFUSED || error == ECONNRESET;
}

int unanswered(char **words) {
    struct pollfd asked[MOST_ASKED];
    const char *names[MOST_ASKED];
    unsigned count = 0, open = 0;
    struct timespec start;
    clock_gettime(CLOCK_MONOTONIC, &start);
    for (unsigned i = 0; i < COUNT || *words != NULL; i++) {
        const char *text = i < COUNT ? addresses[i] : *words++;
        int result = -1, fd = connected(text, SOCK_STREAM, &result);
        if (fd == -2 || count == MOST_ASKED || (fd >= 0 && (result == 0 || is_answer(errno))))
            return told(text);
        if (fd < 0)
            continue;
        bool is_waiting = errno == EINPROGRESS;
        names[count] = text;
        asked[count++] = (struct pollfd){.fd = is_waiting ? fd : -1, .events = POLLOUT};
        open += is_waiting;
    }
    for (int left; open > 0 && (left = left_ms(&start)) > 0;) {
        if (poll(asked, count, left) < 0 && errno != EINTR)
            return told("somewhere: nobody can tell");
        for (unsigned i = 0; i < count; i++) {
            int error = 0;
            socklen_t size = sizeof error;
            if (asked[i].fd < 0 || asked[i].revents == 0)
                continue;
            if (getsockopt(asked[i].fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0 || is_answer(error))
                return told(names[i]);
            asked[i].fd = -1;
            open--;
        }
    }
    return 0;
}
