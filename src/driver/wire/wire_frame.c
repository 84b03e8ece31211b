/* SPDX-License-Identifier: Apache-2.0 */
/* Frames as bytes. Integers are little-endian.
 *
 *   offset  size  meaning
 *        0     4  size of the payload
 *        4     2  kind
 *        6     2  flags: 1 the payload is a part of a message, 2 the last one
 *        8     4  CRC-32C of bytes 0 to 7, followed by the payload
 *       12     4  zero
 *       16        payload
 *
 * TLS already proves that nothing was changed between the two processes. The checksum is for what
 * happens inside them. */
#include <string.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "base/endian/endian.h"
#include "driver/wire/wire_internal.h"

enum {
    OFFSET_SIZE = 0,
    OFFSET_KIND = 4,
    OFFSET_FLAGS = 6,
    OFFSET_CHECKSUM = 8,
    OFFSET_ZERO = 12,
    COVERED_SIZE_BYTES = 8,
};

_Static_assert(OFFSET_ZERO + 4 == WIRE_HEADER_SIZE_BYTES, "the header is what the table says");

size_t wire__size_bytes(const struct bytes *pieces, uint32_t piece_count)
{
    size_t total = 0;
    for (uint32_t i = 0; i < piece_count; i++) {
        total += pieces[i].size_bytes;
    }
    return total;
}

uint32_t wire__header_begin(uint8_t *target, uint16_t kind, uint16_t flags, uint32_t size_bytes)
{
    endian_put_u32_le(target + OFFSET_SIZE, size_bytes);
    endian_put_u16_le(target + OFFSET_KIND, kind);
    endian_put_u16_le(target + OFFSET_FLAGS, flags);
    endian_put_u32_le(target + OFFSET_ZERO, 0);
    return checksum_crc32c(0, bytes_make(target, COVERED_SIZE_BYTES));
}

void wire__header_end(uint8_t *target, uint32_t checksum)
{
    endian_put_u32_le(target + OFFSET_CHECKSUM, checksum);
}

void wire__frame_encode(uint8_t *target, uint16_t kind, struct bytes payload)
{
    ASSERT(payload.size_bytes <= UINT32_MAX);
    uint32_t checksum = wire__header_begin(target, kind, 0, (uint32_t)payload.size_bytes);
    if (payload.size_bytes > 0) {
        memcpy(target + WIRE_HEADER_SIZE_BYTES, payload.data, payload.size_bytes);
    }
    wire__header_end(target, checksum_crc32c(checksum, payload));
}

enum wire__outcome wire__frame_decode(struct bytes input, uint32_t payload_size_bytes_max,
                                      struct wire__header *header, struct bytes *payload,
                                      size_t *wanted_bytes, const char **reason)
{
    if (input.size_bytes < WIRE_HEADER_SIZE_BYTES) {
        *wanted_bytes = WIRE_HEADER_SIZE_BYTES;
        return WIRE__INCOMPLETE;
    }
    const uint8_t *data = input.data;
    uint32_t size_bytes = endian_get_u32_le(data + OFFSET_SIZE);
    uint16_t flags = endian_get_u16_le(data + OFFSET_FLAGS);
    if (flags == WIRE__FLAG_LAST || flags > (WIRE__FLAG_PART | WIRE__FLAG_LAST) ||
        endian_get_u32_le(data + OFFSET_ZERO) != 0) {
        *reason = "its header has what this version does not know";
        return WIRE__MALFORMED;
    }
    if (size_bytes > payload_size_bytes_max) {
        *reason = "it is too large";
        return WIRE__MALFORMED;
    }
    if (input.size_bytes - WIRE_HEADER_SIZE_BYTES < size_bytes) {
        *wanted_bytes = WIRE_HEADER_SIZE_BYTES + (size_t)size_bytes;
        return WIRE__INCOMPLETE;
    }
    struct bytes found = bytes_make(data + WIRE_HEADER_SIZE_BYTES, size_bytes);
    uint32_t checksum = checksum_crc32c(0, bytes_make(data, COVERED_SIZE_BYTES));
    if (checksum_crc32c(checksum, found) != endian_get_u32_le(data + OFFSET_CHECKSUM)) {
        *reason = "its checksum is wrong";
        return WIRE__MALFORMED;
    }
    *header = (struct wire__header){.size_bytes = size_bytes,
                                    .kind = endian_get_u16_le(data + OFFSET_KIND),
                                    .flags = flags,
                                    .checksum = endian_get_u32_le(data + OFFSET_CHECKSUM)};
    *payload = found;
    return WIRE__FRAME;
}
