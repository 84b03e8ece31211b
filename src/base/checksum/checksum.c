/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checksum/checksum.h"

#include <isa-l/crc.h>
#include <string.h>

enum {
    PIECE_SIZE_BYTES_MAX = 1 << 30, /* ISA-L takes the length as an int. */
    SHORT_SIZE_BYTES_MAX = 128,     /* ISA-L's way begins to pay above that. */
};

/* Heads of frames and records are short, and many. */
static uint32_t short_crc32c(uint32_t state, struct bytes bytes)
{
    const uint8_t *place = bytes.data;
    uint64_t wide = state;
    size_t rest = bytes.size_bytes;
    for (; rest >= sizeof(uint64_t); rest -= sizeof(uint64_t)) {
        uint64_t word;
        memcpy(&word, place, sizeof word);
        wide = __builtin_ia32_crc32di(wide, word);
        place += sizeof word;
    }
    state = (uint32_t)wide;
    for (; rest > 0; rest--) {
        state = __builtin_ia32_crc32qi(state, *place++);
    }
    return state;
}

uint32_t checksum_crc32c(uint32_t before, struct bytes bytes)
{
    uint32_t state = ~before;
    if (bytes.size_bytes <= SHORT_SIZE_BYTES_MAX) {
        return ~short_crc32c(state, bytes);
    }
    while (bytes.size_bytes > 0) {
        size_t piece =
            bytes.size_bytes < PIECE_SIZE_BYTES_MAX ? bytes.size_bytes : PIECE_SIZE_BYTES_MAX;
        /* ISA-L's prototype lacks const; the function only reads. */
        state = crc32_iscsi((unsigned char *)(uintptr_t)bytes.data, (int)piece, state);
        bytes = bytes_make(bytes.data + piece, bytes.size_bytes - piece);
    }
    return ~state;
}
