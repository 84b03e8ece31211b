/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes behind "tutti1-", in base32 (RFC 4648, lower case, no padding):
 *
 *   offset  size  meaning
 *        0     1  version of this format, 1
 *        1    32  SHA-256 of the certificate of the cluster's authority (its DER form)
 *       33    16  secret
 *       49     4  CRC-32C of bytes 0 to 48, little-endian
 *
 * 53 bytes are 84.8 characters: the last bit of the last character is zero. */
#include "core/token/token.h"

#include "base/checksum/checksum.h"
#include "base/endian/endian.h"

enum {
    VERSION = 1,
    FINGERPRINT_OFFSET = 1,
    SECRET_OFFSET = FINGERPRINT_OFFSET + TOKEN_FINGERPRINT_SIZE_BYTES,
    CHECKSUM_OFFSET = SECRET_OFFSET + TOKEN_SECRET_SIZE_BYTES,
    SIZE_BYTES = CHECKSUM_OFFSET + 4,
    LETTER_COUNT = (SIZE_BYTES * 8 + 4) / 5,
};

static const char prefix[] = "tutti1-";
static const char family[] = "tutti";
static const char alphabet[] = "abcdefghijklmnopqrstuvwxyz234567";

_Static_assert(sizeof prefix + LETTER_COUNT == TOKEN_TEXT_SIZE, "prefix, letters, terminator");

char *token_encode(const struct token *token, char *text)
{
    uint8_t packed[SIZE_BYTES] = {VERSION};
    memcpy(packed + FINGERPRINT_OFFSET, token->fingerprint, sizeof token->fingerprint);
    memcpy(packed + SECRET_OFFSET, token->secret, sizeof token->secret);
    endian_put_u32_le(packed + CHECKSUM_OFFSET,
                      checksum_crc32c(0, bytes_make(packed, CHECKSUM_OFFSET)));
    memcpy(text, prefix, sizeof prefix - 1);
    char *letter = text + sizeof prefix - 1;
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    for (uint32_t i = 0; i < SIZE_BYTES; i++) {
        bits = bits << 8 | packed[i];
        for (bit_count += 8; bit_count >= 5; bit_count -= 5) {
            *letter++ = alphabet[bits >> (bit_count - 5) & 31];
        }
    }
    *letter++ = alphabet[bits << (5 - bit_count) & 31];
    *letter = '\0';
    return text;
}

static uint8_t lower(uint8_t byte)
{
    return byte >= 'A' && byte <= 'Z' ? (uint8_t)(byte | 0x20) : byte;
}

/* The value of a letter, or -1. */
static int value_of(uint8_t byte)
{
    byte = lower(byte);
    if (byte >= 'a' && byte <= 'z') {
        return byte - 'a';
    }
    return byte >= '2' && byte <= '7' ? byte - '2' + 26 : -1;
}

static bool is_blank(uint8_t byte)
{
    return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

static struct bytes trim(struct bytes text)
{
    while (text.size_bytes > 0 && is_blank(text.data[0])) {
        text = bytes_make(text.data + 1, text.size_bytes - 1);
    }
    while (text.size_bytes > 0 && is_blank(text.data[text.size_bytes - 1])) {
        text.size_bytes--;
    }
    return text;
}

static bool begins_with(struct bytes text, const char *word)
{
    size_t size_bytes = strlen(word);
    return text.size_bytes >= size_bytes &&
           bytes_equal_ignoring_case(bytes_make(text.data, size_bytes), bytes_of_text(word));
}

/* False: not the letters of a token, or not so many. */
static bool unpack(struct bytes letters, uint8_t packed[SIZE_BYTES])
{
    if (letters.size_bytes != LETTER_COUNT) {
        return false;
    }
    uint32_t bits = 0;
    uint32_t bit_count = 0;
    uint32_t used = 0;
    for (uint32_t i = 0; i < LETTER_COUNT; i++) {
        int value = value_of(letters.data[i]);
        if (value < 0) {
            return false;
        }
        bits = bits << 5 | (uint32_t)value;
        bit_count += 5;
        if (bit_count >= 8) {
            bit_count -= 8;
            packed[used++] = (uint8_t)(bits >> bit_count);
        }
    }
    return (bits & ((1u << bit_count) - 1)) == 0;
}

int token_decode(struct token *token, struct bytes text, struct error *error)
{
    uint8_t packed[SIZE_BYTES] = {0};
    text = trim(text);
    if (!begins_with(text, family)) {
        return error_say(
            error, -EINVAL,
            "this is not a join token: those begin with %s; `tutti token` on a node of "
            "the cluster makes one",
            prefix);
    }
    if (!begins_with(text, prefix)) {
        bool has_version = text.size_bytes >= sizeof prefix - 1 &&
                           text.data[sizeof family - 1] >= '2' &&
                           text.data[sizeof family - 1] <= '9';
        return has_version ? error_say(error, ERROR_NEWER_FORMAT,
                                       "the join token was made by a newer version of tutti")
                           : error_say(error, -EINVAL,
                                       "this is not a join token: those begin with %s", prefix);
    }
    struct bytes letters =
        bytes_make(text.data + sizeof prefix - 1, text.size_bytes - (sizeof prefix - 1));
    if (!unpack(letters, packed) || endian_get_u32_le(packed + CHECKSUM_OFFSET) !=
                                        checksum_crc32c(0, bytes_make(packed, CHECKSUM_OFFSET))) {
        return error_say(
            error, ERROR_CORRUPT,
            "the join token is damaged: characters are missing, added or changed; copy "
            "it again, all %d of them",
            TOKEN_TEXT_SIZE - 1);
    }
    if (packed[0] != VERSION) {
        return error_say(error, ERROR_NEWER_FORMAT,
                         "the join token was made by a newer version of tutti");
    }
    memcpy(token->fingerprint, packed + FINGERPRINT_OFFSET, sizeof token->fingerprint);
    memcpy(token->secret, packed + SECRET_OFFSET, sizeof token->secret);
    return 0;
}
