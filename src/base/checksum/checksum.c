/* SPDX-License-Identifier: Apache-2.0 */
#include "base/checksum/checksum.h"

#include <isa-l/crc.h>

enum { PIECE_SIZE_BYTES_MAX = 1 << 30 }; /* ISA-L takes the length as an int. */

uint32_t checksum_crc32c(uint32_t before, struct bytes bytes)
{
    uint32_t state = ~before;
    while (bytes.size_bytes > 0) {
        size_t piece =
            bytes.size_bytes < PIECE_SIZE_BYTES_MAX ? bytes.size_bytes : PIECE_SIZE_BYTES_MAX;
        /* ISA-L's prototype lacks const; the function only reads. */
        state = crc32_iscsi((unsigned char *)(uintptr_t)bytes.data, (int)piece, state);
        bytes = bytes_make(bytes.data + piece, bytes.size_bytes - piece);
    }
    return ~state;
}
