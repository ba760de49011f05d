#define _GNU_SOURCE
#include "listen.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "connection.h"
#include "text.h"

enum { BACKLOG = 64, SILENCE_MS = 60000, ROOM = 1 << 22 };

static struct watch listener = {.fd = -1};
static struct sockaddr_un local;
static bool is_tcp;

static void set(int fd, int level, int option, int value) {
    setsockopt(fd, level, option, &value, sizeof value);
}

static void on_connection(struct watch *watch, uint32_t events) {
    (void)events;
    int fd = accept4(watch->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (fd < 0)
        return;
    if (is_tcp) {
        set(fd, IPPROTO_TCP, TCP_NODELAY, 1);
        set(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
        set(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, SILENCE_MS);
    }
    if (!is_tcp)
        set(fd, SOL_SOCKET, SO_SNDBUF, ROOM); /* as far as the kernel lets us; TCP finds its own */
    int out = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (out < 0)
        close(fd);
    else
        connection_open(fd, out, false);
}

static bool say_ready(const char *line) {
    size_t size = strlen(line);
    return write(1, line, size) == (ssize_t)size || true; /* nobody has to listen */
}

static bool listen_on(int domain, const struct sockaddr *address, socklen_t size) {
    listener.fd = socket(domain, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    listener.act = on_connection;
    if (listener.fd < 0)
        return false;
    if (domain != AF_UNIX)
        set(listener.fd, SOL_SOCKET, SO_REUSEADDR, 1);
    return bind(listener.fd, address, size) == 0 && listen(listener.fd, BACKLOG) == 0 && watch_for(&listener, EPOLLIN);
}

bool listen_unix(const char *path) {
    local.sun_family = AF_UNIX;
    if (strlen(path) >= sizeof local.sun_path)
        return false;
    strcpy(local.sun_path, path);
    mode_t mask = umask(0177); /* the socket is its owner's alone */
    bool listens = listen_on(AF_UNIX, (struct sockaddr *)&local, sizeof local);
    umask(mask);
    return listens && say_ready("ready unix\n");
}

bool listen_read_address(const char *where, struct sockaddr_storage *address, socklen_t *size) {
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    const char *colon = strrchr(where, ':');
    char host[INET6_ADDRSTRLEN];
    uint64_t port;
    bool bracket = where[0] == '[';
    if (colon == NULL || !text_is_number(colon + 1, 65535, &port) || (bracket && colon[-1] != ']'))
        return false;
    size_t length = (size_t)(colon - where) - (bracket ? 2 : 0);
    if (length >= sizeof host)
        return false;
    memcpy(host, where + bracket, length);
    host[length] = 0;
    if (bracket) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons((uint16_t)port);
        *size = sizeof *six;
        return inet_pton(AF_INET6, host, &six->sin6_addr) == 1;
    }
    four->sin_family = AF_INET;
    four->sin_port = htons((uint16_t)port);
    *size = sizeof *four;
    return inet_pton(AF_INET, host, &four->sin_addr) == 1;
}

bool listen_tcp(const char *where) {
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char line[64];
    is_tcp = true;
    if (!listen_read_address(where, &address, &size) || !listen_on(address.ss_family, (struct sockaddr *)&address, size))
        return false;
    size = sizeof address;
    getsockname(listener.fd, (struct sockaddr *)&address, &size);
    uint16_t port = address.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&address)->sin6_port
                                                  : ((struct sockaddr_in *)&address)->sin_port;
    text_join(line, sizeof line, "ready tcp ", ntohs(port), "\n");
    return say_ready(line);
}

void listen_end(void) {
    if (listener.fd >= 0 && !is_tcp)
        unlink(local.sun_path);
    watch_close(&listener);
}
