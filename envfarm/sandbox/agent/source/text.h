/* Text without stdio, which would be a third of the program. */
#ifndef TEXT_H
#define TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* The decimal number that a text begins with, 0 where there is none; stops at the largest that fits. */
uint64_t text_number(const char *text);
/* Write before, number and after; cut at the size, ended by NUL. */
void text_join(char *to, size_t size, const char *before, uint64_t number, const char *after);
/* Write 2 hexadecimal digits for each byte, and NUL. */
void text_hex(char *to, const uint8_t *bytes, size_t count);
/* The whole of the text is a decimal number of at most `most`. */
bool text_is_number(const char *text, uint64_t most, uint64_t *number);
/* Say a line on standard error. */
void text_say(const char *first, const char *second);

#endif
