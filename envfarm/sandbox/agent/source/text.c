#include "text.h"

#include <string.h>
#include <unistd.h>

uint64_t text_number(const char *text) {
    uint64_t number = 0;
    for (; *text >= '0' && *text <= '9'; text++) {
        if (number > (UINT64_MAX - 9) / 10)
            return number;
        number = number * 10 + (uint64_t)(*text - '0');
    }
    return number;
}

bool text_is_number(const char *text, uint64_t most, uint64_t *number) {
    size_t size = strlen(text);
    *number = text_number(text);
    return size >= 1 && size <= 19 && strspn(text, "0123456789") == size && *number <= most;
}

static size_t add(char *to, size_t size, size_t at, const char *text) {
    while (*text != 0 && at + 1 < size)
        to[at++] = *text++;
    to[at] = 0;
    return at;
}

void text_join(char *to, size_t size, const char *before, uint64_t number, const char *after) {
    char digits[24], *first = digits + sizeof digits - 1;
    *first = 0;
    do
        *--first = (char)('0' + number % 10);
    while ((number /= 10) > 0);
    size_t at = add(to, size, 0, before);
    at = add(to, size, at, first);
    add(to, size, at, after);
}

void text_hex(char *to, const uint8_t *bytes, size_t count) {
    for (size_t i = 0; i < count; i++) {
        *to++ = "0123456789abcdef"[bytes[i] >> 4];
        *to++ = "0123456789abcdef"[bytes[i] & 15];
    }
    *to = 0;
}

void text_say(const char *first, const char *second) {
    char line[256];
    size_t at = add(line, sizeof line - 1, 0, "envfarm-agent: ");
    at = add(line, sizeof line - 1, at, first);
    at = add(line, sizeof line - 1, at, second);
    line[at++] = '\n';
    if (write(2, line, at) < 0)
        return; /* nobody listens */
}
