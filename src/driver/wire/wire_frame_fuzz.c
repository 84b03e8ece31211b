/* SPDX-License-Identifier: Apache-2.0 */
/* Frames from outside: are they cut without harm, and is what is taken for a frame exactly what
 * makes the same bytes again? */
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/assert/assert.h"
#include "base/checksum/checksum.h"
#include "driver/wire/wire_internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes);

static void check_same(const struct wire__header *header, struct bytes payload, const uint8_t *data)
{
    struct buffer again = {0};
    size_t frame_bytes = WIRE_HEADER_SIZE_BYTES + payload.size_bytes;
    uint8_t *frame = buffer_extend(&again, frame_bytes);
    uint32_t checksum =
        wire__header_begin(frame, header->kind, header->flags, (uint32_t)payload.size_bytes);
    if (payload.size_bytes > 0) {
        memcpy(frame + WIRE_HEADER_SIZE_BYTES, payload.data, payload.size_bytes);
    }
    wire__header_end(frame, checksum_crc32c(checksum, payload));
    ASSERT(memcmp(again.data, data, frame_bytes) == 0);
    buffer_deinit(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size_bytes)
{
    struct bytes rest = bytes_make(data, size_bytes);
    for (;;) {
        struct wire__header header;
        struct bytes payload;
        size_t wanted_bytes = 0;
        const char *reason = NULL;
        enum wire__outcome outcome = wire__frame_decode(rest, WIRE__MESSAGE_SIZE_BYTES_MAX, &header,
                                                        &payload, &wanted_bytes, &reason);
        if (outcome == WIRE__INCOMPLETE) {
            ASSERT(wanted_bytes > rest.size_bytes);
            ASSERT(wanted_bytes <= WIRE_HEADER_SIZE_BYTES + WIRE__MESSAGE_SIZE_BYTES_MAX);
            return 0;
        }
        if (outcome == WIRE__MALFORMED) {
            ASSERT(reason != NULL);
            return 0;
        }
        ASSERT(payload.data >= rest.data);
        ASSERT(payload.data + payload.size_bytes <= rest.data + rest.size_bytes);
        check_same(&header, payload, rest.data);
        size_t used_bytes = WIRE_HEADER_SIZE_BYTES + payload.size_bytes;
        rest = bytes_make(rest.data + used_bytes, rest.size_bytes - used_bytes);
    }
}
