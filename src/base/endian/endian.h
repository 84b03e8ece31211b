/* SPDX-License-Identifier: Apache-2.0 */
/* endian: integers in bytes. Layer: base.
 *
 * Little-endian for records and frames, big-endian for keys (so that their order as bytes is their
 * order as numbers). Pointers need no alignment. */
#ifndef BASE_ENDIAN_ENDIAN_H
#define BASE_ENDIAN_ENDIAN_H

#include <stdint.h>
#include <string.h>

static inline void endian_put_u16_le(uint8_t *target, uint16_t value)
{
    memcpy(target, &value, sizeof value);
}
static inline void endian_put_u32_le(uint8_t *target, uint32_t value)
{
    memcpy(target, &value, sizeof value);
}
static inline void endian_put_u64_le(uint8_t *target, uint64_t value)
{
    memcpy(target, &value, sizeof value);
}
static inline uint16_t endian_get_u16_le(const uint8_t *source)
{
    uint16_t value;
    memcpy(&value, source, sizeof value);
    return value;
}
static inline uint32_t endian_get_u32_le(const uint8_t *source)
{
    uint32_t value;
    memcpy(&value, source, sizeof value);
    return value;
}
static inline uint64_t endian_get_u64_le(const uint8_t *source)
{
    uint64_t value;
    memcpy(&value, source, sizeof value);
    return value;
}

static inline void endian_put_u16_be(uint8_t *target, uint16_t value)
{
    endian_put_u16_le(target, __builtin_bswap16(value));
}
static inline void endian_put_u32_be(uint8_t *target, uint32_t value)
{
    endian_put_u32_le(target, __builtin_bswap32(value));
}
static inline void endian_put_u64_be(uint8_t *target, uint64_t value)
{
    endian_put_u64_le(target, __builtin_bswap64(value));
}
static inline uint16_t endian_get_u16_be(const uint8_t *source)
{
    return __builtin_bswap16(endian_get_u16_le(source));
}
static inline uint32_t endian_get_u32_be(const uint8_t *source)
{
    return __builtin_bswap32(endian_get_u32_le(source));
}
static inline uint64_t endian_get_u64_be(const uint8_t *source)
{
    return __builtin_bswap64(endian_get_u64_le(source));
}

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "tutti is built for little-endian machines");

#endif
