/* SPDX-License-Identifier: Apache-2.0 */
/* hash: XXH3 of byte strings (xxHash), and the CRC16 that maps keys to slots. Layer: base.
 *
 * XXH3's result is stable across machines and versions since 0.8.0, so it may be stored. It is not
 * for secrets. */
#ifndef BASE_HASH_HASH_H
#define BASE_HASH_HASH_H

#include <stdint.h>

#include "base/bytes/bytes.h"

uint64_t hash_bytes(struct bytes bytes, uint64_t seed);

/* CRC16-XMODEM, as in the Redis Cluster specification (appendix A). */
uint16_t hash_crc16(struct bytes bytes);

#endif
