/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash/hash.h"

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t hash_bytes(struct bytes bytes, uint64_t seed)
{
    return XXH3_64bits_withSeed(bytes.data, bytes.size_bytes, seed);
}

/* The checksum is linear: each table entry is what a byte does to a zero register. */
static uint16_t crc16_of_byte(uint8_t byte)
{
    uint16_t crc = (uint16_t)(byte << 8);
    for (int bit = 0; bit < 8; bit++) {
        crc = (uint16_t)((crc & 0x8000) != 0 ? (crc << 1) ^ 0x1021 : crc << 1);
    }
    return crc;
}

static uint16_t crc16_table[256];

__attribute__((constructor)) static void fill_crc16_table(void)
{
    for (unsigned byte = 0; byte < 256; byte++) {
        crc16_table[byte] = crc16_of_byte((uint8_t)byte);
    }
}

uint16_t hash_crc16(struct bytes bytes)
{
    uint16_t crc = 0;
    for (size_t i = 0; i < bytes.size_bytes; i++) {
        crc = (uint16_t)((crc << 8) ^ crc16_table[((crc >> 8) ^ bytes.data[i]) & 0xff]);
    }
    return crc;
}
