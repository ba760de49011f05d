/* SHA-256 and HMAC-SHA256 (FIPS 180-4, RFC 2104), with the processor's own instructions where it has them. */
#ifndef SHA256_H
#define SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sha256 {
    uint32_t state[8];
    uint64_t size;
    uint8_t block[64];
};

struct hmac {
    struct sha256 inner, outer;
};

void sha256_begin(struct sha256 *hash);
void sha256_add(struct sha256 *hash, const void *data, size_t size);
void sha256_end(struct sha256 *hash, uint8_t digest[32]);

void hmac_begin(struct hmac *mac, const uint8_t *key, size_t key_size);
void hmac_add(struct hmac *mac, const void *data, size_t size);
void hmac_end(struct hmac *mac, uint8_t tag[32]);

/* Whether both are equal, in a time that tells nothing of where they differ. */
bool equal_in_constant_time(const uint8_t *left, const uint8_t *right, size_t size);

/* Compress whole blocks; false where this processor lacks the instructions. */
bool sha256_blocks_by_processor(uint32_t state[8], const uint8_t *data, size_t count);

extern const uint32_t sha256_constants[64];

#endif
